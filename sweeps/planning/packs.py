"""Packs: cells that one Tune trial fits, and how many of them."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sweeps.errors import escaped
from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import EarlierScores
from sweeps.hashing import canonical


@dataclass(frozen=True)
class Pack:
    """Cells that one Tune trial fits, in order.

    `attempt` counts how often its cells were tried before, earlier runs included; `failures` how many processes
    failed at them in this run since they were last parted. A `suspect` one lost its process when a node was short of
    memory. `losses` counts the processes that it lost to its environment since it last finished a cell, and `since` is
    when (time.monotonic) a store or a disk first kept it from that; neither is a failure. `earlier` gives, by cell_id,
    what earlier rows of its cells hold.
    """

    cells: tuple[Cell, ...]
    attempt: int = 0
    failures: int = 0
    suspect: bool = False
    losses: int = 0
    since: float | None = None
    earlier: dict[str, EarlierScores] = field(default_factory=dict)

    def as_config(self) -> str:
        """Write a short text for Tune, which keeps those of all packs: 256 cells of one readout take some 6 kB."""
        earlier = {cell_id: asdict(scores) for cell_id, scores in self.earlier.items()}
        fields = {"attempt": self.attempt, "earlier": earlier, "cells": [vars(cell) for cell in self.cells]}
        return base64.b85encode(zlib.compress(json.dumps(fields).encode())).decode()

    @classmethod
    def from_config(cls, config: str) -> Pack:
        """Read what `as_config` has written."""
        fields = json.loads(zlib.decompress(base64.b85decode(config)))
        cells = tuple(Cell(**{**cell, "blocks": tuple(cell["blocks"])}) for cell in fields["cells"])
        earlier = {cell_id: EarlierScores.from_json(scores) for cell_id, scores in fields["earlier"].items()}
        return cls(cells, fields["attempt"], earlier=earlier)

    def halves(self) -> tuple[Pack, Pack]:
        """Cut it into two packs of the next attempt; twins that are trained together stay together."""
        jobs = jobs_of(self.cells)
        middle = len(jobs) // 2
        return self._half(jobs[:middle]), self._half(jobs[middle:])

    def parted(self) -> list[Pack]:
        """Cut it into two packs of the same attempt, or give it whole where its cells are fitted in one go."""
        jobs = jobs_of(self.cells)
        parts = (jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :])
        return [replace(self, cells=tuple(cell for job in part for cell in job)) for part in parts if part]

    def _half(self, jobs: Sequence[Sequence[Cell]]) -> Pack:
        cells = tuple(cell for job in jobs for cell in job)
        return replace(self, cells=cells, attempt=self.attempt + 1, failures=1 if len(jobs) > 1 else 0)

    def __str__(self) -> str:
        first = self.cells[0]
        places = sorted({cell.recording for cell in self.cells})
        return escaped(f"{first.backbone['name']} -> {', '.join(places)}: {len(self.cells)} cells")


def jobs_of(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells by what is fitted in one go."""
    jobs: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        jobs[cell.together()].append(cell)
    return list(jobs.values())


def form_packs(cells: Iterable[Cell], size: Callable[[int], int], attempt: int = 0) -> list[Pack]:
    """Form packs of cells that share data, ordered so that shared decompositions lie together.

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


SHARE, FEWEST = 3, 2
"""A pack takes a third of a worker's share of the cells left, but two as long as every worker finds some."""


MOST_CELLS = 256


def pack_size(wanted: int | str, workers: int) -> Callable[[int], int]:
    """Make the function that gives the cells of the next pack by how many are left.

    Packs of one size leave workers idle at the end for as long as a pack takes; here the last ones are small (guided
    self-scheduling, Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987, with a third of a share).
    """
    if wanted != "auto":
        return lambda left: max(1, int(wanted))

    def size(left: int) -> int:
        third, whole = math.ceil(left / (SHARE * workers)), math.ceil(left / workers)
        return min(MOST_CELLS, max(third, min(FEWEST, whole)))

    return size


def count_text(count: int) -> str:
    """Write a count; of one with more than fifteen digits its size, since a space may have more points than atoms.

    >>> count_text(68), count_text(10**30), count_text(16**300)
    ('68', 'about 1.0e30', 'about 1.7e361')
    """
    if count < 10**15:
        return str(count)
    power = int(math.log10(count))
    tenths = count // 10 ** (power - 1)
    return f"about {tenths // 10}.{tenths % 10}e{power}"


def fewest_packs(cells: int) -> int:
    """Count the packs that so many cells are put in for one worker; more workers have more and smaller ones."""
    size = pack_size("auto", 1)
    packs = max(0, -((SHARE * MOST_CELLS - cells) // MOST_CELLS))  # full ones, as long as a third of the rest fills one
    cells -= packs * MOST_CELLS
    while cells > 0:
        cells -= size(cells)
        packs += 1
    return packs
