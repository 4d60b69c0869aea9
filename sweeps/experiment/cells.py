"""Cells and packs: what trials share, and what Ray Tune schedules as one of its trials."""

from __future__ import annotations

import base64
import json
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.depths import blocks_of, plain, resolve
from sweeps.experiment import Split
from sweeps.identity import canonical, content_id
from sweeps.recordings.facts import RecordingFacts
from sweeps.space import Configuration


@dataclass(frozen=True)
class Cell:
    """One (recording, area) readout of one block, or of several that are read together.

    `blocks` are in rising order, `depth` is the deepest. `backbone` and `readout` are resolved ({name, parameters});
    `twin` is empty for frozen backbones and otherwise the depth of every area of the twin that is trained together,
    as the configuration has it.
    """

    cell_id: str
    recording: str
    area: str
    blocks: tuple[int, ...]
    backbone: dict[str, Any]
    readout: dict[str, Any]
    seed: int
    twin: dict[str, Any]

    @property
    def depth(self) -> int:
        """The deepest block that is read."""
        return self.blocks[-1]

    def configuration(self) -> Configuration:
        """The part of a trial's configuration that decides this cell."""
        return {
            "backbone": self.backbone,
            "depth": self.twin or {self.area: plain(resolve(self.blocks, 0))},
            "readout": self.readout,
            "seed": self.seed,
        }

    def random_seed(self) -> int:
        """Seed of the random draws in this cell's scores."""
        return int(self.cell_id[:12], 16)

    def together(self) -> str:
        """Cells with the same text are fitted in one go: one cell, or a whole trained twin."""
        if not self.twin:
            return self.cell_id
        return canonical([self.backbone, self.readout, self.seed, self.twin])

    def network_key(self) -> str:
        """Equal for cells that read the same network."""
        component = BACKBONES[self.backbone["name"]]
        seed = component.seed_in_use(self.backbone, self.seed)
        return canonical([component.identity(self.backbone), seed, self.twin])

    def data(self) -> str:
        """Cells with the same text share recording and features, or are of twins that may be trained as a stack."""
        if self.twin:
            return canonical([self.backbone["name"], self.readout["name"]])
        seed = BACKBONES[self.backbone["name"]].seed_in_use(self.backbone, self.seed)
        return canonical([self.recording, self.backbone, seed, self.readout["name"]])


@dataclass(frozen=True)
class Pack:
    """Cells that one Tune trial fits, in order.

    `attempt` counts how often its cells were tried before, earlier runs included; `deaths` how many processes
    died of them in this run since they were last parted. A `suspect` one lost its process when a node was short of
    memory. `earlier` holds, by cell, what finished rows of them that lack a score already have (see Known.earlier).
    """

    cells: tuple[Cell, ...]
    attempt: int = 0
    deaths: int = 0
    suspect: bool = False
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_config(self) -> str:
        """A short text for Tune, which keeps those of all packs: 256 cells of one readout take some 6 kB."""
        held = {"attempt": self.attempt, "earlier": self.earlier, "cells": [vars(cell) for cell in self.cells]}
        return base64.b85encode(zlib.compress(json.dumps(held).encode())).decode()

    @classmethod
    def from_config(cls, config: str) -> Pack:
        """The inverse of `as_config`."""
        held = json.loads(zlib.decompress(base64.b85decode(config)))
        cells = tuple(Cell(**{**cell, "blocks": tuple(cell["blocks"])}) for cell in held["cells"])
        return cls(cells, held["attempt"], earlier=held["earlier"])

    def halves(self) -> tuple[Pack, Pack]:
        """Two packs of the next attempt; twins that are trained together stay together."""
        jobs = jobs_of(self.cells)
        middle = len(jobs) // 2
        return self._half(jobs[:middle]), self._half(jobs[middle:])

    def _half(self, jobs: Sequence[Sequence[Cell]]) -> Pack:
        cells = tuple(cell for job in jobs for cell in job)
        return replace(self, cells=cells, attempt=self.attempt + 1, deaths=1 if len(jobs) > 1 else 0)

    def __str__(self) -> str:
        first = self.cells[0]
        places = sorted({cell.recording for cell in self.cells})
        return f"{first.backbone['name']} -> {', '.join(places)}: {len(self.cells)} cells"


def jobs_of(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells in groups that are fitted in one go."""
    jobs: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        jobs[cell.together()].append(cell)
    return list(jobs.values())


def components_of(backbone: Mapping[str, Any], readout: Mapping[str, Any]) -> str:
    """Names and VERSIONs of what a cell is made with, as a column."""
    names = (backbone["name"], readout["name"])
    versions = (BACKBONES[names[0]].version, READOUTS[names[1]].version)
    return " ".join(f"{name}@{version}" for name, version in zip(names, versions, strict=True))


class Planner:
    """Turns configurations into cells; two configurations that mean the same give the same ids."""

    def __init__(self, facts: Sequence[RecordingFacts], split: Split) -> None:
        self.facts = facts
        self.split = split.model_dump()

    def cells(self, configuration: Configuration) -> list[Cell]:
        """The cells of a configuration, one per (recording, area) that it reads."""
        return [
            self._cell(facts, area, configuration)
            for facts in self.facts
            for area in facts.areas
            if area in configuration["depth"]
        ]

    def _cell(self, facts: RecordingFacts, area: str, configuration: Configuration) -> Cell:
        backbone, readout = configuration["backbone"], configuration["readout"]
        component = BACKBONES[backbone["name"]]
        twin = dict(configuration["depth"]) if component.trained else {}
        identity = {
            "recording": facts.fingerprint,
            "area": area,
            "depth": configuration["depth"][area],
            "backbone": component.identity(backbone),
            "readout": READOUTS[readout["name"]].identity(readout),
            "seed": configuration["seed"],
            "split": self.split,
            "twin": [twin, [each.fingerprint for each in self.facts]] if twin else [],
        }
        blocks = blocks_of(configuration["depth"][area])
        return Cell(content_id(identity), facts.name, area, blocks, backbone, readout, configuration["seed"], twin)

    def fingerprint(self, recording: str) -> str:
        """The data fingerprint of a recording."""
        return next(facts.fingerprint for facts in self.facts if facts.name == recording)

    @staticmethod
    def trial_id(cells: Sequence[Cell]) -> str:
        """Identity of a trial: the cells that it joins."""
        return content_id(sorted([cell.recording, cell.area, cell.cell_id] for cell in cells))


def form_packs(cells: Iterable[Cell], size: Callable[[int], int], attempt: int = 0) -> list[Pack]:
    """Packs of cells that share data, ordered so that shared decompositions lie together.

    A pack holds at most `size` cells, a function of the number of cells that are left to pack, or one job. Packs of
    different data alternate, so that workers do not wait for each other's features.
    """
    by_data: dict[str, list[list[Cell]]] = defaultdict(list)
    for job in jobs_of(cells):
        by_data[job[0].data()].append(job)
    queues = [deque(sorted(jobs, key=_order)) for jobs in by_data.values()]
    queues.sort(key=len, reverse=True)
    left = sum(len(job) for queue in queues for job in queue)
    packs: list[Pack] = []
    while queues:
        for queue in queues:
            packs.append(Pack(_cut(queue, size(left)), attempt))
            left -= len(packs[-1].cells)
        queues = [queue for queue in queues if queue]
    return packs


def _order(job: Sequence[Cell]) -> tuple[Any, ...]:
    return job[0].blocks[::-1], job[0].seed, job[0].area, canonical(job[0].readout)


def _cut(jobs: deque[list[Cell]], size: int) -> tuple[Cell, ...]:
    """Take the next pack off."""
    taken = list(jobs.popleft())
    while jobs and len(taken) + len(jobs[0]) <= size:
        taken.extend(jobs.popleft())
    return tuple(taken)
