"""The history of an adaptive search: the best and the newest of any number of finished trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical

Scores = Mapping[str, float]

MOST = 256
"""Finished trials that a search goes on from: a quarter of them the best, the others the newest.

The time that Optuna takes for a proposal, and its memory, grow with the trials in its study: see
benchmarks/asking.py. Its tree-structured Parzen estimator takes at most the 25 best as good, and the weight of the
others falls with their age.
"""


class History:
    """The scores of distinct configurations; once there are more than twice `most`, all but `most` are dropped."""

    def __init__(self, objectives: Sequence[str], most: int = MOST) -> None:
        self.objectives = list(objectives)
        self.most = most
        self.count = 0
        self.scored = 0
        self.numbered: set[str] = set()
        self.lowest: dict[str, float] = {}
        self.highest: dict[str, float] = {}
        self._trials: dict[str, tuple[Configuration, Scores | None]] = {}

    def add(self, configuration: Configuration, scores: Scores | None) -> None:
        """Add a finished trial; one that failed has no scores (None)."""
        self.count += 1
        if scores is not None:
            self.scored += 1
            self._note(scores)
        key = canonical(configuration)
        self._trials.pop(key, None)  # the newest come last
        self._trials[key] = (configuration, scores)
        if len(self._trials) > 2 * self.most:
            self.thin()

    def _note(self, scores: Scores) -> None:
        """Note which objectives are numbers, and between which they lie."""
        values = {name: float(scores.get(name, math.nan)) for name in self.objectives}
        self.numbered |= {name for name, value in values.items() if not math.isnan(value)}
        for name, value in values.items():
            if math.isfinite(value):
                self.lowest[name] = min(value, self.lowest.get(name, value))
                self.highest[name] = max(value, self.highest.get(name, value))

    def below(self, objective: str) -> float:
        """A value as far below the lowest of an objective as that is below the highest; -1 before there is any."""
        low, high = self.lowest.get(objective, 0.0), self.highest.get(objective, 0.0)
        return low - ((high - low) or 1.0)

    def __iter__(self) -> Iterator[tuple[Configuration, Scores | None]]:
        return iter(list(self._trials.values()))

    def __len__(self) -> int:
        return len(self._trials)

    def thin(self) -> None:
        """Forget all but the best and the newest."""
        if len(self._trials) <= self.most:
            return
        names = [name for name in self.objectives if name in self.numbered]
        values = np.array([[(scores or {}).get(name, np.nan) for name in names] for _, scores in self], dtype=float)
        stays = np.zeros(len(values), dtype=bool)
        stays[best(values, self.most // 4)] = True
        older = np.flatnonzero(~stays)[: len(values) - self.most]
        stays |= ~np.isin(np.arange(len(values)), older)
        self._trials = {key: trial for (key, trial), keep in zip(self._trials.items(), stays, strict=True) if keep}


def best(values: np.ndarray, count: int) -> np.ndarray:
    """Return the best rows (at most `count`) of `values` (trials, objectives), more being better, as sorted indices.

    Front by front: first the rows that no other row equals or exceeds in every objective and exceeds in one, then those
    of the rest, and so on. Of the last front that does not fit, the ends of every objective and then the least crowded
    (Deb et al. 2002, NSGA-II). Rows with a NaN are never among them.
    """
    left = np.flatnonzero(np.isfinite(values).all(axis=1))
    chosen: list[int] = []
    while len(chosen) < count and len(left):
        front = left[~_dominated(values[left])]
        room = count - len(chosen)
        if len(front) > room:
            front = front[np.argsort(-_crowding(values[front]), kind="stable")[:room]]
        chosen += front.tolist()
        left = np.setdiff1d(left, front)
    return np.array(sorted(chosen), dtype=int)


def _dominated(values: np.ndarray) -> np.ndarray:
    """Mark the rows that some other row dominates."""
    others, own = values[None], values[:, None]
    above = np.all(others >= own, axis=2) & np.any(others > own, axis=2)
    return np.asarray(np.any(above, axis=1))


def _crowding(values: np.ndarray) -> np.ndarray:
    """Return the crowding distance of every row of a front: the gap between its neighbours, summed over objectives."""
    total = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        gaps = np.full(len(column), np.inf)
        gaps[1:-1] = (column[order][2:] - column[order][:-2]) / (np.ptp(column) or 1.0)
        total[order] += gaps
    return total
