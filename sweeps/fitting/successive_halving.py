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

Ask = Callable[[str, int, str, float], bool]
"""(group, epochs, fit, score) -> whether the fit goes on: `Rungs.stays` of this process or of an actor."""


class Rungs:
    """The scores that fits had at each rung, by group; only those of one group are compared."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.scores: dict[tuple[str, int], list[float]] = {}
        self.known: dict[tuple[str, int, str], float] = {}

    def stays(self, group: str, epochs: int, fit: str, score: float) -> bool:
        """Note the score of a fit after so many epochs, and say whether it is among the best 1 / factor.

        True while fewer than `factor` have come. A fit that comes again, because its process died, counts once. NaN is
        below all others; ties go on.
        """
        score = -math.inf if math.isnan(score) else score
        held = self.scores.setdefault((group, epochs), [])
        earlier = self.known.get((group, epochs, fit))
        if earlier is not None:
            held.pop(bisect_left(held, earlier))
        insort(held, score)
        self.known[group, epochs, fit] = score
        if len(held) < self.factor:
            return True
        return score >= held[len(held) - math.ceil(len(held) / self.factor)]


@dataclass(frozen=True)
class Halving:
    """Settings of halving (`first` rung, `factor`) in a worker, and whom it asks."""

    first: int
    factor: int
    ask: Ask

    @classmethod
    def of(cls, settings: Mapping[str, Any], ask: Ask | None = None) -> Halving | None:
        """From a context's `halving`; None where there is none. Without `ask`, rungs of this process's own."""
        if not settings:
            return None
        return cls(settings["first"], settings["factor"], ask or Rungs(settings["factor"]).stays)

    def judge(self, group: str, fit: str) -> RungJudge:
        """The judge of one fit (`models.training.early_stopping.Pruner`)."""
        return RungJudge(self, group, fit)

    def rung(self, epochs: int) -> bool:
        """Whether there is a rung after so many epochs."""
        while epochs > self.first and epochs % self.factor == 0:
            epochs //= self.factor
        return epochs == self.first


@dataclass(frozen=True)
class RungJudge:
    """See `models.training.early_stopping.Pruner`."""

    halving: Halving
    group: str
    fit: str

    def due(self, epochs: int) -> bool:
        """At first, first * factor, first * factor^2, ... epochs."""
        return self.halving.rung(epochs)

    def stays(self, epochs: int, score: float) -> bool:
        """See `Rungs.stays`."""
        return self.halving.ask(self.group, epochs, self.fit, score)
