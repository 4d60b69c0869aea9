"""What an adaptive search remembers: the best and the newest of any number of finished trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical

Scores = Mapping[str, float]

SEEN = 256
"""Finished trials that a search goes on from: a quarter of them the best, the others the newest.

Optuna's time to ask, and its memory, grow with the trials that it holds: see benchmarks/asking.py. Its tree-structured
Parzen estimator takes at most the 25 best as good, and the weight of the others falls with their age.
"""


class Memory:
    """The scores of distinct configurations; of more than twice `seen` only so many are kept."""

    def __init__(self, objectives: Sequence[str], seen: int = SEEN) -> None:
        self.objectives = list(objectives)
        self.seen = seen
        self.count = 0
        self.scored = 0
        self.numbered: set[str] = set()
        self._held: dict[str, tuple[Configuration, Scores]] = {}

    def add(self, configuration: Configuration, scores: Scores | None) -> None:
        """Take up a finished trial; one that failed (None) is only counted."""
        self.count += 1
        if scores is None:
            return
        self.scored += 1
        self.numbered |= {name for name in self.objectives if not math.isnan(scores.get(name, math.nan))}
        key = canonical(configuration)
        self._held.pop(key, None)  # the newest come last
        self._held[key] = (configuration, scores)
        if len(self._held) > 2 * self.seen:
            self.thin()

    def __iter__(self) -> Iterator[tuple[Configuration, Scores]]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def thin(self) -> None:
        """Forget all but the best and the newest."""
        if len(self._held) <= self.seen:
            return
        names = [name for name in self.objectives if name in self.numbered]
        values = np.array([[scores.get(name, np.nan) for name in names] for _, scores in self], dtype=float)
        kept = np.zeros(len(values), dtype=bool)
        kept[best(values, self.seen // 4)] = True
        older = np.flatnonzero(~kept)[: len(values) - self.seen]
        kept |= ~np.isin(np.arange(len(values)), older)
        self._held = {key: pair for (key, pair), stays in zip(self._held.items(), kept, strict=True) if stays}


def best(values: np.ndarray, count: int) -> np.ndarray:
    """Rows (at most `count`) of `values` (trials, objectives) that are best, more being better, as sorted indices.

    Front by front: first the rows that no other row equals or exceeds in every objective and exceeds in one, then those
    of the rest, and so on. Of the last front that does not fit, the ends of every objective and then the least crowded
    (Deb et al. 2002, NSGA-II). Rows with a NaN are never among them.
    """
    left = np.flatnonzero(np.isfinite(values).all(axis=1))
    chosen: list[int] = []
    while len(chosen) < count and len(left):
        front = left[~_beaten(values[left])]
        room = count - len(chosen)
        if len(front) > room:
            front = front[np.argsort(-_spacing(values[front]), kind="stable")[:room]]
        chosen += front.tolist()
        left = np.setdiff1d(left, front)
    return np.array(sorted(chosen), dtype=int)


def _beaten(values: np.ndarray) -> np.ndarray:
    """Mask of the rows that some other row beats."""
    others, own = values[None], values[:, None]
    above = np.all(others >= own, axis=2) & np.any(others > own, axis=2)
    return np.asarray(np.any(above, axis=1))


def _spacing(values: np.ndarray) -> np.ndarray:
    """Crowding distance of every row of a front: the sum over objectives of the gap between its neighbours."""
    total = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        gaps = np.full(len(column), np.inf)
        gaps[1:-1] = (column[order][2:] - column[order][:-2]) / (np.ptp(column) or 1.0)
        total[order] += gaps
    return total
