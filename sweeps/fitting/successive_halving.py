"""Asynchronous successive halving: fits that are behind the others half-way are ended.

Source: Li et al. 2020 (MLSys), ASHA, in its form that ends fits and never pauses them. What a fit is compared with
depends on which others have come so far, so that the result depends on timing; rows of ended fits are `pruned`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Decide = Callable[[str, int, str, float], bool]
"""(group, epochs, fit, score) -> whether the fit goes on: `RungScores.stays` of this process or of an actor."""


class RungScores:
    """The scores that fits had at each rung, by group; only those of one group are compared."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.scores: dict[tuple[str, int], list[float]] = {}
        self.by_fit: dict[tuple[str, int, str], float] = {}

    def stays(self, group: str, epochs: int, fit: str, score: float) -> bool:
        """Note the score of a fit after so many epochs; True where it is among the best 1 / factor.

        True while fewer than `factor` have come. A fit that comes again, because its process died, counts once. NaN is
        below all others; ties go on.
        """
        score = -math.inf if math.isnan(score) else score
        scores = self.scores.setdefault((group, epochs), [])
        earlier = self.by_fit.get((group, epochs, fit))
        if earlier is not None:
            scores.pop(bisect_left(scores, earlier))
        insort(scores, score)
        self.by_fit[group, epochs, fit] = score
        if len(scores) < self.factor:
            return True
        return score >= scores[len(scores) - math.ceil(len(scores) / self.factor)]


@dataclass(frozen=True)
class SuccessiveHalving:
    """Settings of halving (`first` rung, `factor`) in a worker, and what decides."""

    first: int
    factor: int
    decide: Decide

    @classmethod
    def of(cls, settings: Mapping[str, Any], decide: Decide | None = None) -> SuccessiveHalving | None:
        """From a context's `halving`; None where there is none. Without `decide`, rungs of this process's own."""
        if not settings:
            return None
        return cls(settings["first"], settings["factor"], decide or RungScores(settings["factor"]).stays)

    def pruner(self, group: str, fit: str) -> RungPruner:
        """The pruner of one fit (`models.training.early_stopping.Pruner`)."""
        return RungPruner(self, group, fit)

    def rung(self, epochs: int) -> bool:
        """Whether there is a rung after so many epochs."""
        while epochs > self.first and epochs % self.factor == 0:
            epochs //= self.factor
        return epochs == self.first


@dataclass(frozen=True)
class RungPruner:
    """Ends one fit that is behind the others of its group (see `models.training.early_stopping`)."""

    halving: SuccessiveHalving
    group: str
    fit: str

    def due(self, epochs: int) -> bool:
        """At first, first * factor, first * factor^2, ... epochs."""
        return self.halving.rung(epochs)

    def stays(self, epochs: int, score: float) -> bool:
        """See `RungScores.stays`."""
        return self.halving.decide(self.group, epochs, self.fit, score)
