"""From an experiment file to a checked plan, before any work starts and before anything is written."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.cells import Planner
from sweeps.context import Context
from sweeps.depths import DepthMaps, blocks_of
from sweeps.errors import InputError
from sweeps.experiment import Experiment, find_experiment, parse_experiment, read_experiment
from sweeps.guard import check_names, home
from sweeps.guidance_spec import check_guidance
from sweeps.model_places import with_places
from sweeps.probes import Probe, open_probe
from sweeps.read_space import read_space
from sweeps.recordings import describe
from sweeps.recordings.facts import RecordingFacts
from sweeps.scores import SCORES, cell_columns, score_key, trial_columns
from sweeps.search import make_proposer
from sweeps.space import Choice, Configuration, Space, points
from sweeps.splits import split_groups
from sweeps.storage import Store

FEWEST_SCENES = 24
DEFAULT_CACHE = "~/.cache/cortex-sweeps"


@dataclass(frozen=True)
class Plan:
    """A checked experiment: what it reads, what it may try, where its rows go.

    `chosen`: these configurations alone, in place of a search (see rescore); the stored experiment stays as it is.
    """

    experiment: Experiment
    source: str
    base: str
    facts: list[RecordingFacts]
    probes: dict[str, Probe]
    space: Space
    storage: str
    cache: str
    digest: str
    chosen: tuple[Configuration, ...] | None = None

    @property
    def planner(self) -> Planner:
        """The planner of its cells."""
        return Planner(self.facts, self.experiment.split)

    @property
    def score_keys(self) -> dict[str, str]:
        """The key of every score there is, under this experiment's probes."""
        prints = {kind: probe.fingerprint for kind, probe in self.probes.items()}
        return {name: score_key(name, prints) for name in SCORES}

    def context(self) -> Context:
        """What every pack needs to know."""
        return Context(
            sweep=self.experiment.name,
            storage=self.storage,
            recordings=self.experiment.recordings,
            fingerprints={facts.name: facts.fingerprint for facts in self.facts},
            probes={kind: value for kind, value in self.experiment.probes.items() if value is not None},
            base=self.base,
            split=self.experiment.split.model_dump(),
            scores=list(self.experiment.scores),
            score_keys=self.score_keys,
            depths=self._depths(),
            cache=self.cache,
            cache_gb=self.experiment.compute.cache_gb,
            fits_gb=self.experiment.compute.fits_gb,
            digest=self.digest,
            commit=commit(),
            halving=halving.model_dump() if (halving := self.experiment.search.halving) else {},
        )

    def _depths(self) -> dict[str, list[int]]:
        """Blocks of each frozen backbone that may be read, simulated truths included."""
        depths: dict[str, set[int]] = {}
        for choice in self.space.backbones:
            for backbone in points((choice,)) if not choice.component.trained else ():
                listed = (each for area in self.space.areas for each in self.space.depth_values(area, backbone))
                depths.setdefault(choice.name, set()).update(block for each in listed for block in blocks_of(each))
        for facts in self.facts:
            if facts.truth:
                teacher = facts.notes["teacher"]["backbone"]
                depths.setdefault(teacher, set()).update(range(BACKBONES[teacher].block_count({})))
        return {name: sorted(held) for name, held in depths.items()}

    def columns(self) -> dict[str, list[str]]:
        """Columns of the tables that this experiment writes, known before the first row."""
        config = ["config.backbone", "config.readout", "config.seed"]
        for family, choices in (("backbone", self.space.backbones), ("readout", self.space.readouts)):
            config += [f"config.{family}.{key}" for choice in choices for key in choice.domains]
        config += [f"config.{what}.{area}" for what in ("depth", "blocks") for area in self.space.areas]
        scores = cell_columns(self.experiment.scores)
        places = [f"cell.{f.name}.{area}" for f in self.facts for area in f.areas if area in self.space.areas]
        trials = [*config, *places, *scores, *trial_columns(self.experiment.scores)]
        return {"trials": trials, "cells": [*config, *scores]}

    def cell_count(self) -> int | None:
        """Number of distinct cells of a grid, or None when the space is continuous."""
        if self.space.continuous():
            return None
        total = 0
        places = [area for facts in self.facts for area in facts.areas if area in self.space.areas]
        for backbone in points(self.space.backbones):
            readouts = sum(1 for _ in points(self.space.readouts_for(backbone)))
            if BACKBONES[backbone["name"]].trained:
                fits = self.space.depth_count(backbone) * len(places)
            else:
                fits = sum(len(self.space.depth_values(area, backbone)) for area in places)
            total += readouts * len(self.space.seeds) * fits
        return total


def make_plan(
    experiment: str | Path | Mapping[str, Any],
    data: str | None = None,
    storage: str | None = None,
    cache: str | None = None,
) -> Plan:
    """Read and check everything; raises InputError, and writes nothing.

    `experiment` is a file, the name of a shipped experiment, or a mapping. Relative paths of recordings are below
    `data`, else beside the file (a mapping: the current folder).
    """
    digest = check_names()
    held, source, base = _read(experiment, data)
    held = with_places(held, base)
    try:
        facts = describe(held.recordings, base)
        areas = list(dict.fromkeys(area for each in facts for area in each.areas))
        space = read_space(held.space, areas)
        probes = {kind: open_probe(kind, value, base) for kind, value in held.probes.items() if value is not None}
        _check_probes(probes)
        _check_backbones(space, facts)
        _check_recorded(space, facts)
        _check_splits(held, facts)
        _check_contrasts(held, space)
        _check_halving(held, space)
        check_guidance(held.guidance, space.areas)
        make_proposer(space, held.search)
    except InputError as error:
        error.file = error.file or source
        raise
    place = storage or held.storage or f"results/{held.name}"
    try:
        Store(place).check_writable()
    except InputError as error:
        error.file, error.key, error.value = None if storage else source, "storage", place
        raise
    return Plan(
        experiment=held,
        source=source,
        base=base,
        facts=facts,
        probes=probes,
        space=space,
        storage=place if "://" in place else str(Path(place).expanduser().resolve()),
        cache=cache or held.compute.cache or DEFAULT_CACHE,
        digest=digest,
    )


def _read(experiment: str | Path | Mapping[str, Any], data: str | None) -> tuple[Experiment, str, str]:
    if isinstance(experiment, Mapping):
        return parse_experiment(dict(experiment)), "experiment", _base(data, Path.cwd())
    path = find_experiment(str(experiment))
    return read_experiment(path), str(path), _base(data, path.resolve().parent)


def _base(data: str | None, beside: Path) -> str:
    if data is None:
        return str(beside)
    return data if "://" in data else str(Path(data).expanduser().resolve())


def _check_probes(probes: Mapping[str, Probe]) -> None:
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


def _check_halving(experiment: Experiment, space: Space) -> None:
    """Refuse halving where nothing is fitted by descent: it would end nothing."""
    if experiment.search.halving and not any(each.component.fitted_by == "gradient" for each in space.readouts):
        raise InputError(
            "halving ends fits by gradient descent, and no readout of the space is fitted so: leave it out, or add "
            + ", ".join(name for name, each in READOUTS.items() if each.fitted_by == "gradient"),
            key="search.halving",
            value=experiment.search.halving.model_dump(),
        )


def _check_backbones(space: Space, facts: list[RecordingFacts]) -> None:
    """Refuse backbones that cannot be shown what a recording has."""
    for choice in space.backbones:
        for each in facts:
            if choice.component.sees == "features":
                _check_sets(choice, each)
            elif not _shows(each)[choice.component.sees]:
                seen = [sees for sees, there in _shows(each).items() if there]
                only = "only the backbone `features` can be used with it" if seen == ["features"] else ""
                raise InputError(
                    f"recording {each.name} has no {LACKS[choice.component.sees]}: "
                    + (only or f"backbones that see {' or '.join(seen)} can be used with it"),
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


def _check_recorded(space: Space, facts: list[RecordingFacts]) -> None:
    """Refuse what needs behaviour or gaze that no recording has, or coordinates that one of them lacks."""
    families = (("backbone", space.backbones), ("readout", space.readouts))
    asked = ((family, choice, key) for family, choices in families for choice in choices for key in choice.domains)
    for family, choice, key in asked:
        value, needed = RECORDED.get((family, key), (None, ""))
        if not needed or value not in getattr(choice.domains[key], "values", ()):
            continue
        lacking = [each.name for each in facts if not getattr(each, needed)]
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


def _check_splits(experiment: Experiment, facts: list[RecordingFacts]) -> None:
    split = experiment.split
    if split.report + split.select >= 1:
        raise InputError("report and select must leave stimuli to train on", key="split.select", value=split.select)
    for each in facts:
        groups = np.arange(each.stimuli) % each.groups
        try:
            split_groups(groups, split.report, split.select, split.seed, 0)
        except InputError as error:
            error.key = f"recordings.{each.name}.{error.key}" if error.key == "group" else error.key
            raise


def _check_contrasts(experiment: Experiment, space: Space) -> None:
    """Refuse a contrast of an area, or of a setting, that no cell of this space has."""
    settings = {"backbone", "readout", "seed"} | {
        f"{what}.{area}" for what in ("depth", "blocks") for area in space.areas
    }
    for family, choices in (("backbone", space.backbones), ("readout", space.readouts)):
        settings |= {f"{family}.{key}" for choice in choices for key in choice.domains}
    if experiment.contrasts and "prediction" not in experiment.scores:
        raise InputError("contrasts compare predictions", key="scores", value=experiment.scores, allowed=["prediction"])
    for index, contrast in enumerate(experiment.contrasts):
        key = f"contrasts.{index}"
        if contrast.area not in space.areas:
            raise InputError("no such area", key=f"{key}.area", value=contrast.area, allowed=space.areas)
        for name, side in (("left", contrast.left), ("right", contrast.right)):
            maps = space.depths.maps if isinstance(space.depths, DepthMaps) else {}
            if side.map is not None and side.map not in maps:
                raise InputError("no such map", key=f"{key}.{name}.map", value=side.map, allowed=maps or ("(none)",))
            for setting in side.where:
                if setting not in settings:
                    raise InputError("no such setting", key=f"{key}.{name}.where.{setting}", allowed=sorted(settings))


@functools.cache
def commit() -> str:
    """The commit of the checkout that this code lies in, or nothing."""
    if not (home() / ".git").exists():
        return ""
    found = subprocess.run(["git", "-C", str(home()), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()
