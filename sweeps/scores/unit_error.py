"""Standard errors of an area's value over its units: what tau's interval and p over areas are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCKS = 5
"""Blocks of units that the jackknife leaves out, one at a time."""

ABOVE_CHANCE = 1.645
"""A value this many standard errors above chance, or fewer, counts as at chance (one-sided 5 %)."""


def mean_error(values: np.ndarray) -> float:
    """Standard error of the mean over units, deviation / sqrt(units), without NaN; NaN below two units.

    >>> mean_error(np.array([1.0, 3.0, np.nan]))
    1.0
    """
    there = values[np.isfinite(values)]
    return float(there.std(ddof=1) / np.sqrt(len(there))) if len(there) > 1 else float("nan")


def jackknife_error(units: int, value: Callable[[np.ndarray], float], seed: int, blocks: int = BLOCKS) -> float:
    """Standard error of a value of the whole population, from the values without one block of its units each.

    se = sqrt((B - 1) / B sum_b (v_b - mean v)^2) over B random blocks; `value` takes the numbers of the units that are
    left. NaN below two units.

    >>> random = np.random.default_rng(0)
    >>> rates = random.normal(size=1000)
    >>> 0.3 < jackknife_error(1000, lambda kept: rates[kept].mean(), seed=0) * 1000**0.5 < 2
    True
    """
    count = min(blocks, units)
    if count < 2:
        return float("nan")
    parts = np.array_split(np.random.default_rng(seed).permutation(units), count)
    values = np.array([value(np.setdiff1d(np.arange(units), part)) for part in parts])
    return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))


def at_chance(value: float, error: float, chance: float) -> float:
    """1 where a value cannot be told from chance (or lies below it), else 0; NaN for no value.

    >>> at_chance(0.3, 0.1, 0.0), at_chance(0.1, 0.1, 0.0), at_chance(0.1, float("nan"), 0.0)
    (0.0, 1.0, 0.0)
    """
    if np.isnan(value):
        return float("nan")
    return float(value - ABOVE_CHANCE * np.nan_to_num(error) <= chance)
