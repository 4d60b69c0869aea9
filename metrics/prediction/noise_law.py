"""How the noise of a unit grows with its response, from the stimuli that were repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrics._arrays import Floats
from metrics._statistics import stimulus_mean

FLOOR = 0.05
"""Least noise variance that the law predicts, as a share of the unit's mean."""


@dataclass(frozen=True)
class NoiseLaw:
    """Noise variance of a single trial, level_u + slope_u (mean - centre_u), with slopes of each unit.

    `expected` (stimuli, units) is that of the repeated stimuli, by their averages. A single trial x tells its mean
    with noise of its own: the expectation regresses towards the centre, so that `slope_once` is smaller.
    """

    level: Floats
    centre: Floats
    slope_once: Floats
    expected: Floats

    @classmethod
    def of(cls, mean: Floats, variance: Floats, count: Floats) -> NoiseLaw:
        """Regress the variance over repeats on their mean over repeated stimuli, each (stimuli, units).

        slope = cov(m, s^2) / var(m), shrunken by max(0, 1 - se^2 / slope^2), so that one that is chance counts for
        nothing; on single trials slope var(m) / (var(m) + level - mean(s^2 / k)), the same covariance over their
        variance. Edge rule: fewer than three repeated stimuli have no slope.

        >>> law = NoiseLaw.of(np.arange(9.0)[:, None], 2 * np.arange(9.0)[:, None], np.full((9, 1), 2.0))
        >>> law.expected.ravel().round(1).tolist()
        [0.4, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0]
        """
        there = np.isfinite(variance)
        level, centre = stimulus_mean(variance), stimulus_mean(np.where(there, mean, np.nan))
        number = there.sum(axis=0)
        across = np.where(there, mean - centre, 0.0)
        spread, total = np.where(there, variance - level, 0.0), (across**2).sum(axis=0)
        slope = np.divide((across * spread).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
        rest = ((spread - slope * across) ** 2).sum(axis=0) / np.maximum(number - 2, 1)
        error = np.divide(rest, total, out=np.zeros_like(total), where=total > 0)
        sure = np.divide(slope**2 - error, slope**2, out=np.zeros_like(slope), where=slope != 0)
        slope = np.where(number > 2, slope * np.maximum(sure, 0.0), 0.0)
        of_means = total / np.maximum(number, 1)
        shares = np.divide(variance, count, out=np.full_like(mean, np.nan), where=there)
        single = np.maximum(of_means + level - stimulus_mean(shares), 1e-300)
        expected = cls._floored(level + slope * np.where(there, mean - centre, 0.0), level)
        return cls(level, centre, slope * np.minimum(of_means / single, 1.0), expected)

    @staticmethod
    def _floored(variance: Floats, level: Floats) -> Floats:
        return np.maximum(variance, FLOOR * level)

    def of_trials(self, trials: Floats) -> Floats:
        """Noise variance that single trials (trials, units) lead to expect; the mean's for one that is NaN."""
        return self._floored(self.level + self.slope_once * np.nan_to_num(trials - self.centre), self.level)
