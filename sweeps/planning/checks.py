"""What a plan refuses: demands that the recordings, probes or the space cannot meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from metrics.inference.area_order import area_ranks
from models.objectives.losses import LOSSES
from models.readouts import READOUTS
from sweeps.errors import InputError, listed
from sweeps.experiment.depths import DepthMaps
from sweeps.experiment.domains import Choice
from sweeps.experiment.schema import Experiment, Side
from sweeps.experiment.space import Space
from sweeps.planning.area_orders import FEWEST
from sweeps.probes import Probe
from sweeps.recordings import published_sets
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.split_rows import SplitBasis, folds_of
from sweeps.scores import SCORES, in_order, standard_scores
from sweeps.scores import objectives as possible_objectives

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
            problem = f"needs {what}: there {'are' if needed == 'coordinates' else 'is'} none in {listed(lacking)}"
            raise InputError(problem, key=f"space.{family}.{choice.name}.{key}", value=value)


def check_losses(space: Space, facts: list[RecordingFacts]) -> None:
    """Refuse losses and likelihoods that allow no negative responses where a recording has some."""
    for choice in space.readouts:
        single = choice.component.fitted_by == "latent"  # fitted to single trials, by likelihoods of counts alone
        key = "likelihood" if single else "loss"
        for value in getattr(choice.domains.get(key), "values", ()):
            if single or LOSSES[value].positive:
                _check_positive(space, facts, single, f"space.readout.{choice.name}.{key}", value)


def _check_positive(space: Space, facts: list[RecordingFacts], single: bool, key: str, value: str) -> None:
    for recording in facts:
        lowest = recording.lowest if single else recording.lowest_average
        for area in (area for area in space.areas if lowest.get(area, 0.0) < 0):
            problem = f"allows no negative responses, and those of {area} in the recording {recording.name} go down to"
            remedy = "fit a readout with another loss" if single else "use the loss gaussian or correlation"
            raise InputError(f"{problem} {lowest[area]:.3g}: {remedy}, or store counts or rates", key=key, value=value)


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


def check_splits(
    experiment: Experiment, facts: list[RecordingFacts], shared: Mapping[str, SharedGroups] = MappingProxyType({})
) -> None:
    """Refuse a split that leaves no stimuli to train on, or too few groups of a recording."""
    split = experiment.split
    shares = [share for share in (split.report, split.select) if isinstance(share, float)]
    if sum(shares) >= 1:
        raise InputError("report and select must leave stimuli to train on", key="split.select", value=split.select)
    for recording in facts:
        try:
            folds_of(basis_of(recording), split, 0, shared.get(recording.name))
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


def check_orders(experiment: Experiment, facts: Sequence[RecordingFacts]) -> None:
    """Refuse an order of an observable that has none, or that does not rank three areas of one recording."""
    observables = [name for score in in_order([*SCORES, *experiment.scores]) for name in SCORES[score].ordered]
    areas = list(dict.fromkeys(area for recording in facts for area in recording.areas))
    for observable, order in experiment.order.items():
        key = f"order.{observable}"
        if observable not in observables:
            raise InputError("no observable that areas are ordered by", key=key, allowed=observables)
        try:
            ranks = area_ranks(order)
        except ValueError as error:
            raise InputError(str(error), key=key, value=order) from None
        for area in ranks:
            if area not in areas:
                raise InputError("no such area", key=key, value=area, allowed=areas)
        if max(len(ranks.keys() & set(recording.areas)) for recording in facts) < FEWEST:
            problem = "must name three areas of one recording or more, since tau of two is -1 or 1"
            raise InputError(problem, key=key, value=order, allowed=areas)


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


def check_objectives(experiment: Experiment, facts: list[RecordingFacts]) -> tuple[Experiment, tuple[str, ...]]:
    """Refuse a named objective that every recording's facts make NaN; drop one that nobody named, with a notice.

    The next score of which more is better, and which is no such one, takes the place of all that are dropped.
    """
    search = experiment.search
    reasons = {name: reason for name in search.objectives if (reason := _nan_throughout(name, experiment, facts))}
    if not reasons:
        return experiment, ()
    if "objectives" in search.model_fields_set:
        name, reason = next(iter(reasons.items()))
        others = [
            column
            for column in possible_objectives(in_order(experiment.scores))
            if not _nan_throughout(column, experiment, facts)
        ]
        raise InputError(f"would be NaN throughout: {reason}", key="search.objectives", value=name, allowed=others)
    left = [name for name in search.objectives if name not in reasons]
    firsts = [
        f"select.{score.columns[0]}" for score in map(SCORES.__getitem__, in_order(experiment.scores)) if score.up
    ]
    able = left or [name for name in firsts if not _nan_throughout(name, experiment, facts)][:1]
    if not able:
        name, reason = next(iter(reasons.items()))
        raise InputError(
            f"every score of which more is better would be NaN throughout: {reason}", key="scores", value=name
        )
    changed = experiment.model_copy(update={"search": search.model_copy(update={"objectives": able})})
    return changed, tuple(
        f"objective {name} would be NaN throughout and was dropped: {reasons[name]}" for name in reasons
    )


def _nan_throughout(objective: str, experiment: Experiment, facts: list[RecordingFacts]) -> str:
    """Why an objective's score is NaN in every area of every recording; empty where it is not, or not known to be."""
    column = objective.partition(".")[2]
    owner = next((score for score in map(SCORES.__getitem__, experiment.scores) if column in score.columns), None)
    if owner is None:
        return ""
    gaps = [(recording, owner.gaps(recording)) for recording in facts]
    everywhere = all(len(reasons) == len(recording.areas) for recording, reasons in gaps)
    return next(iter(gaps[0][1].values())) if gaps and everywhere else ""
