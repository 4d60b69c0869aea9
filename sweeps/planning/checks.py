"""What a plan refuses: demands that the recordings, probes or the space cannot meet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.depths import DepthMaps
from sweeps.experiment.domains import Choice
from sweeps.experiment.schema import Experiment, Side
from sweeps.experiment.space import Space
from sweeps.probes import Probe
from sweeps.recordings import published_sets
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.split_rows import SplitBasis, folds_of
from sweeps.scores import standard_scores

FEWEST_SCENES = 24


def check_probes(probes: Mapping[str, Probe]) -> None:
    """Refuse probes too small to be divided between select and report."""
    if "objects" in probes:
        table = probes["objects"].table
        for column, least in (("object", 4), ("transform", 2)):
            if table[column].nunique() < least:
                problem = f"too few to score: at least {least} different ones are needed"
                raise InputError(problem, key=f"probes.objects.{column}", value=int(table[column].nunique()))
    if "captions" in probes and len(probes["captions"]) < FEWEST_SCENES:
        problem = f"too few to score: at least {FEWEST_SCENES} captioned scenes are needed"
        raise InputError(problem, key="probes.captions", value=len(probes["captions"]))


def check_halving(experiment: Experiment, space: Space) -> None:
    """Refuse halving where nothing is fitted by descent: it would end nothing."""
    if experiment.search.halving and not any(choice.component.fitted_by == "gradient" for choice in space.readouts):
        raise InputError(
            "halving ends fits by gradient descent, and no readout of the space is fitted so: leave it out, or add "
            + ", ".join(name for name, readout in READOUTS.items() if readout.fitted_by == "gradient"),
            key="search.halving",
            value=experiment.search.halving.model_dump(),
        )


def check_backbones(space: Space, facts: list[RecordingFacts]) -> None:
    """Refuse backbones that cannot be shown what a recording has."""
    for choice in space.backbones:
        for recording in facts:
            if choice.component.sees == "features":
                _check_sets(choice, recording)
            elif not _shows(recording)[choice.component.sees]:
                raise _lacking(choice, recording)


def _lacking(choice: Choice, recording: RecordingFacts) -> InputError:
    shown = [kind for kind, there in _shows(recording).items() if there]
    only = "only the backbone `features` can be used with it" if shown == ["features"] else ""
    return InputError(
        f"recording {recording.name} has no {LACKS[choice.component.sees]}: "
        + (only or f"backbones that see {' or '.join(shown)} can be used with it"),
        key="space.backbone",
        value=choice.name,
    )


RECORDED = {
    ("backbone", "behaviour"): (True, "behaviour"),
    ("backbone", "gaze"): (True, "pupil"),
    ("readout", "position"): ("coordinates", "coordinates"),
    ("readout", "position_anchor"): ("coordinates", "coordinates"),
    ("readout", "loadings"): ("position", "coordinates"),
}
"""Parameters with a value that asks for more than stimuli and responses, and for what of a recording's facts."""


def check_recorded(space: Space, facts: list[RecordingFacts]) -> None:
    """Refuse what needs behaviour or gaze that no recording has, or coordinates that one of them lacks."""
    families = (("backbone", space.backbones), ("readout", space.readouts))
    parameters = ((family, choice, key) for family, choices in families for choice in choices for key in choice.domains)
    for family, choice, key in parameters:
        value, needed = RECORDED.get((family, key), (None, ""))
        if not needed or value not in getattr(choice.domains[key], "values", ()):
            continue
        lacking = [recording.name for recording in facts if not getattr(recording, needed)]
        if lacking if needed == "coordinates" else len(lacking) == len(facts):
            what = "coordinates of the units" if needed == "coordinates" else needed
            problem = f"needs {what}: there {'are' if needed == 'coordinates' else 'is'} none in {', '.join(lacking)}"
            raise InputError(problem, key=f"space.{family}.{choice.name}.{key}", value=value)


LACKS = {"images": "pictures", "clips": "clips", "texts": "texts (captions or words)"}


def _shows(facts: RecordingFacts) -> dict[str, bool]:
    """What a recording has for a backbone to see."""
    features = bool(facts.features) or not facts.pictures
    return {"images": facts.pictures, "clips": facts.clips > 0, "texts": facts.texts, "features": features}


def _check_sets(choice: Choice, facts: RecordingFacts) -> None:
    domain = choice.domains["set"]
    for name in getattr(domain, "values", ()):
        for part in str(name).split("+"):
            if part not in facts.features:
                raise InputError(
                    f"recording {facts.name} brings no such feature set",
                    key="space.backbone.features.set",
                    value=name,
                    allowed=facts.features or ("(none)",),
                )


def check_splits(experiment: Experiment, facts: list[RecordingFacts]) -> None:
    """Refuse a split that leaves no stimuli to train on, or too few groups of a recording."""
    split = experiment.split
    shares = [share for share in (split.report, split.select) if isinstance(share, float)]
    if sum(shares) >= 1:
        raise InputError("report and select must leave stimuli to train on", key="split.select", value=split.select)
    for recording in facts:
        try:
            folds_of(basis_of(recording), split, 0)
        except InputError as error:
            if error.value == "published":
                having = "; ".join(f"{name} ({what})" for name, what in published_sets().items())
                error.problem = f"{error.problem}. Formats whose data have one: {having}"
            error.key = f"recordings.{recording.name}.{error.key}" if error.key == "group" else error.key
            raise


def with_ood(experiment: Experiment, facts: list[RecordingFacts]) -> Experiment:
    """Take the score `ood` beside the standard ones where a recording holds stimuli of that role."""
    standard = set(standard_scores()) <= set(experiment.scores) and "ood" not in experiment.scores
    if not standard or not any("ood" in recording.roles for recording in facts):
        return experiment
    return experiment.model_copy(update={"scores": [*experiment.scores, "ood"]})


def basis_of(facts: RecordingFacts) -> SplitBasis:
    """What splits look at; of equal groups where the reader does not say more."""
    groups = np.arange(facts.stimuli) % facts.groups
    return facts.split_basis or SplitBasis(facts.name, groups.astype(str))


def check_contrasts(experiment: Experiment, space: Space) -> None:
    """Refuse a contrast of an area, or of a setting, that no cell of this space has."""
    if experiment.contrasts and "prediction" not in experiment.scores:
        raise InputError("contrasts compare predictions", key="scores", value=experiment.scores, allowed=["prediction"])
    for index, contrast in enumerate(experiment.contrasts):
        key = f"contrasts.{index}"
        if contrast.area not in space.areas:
            raise InputError("no such area", key=f"{key}.area", value=contrast.area, allowed=space.areas)
        for name, side in (("left", contrast.left), ("right", contrast.right)):
            _check_side(side, space, f"{key}.{name}")


def _check_side(side: Side, space: Space, key: str) -> None:
    maps = space.depths.maps if isinstance(space.depths, DepthMaps) else {}
    if side.map is not None and side.map not in maps:
        raise InputError("no such map", key=f"{key}.map", value=side.map, allowed=maps or ("(none)",))
    settings = _settings(space)
    for setting in side.where:
        if setting not in settings:
            raise InputError("no such setting", key=f"{key}.where.{setting}", allowed=sorted(settings))


def _settings(space: Space) -> set[str]:
    """Settings that cells of a space have, without the prefix of their columns."""
    settings = {"backbone", "readout", "seed"} | {
        f"{what}.{area}" for what in ("depth", "blocks") for area in space.areas
    }
    for family, choices in (("backbone", space.backbones), ("readout", space.readouts)):
        settings |= {f"{family}.{key}" for choice in choices for key in choice.domains}
    return settings
