"""From an experiment file to a checked plan, before any work starts and before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.backbones import BACKBONES
from models.registry import Plugin
from sweeps.errors import InputError
from sweeps.experiment.cells import Planner
from sweeps.experiment.depths import blocks_of
from sweeps.experiment.guidance import check_guidance
from sweeps.experiment.model_paths import with_places
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.plugins import add_import_paths, plugins_of
from sweeps.experiment.schema import (
    SHIPPED,
    Experiment,
    check_scores,
    find_experiment,
    parse_experiment,
    read_experiment,
)
from sweeps.experiment.space import Configuration, Space
from sweeps.experiment.worker_context import WorkerContext
from sweeps.io.filesystem import store_settings, uses_s3
from sweeps.io.guards.secrets import refuse_secrets_within
from sweeps.io.guards.urls import check_folder, check_url
from sweeps.io.import_guard import check_names
from sweeps.planning.checks import (
    basis_of,
    check_backbones,
    check_contrasts,
    check_halving,
    check_losses,
    check_objectives,
    check_orders,
    check_probes,
    check_recorded,
    check_splits,
    with_ood,
)
from sweeps.planning.packs import count_text
from sweeps.probes import Probe, open_probe
from sweeps.recordings import describe
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_groups import shared_groups
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.split_rows import folds_of
from sweeps.scores import SCORES, cell_columns, in_order, score_key, trial_columns
from sweeps.search.methods import make_proposer
from sweeps.storage.provenance import commit
from sweeps.storage.store import Store

DEFAULT_CACHE = "~/.cache/cortex-sweeps"

MANY_TRIALS = 10**6
"""A larger grid is warned of."""

MEETINGS = 3
"""Random trials for every cell of a place: exp(-3), 5 % of the cells, are then in none of them."""


@dataclass(frozen=True)
class Plan:
    """A checked experiment: what it reads, what it may try, where its rows go.

    `plugins` come from outside this project, and may lie in `import_paths`. `chosen`: these configurations alone, in
    place of a search (see rescore); the stored experiment stays as it is. `shared`: groups by which recordings that
    show the same are split together. `notices` say what was changed in the experiment. `shared_cache`: other users may
    write into the cache.
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
    plugins: tuple[Plugin, ...] = ()
    import_paths: tuple[str, ...] = ()
    chosen: tuple[Configuration, ...] | None = None
    shared: Mapping[str, SharedGroups] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    shared_cache: bool = False

    @property
    def planner(self) -> Planner:
        """The planner of its cells."""
        return Planner(self.facts, self.experiment.split, self.shared)

    @property
    def score_keys(self) -> dict[str, str]:
        """The key of every score there is, under this experiment's probes."""
        prints = {kind: probe.fingerprint for kind, probe in self.probes.items()}
        return {name: score_key(name, prints) for name in in_order([*SCORES, *self.experiment.scores])}

    def context(self) -> WorkerContext:
        """What every pack needs to know."""
        return WorkerContext(
            experiment=self.experiment.model_dump(mode="json"),
            base=self.base,
            storage=self.storage,
            cache=self.cache,
            fingerprints={recording.name: recording.fingerprint for recording in self.facts},
            score_keys=self.score_keys,
            depths=self._depths(),
            digest=self.digest,
            commit=commit(),
            plugins=[str(plugin) for plugin in self.plugins],
            import_paths=list(self.import_paths) if self.plugins else [],
            shared={name: [list(groups.strata), groups.places] for name, groups in self.shared.items()},
            splits={recording.name: self.planner.split_text(recording.name) for recording in self.facts},
            shared_cache=self.shared_cache,
            store=store_settings() if uses_s3([self.storage, self.base, self.experiment.model_dump()]) else {},
        )

    def _depths(self) -> dict[str, list[int]]:
        """Blocks of each frozen backbone that may be read, simulated truths included."""
        depths: dict[str, set[int]] = {}
        for name, blocks in self.space.backbone_counts():
            if not BACKBONES[name].trained:
                values = (depth for area in self.space.areas for depth in self.space.depths.values(area, blocks))
                depths.setdefault(name, set()).update(block for depth in values for block in blocks_of(depth))
        for recording in self.facts:
            if recording.truth:
                teacher = recording.notes["teacher"]["backbone"]
                depths.setdefault(teacher, set()).update(range(BACKBONES[teacher].block_count({})))
        return {name: sorted(blocks) for name, blocks in depths.items()}

    def columns(self) -> dict[str, list[str]]:
        """Columns of the tables that this experiment writes, known before the first row."""
        config = ["config.backbone", "config.readout", "config.seed"]
        for family, choices in (("backbone", self.space.backbones), ("readout", self.space.readouts)):
            config += [f"config.{family}.{key}" for choice in choices for key in choice.domains]
        config += [f"config.{what}.{area}" for what in ("depth", "blocks") for area in self.space.areas]
        scores = cell_columns(self.experiment.scores)
        places = [f"cell.{f.name}.{area}" for f in self.facts for area in f.areas if area in self.space.areas]
        trials = [*config, *places, *scores, *trial_columns(self.experiment.scores)]
        folded: dict[str, list[str]] = {"folds": []} if self._has_folds() else {}
        return {"trials": trials, "cells": [*config, *scores], **folded}

    def _has_folds(self) -> bool:
        """Whether outer folds take the report set's place in a recording."""
        split, seed = self.experiment.split, self.space.seeds[0]
        bases = [(basis_of(recording), self.shared.get(recording.name)) for recording in self.facts]
        return any(len(folds_of(basis, split, seed, shared)) > 1 for basis, shared in bases)

    def cell_count(self) -> int | None:
        """Number of distinct cells of a grid, by products, or None when the space is continuous."""
        return None if self.space.continuous() else sum(self._cells_by_place().values())

    def _cells_by_place(self) -> dict[tuple[str, str], int]:
        """Cells of a grid by recording and area."""
        read = [(facts.name, area) for facts in self.facts for area in facts.areas if area in self.space.areas]
        cells = dict.fromkeys(read, 0)
        for (name, blocks), backbones in self.space.backbone_counts().items():
            several = backbones * self.space.readout_count(name) * len(self.space.seeds)
            maps = self.space.depths.count(blocks) if BACKBONES[name].trained else 0
            depths = {area: maps or len(self.space.depths.values(area, blocks)) for area in self.space.areas}
            for recording, area in read:
                cells[recording, area] += several * depths[area]
        return cells

    def large_grid(self) -> tuple[str, ...]:
        """A warning for a grid of more than MANY_TRIALS: how many random trials would fit nearly all of its cells."""
        size = None if self.experiment.search.trials else self.space.size()
        if size is None or size <= MANY_TRIALS or self.chosen is not None:
            return ()
        cells = self._cells_by_place().values()
        trials = MEETINGS * max(cells)
        grid = f"a grid of {count_text(size)} trials over {count_text(sum(cells))} distinct cells"
        if trials > min(size // 10, MANY_TRIALS):
            return (f"{grid}: `search: {{method: random, trials: ...}}` tries as many as there is time for",)
        random = f"`search: {{method: random, trials: {trials}}}`"
        return (f"{grid}: {random} would fit some 95% of the same cells",)


def make_plan(
    experiment: Experiment | str | Path | Mapping[str, Any],
    data: str | None = None,
    storage: str | None = None,
    cache: str | None = None,
) -> Plan:
    """Read and check everything; raises InputError, and writes nothing.

    `experiment` is one that was read already, a file, the name of a shipped experiment, or a mapping. Relative paths of
    recordings are below `data`, else beside the file (without one: the current folder).
    """
    digest = check_names()
    import_paths = _import_paths(experiment)
    add_import_paths(import_paths)
    checked, source, base = _read(experiment, data)
    notices: tuple[str, ...] = ()
    _refuse_secrets(checked, source, {"--data": data, "--storage": storage, "--cache": cache})
    checked = with_places(checked, base)
    try:
        facts, space, probes, shared = _read_parts(checked, base)
        if not isinstance(experiment, Experiment):  # one that was run already keeps its objectives
            checked, notices = check_objectives(checked, facts)
        plugins = plugins_of(checked, space)
    except InputError as error:
        error.file = error.file or source
        raise
    plan = Plan(
        experiment=with_ood(checked, facts),
        source=source,
        base=base,
        facts=facts,
        probes=probes,
        space=space,
        storage=_storage_place(checked, source, storage),
        cache=_cache_place(checked, source, cache),
        digest=digest,
        plugins=plugins,
        import_paths=import_paths,
        shared=shared,
        notices=notices,
    )
    return replace(plan, notices=(*notices, *plan.large_grid()))


def _refuse_secrets(experiment: Experiment, source: str, options: Mapping[str, str | None]) -> None:
    """Refuse credentials in a URL of the experiment or of the options, or in the endpoint of an S3 that they use."""
    refuse_secrets_within(options)
    refuse_secrets_within(experiment.model_dump(), source)
    if uses_s3([options, experiment.model_dump()]):
        store_settings()


def _read_parts(
    experiment: Experiment, base: str
) -> tuple[list[RecordingFacts], Space, dict[str, Probe], dict[str, SharedGroups]]:
    """Read recordings, space and probes, and refuse what does not go together."""
    facts = describe(experiment.recordings, base)
    areas = list(dict.fromkeys(area for recording in facts for area in recording.areas))
    space = read_space(experiment.space, areas)
    probes = {kind: open_probe(kind, value, base) for kind, value in experiment.probes.items() if value is not None}
    check_probes(probes)
    check_backbones(space, facts)
    check_recorded(space, facts)
    check_losses(space, facts)
    shared = shared_groups(facts)
    check_splits(experiment, facts, shared)
    check_contrasts(experiment, space)
    check_orders(experiment, facts)
    check_halving(experiment, space)
    check_guidance(experiment.guidance, space.areas)
    make_proposer(space, experiment.search)
    return facts, space, probes, shared


def _storage_place(experiment: Experiment, source: str, storage: str | None) -> str:
    """Where rows go: the given place, else the experiment's; InputError where it cannot be written."""
    place = storage or experiment.storage or f"results/{experiment.name}"
    try:
        Store(place).check_writable()
    except InputError as error:
        error.file, error.key, error.value = None if storage else source, "storage", place
        raise
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _cache_place(experiment: Experiment, source: str, cache: str | None) -> str:
    """The cache of every node: a relative folder is below the current one, as `storage` is; ~ is each node's own.

    Raises InputError for a URL: features are mapped from a disk of the node.
    """
    place = cache or experiment.compute.cache or DEFAULT_CACHE
    check_folder(place, "--cache" if cache else "compute.cache", None if cache else source)
    return place if place.startswith("~") else os.path.abspath(place)


def _import_paths(experiment: Experiment | str | Path | Mapping[str, Any]) -> tuple[str, ...]:
    """Folders in which modules of dotted paths may lie: that of the file, and the current one."""
    beside = [find_experiment(str(experiment)).resolve().parent] if isinstance(experiment, str | Path) else []
    return tuple(dict.fromkeys(str(folder) for folder in [*beside, Path.cwd()] if folder != SHIPPED))


def _read(experiment: Experiment | str | Path | Mapping[str, Any], data: str | None) -> tuple[Experiment, str, str]:
    if isinstance(experiment, Experiment):
        check_scores(experiment, "experiment")  # a file or a mapping is checked when it is parsed
        return experiment, "experiment", _base(data, Path.cwd())
    if isinstance(experiment, Mapping):
        return parse_experiment(dict(experiment)), "experiment", _base(data, Path.cwd())
    path = find_experiment(str(experiment))
    return read_experiment(path), str(path), _base(data, path.resolve().parent)


def _base(data: str | None, beside: Path) -> str:
    if data is None:
        return str(beside)
    try:
        check_url(data)
    except InputError as error:
        error.file, error.key, error.value = None, "--data", data
        raise
    return data if "://" in data else str(Path(data).expanduser().resolve())
