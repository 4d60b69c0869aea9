"""How near an area's predictions come to its noise ceiling: a ratio of means over units, with its error.

A mean of ratios, unit by unit, does not hold with few repeats: a ceiling that is too low by chance makes a large ratio,
and one that is clipped at 0 makes none. The means of correlations and of squared ceilings are nearly unbiased each, so
their ratio is taken once for the area, and corrected by the jackknife over stimulus groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, to_labels, to_matrix, to_repeats
from metrics._statistics import CONSTANT, count_and_average, pearson, repeat_variance

CHUNK = 256
"""Units whose sums over blocks are held at once."""

BLOCKS = 100
"""Blocks of stimuli of the jackknife, at most: groups in the order of their labels are dealt to them in turn."""

Groups = NDArray[np.intp]


@dataclass(frozen=True)
class CeiledCorrelation:
    """Ratio of an area's mean correlation to its noise ceiling, sqrt(mean CC_max^2), and what it is made of.

    value: the ratio, NaN where the ceiling cannot be told from 0. se: its jackknife standard error, NaN with it.
    reached: mean over units of the correlation. squared_ceiling: mean over units of CC_max^2, unclipped, bias-corrected
    by the jackknife; low, high: its interval. units: how many units there are with a ceiling.
    """

    value: float
    se: float
    reached: float
    squared_ceiling: float
    low: float
    high: float
    units: int


@dataclass(frozen=True)
class AreaCeiling:
    """Mean of CC_max^2 over the units that have one, unclipped, whole and without each block of stimulus groups.

    usable: (units,) which have one. whole: float. left_out: (blocks,). corrected: the whole one without its bias of
    about -2 / stimuli, by the jackknife. low, high: its t interval.
    """

    usable: NDArray[np.bool_]
    whole: float
    left_out: Floats
    corrected: float
    low: float
    high: float


def _blocks(groups: Array | None, stimuli: int) -> Groups:
    """The block of every stimulus, by its label; without labels every stimulus is its own group.

    >>> _blocks(["b", "a", "b"], 3).tolist()
    [1, 0, 1]
    """
    labels = np.arange(stimuli) if groups is None else to_labels(groups, "groups")
    if len(labels) != stimuli:
        raise ValueError(f"groups must label the {stimuli} stimuli; got {len(labels)} labels")
    return np.unique(labels, return_inverse=True)[1] % BLOCKS


def _without(values: NDArray[Any], group: Groups) -> Floats:
    """Sums over stimuli (stimuli, ...), in the first row of all, then of all but each block, (1 + blocks, ...).

    >>> _without(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0])).tolist()
    [7.0, 2.0, 5.0]
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    if not starts.size:
        return np.zeros((1, *values.shape[1:]))
    parts = np.add.reduceat(values[order].astype(np.float64, copy=False), starts, axis=0)
    total = parts.sum(axis=0, keepdims=True)
    return np.concatenate([total, total - parts])


def _mean(total: Floats, count: Floats) -> Floats:
    return np.divide(total, count, out=np.full(np.broadcast_shapes(total.shape, count.shape), np.nan), where=count > 0)


def _noise(repeats: Floats, average: Floats, group: Groups) -> Floats:
    """``noise_of_average`` of all stimuli and without each block, (1 + blocks, units)."""
    shown = (~np.isnan(repeats)).sum(axis=2).astype(np.float64)
    within = repeat_variance(repeats)
    several, single = shown > 1, shown == 1
    squares = np.where(several, within, 0.0)
    trial = _mean(_without(squares, group), _without(several, group))
    own = _without(squares / np.maximum(shown, 1), group)
    noise = _mean(own + np.where(np.isnan(trial), 0.0, trial) * _without(single, group), _without(shown > 0, group))
    noise = np.where(np.isnan(trial), np.nan, noise)
    complete = ~np.isnan(repeats).any(axis=(0, 2))
    if complete.any():
        count = _without(np.ones(len(repeats)), group)[:, None]
        drift = _without(repeats[:, complete] - average[:, complete, None], group) / np.maximum(count, 1)[:, :, None]
        drift = (drift**2).sum(axis=2) / max(repeats.shape[2] - 1, 1)
        left = (trial[:, complete] - drift) * count / np.where(count > 1, count - 1, np.nan)
        noise[:, complete] = np.maximum(left, 0.0) / repeats.shape[2]
    return noise


def _squared_ceilings(repeats: Floats, group: Groups) -> Floats:
    """CC_max^2 of every unit, unclipped, of all stimuli and without each block; NaN where the average is constant."""
    shown, average = count_and_average(repeats)
    there = shown > 0
    centre = _mean(np.where(there, average, 0.0).sum(axis=0), there.sum(axis=0))
    deviation = np.where(there, average - centre, 0.0)
    count, first, second = (_without(part, group) for part in (there, deviation, deviation**2))
    total = _mean(second - first**2 / np.maximum(count, 1), count - 1)
    least = (CONSTANT * np.abs(np.where(there, average, 0.0)).max(axis=0, initial=0.0)) ** 2
    total = np.where(total > least + CONSTANT * _mean(second, count), total, np.nan)
    return 1 - _noise(repeats, average, group) / total


def _chunks(units: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, units, CHUNK))


def _mean_over_units(values: Floats) -> Floats:
    """Mean over units (rows, units) without NaN, NaN where nothing is left."""
    there = np.isfinite(values)
    return _mean(np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1).astype(float))


def _jackknife(whole: float, left_out: Floats) -> tuple[float, float]:
    """Bias-corrected value and standard error from the values without each block; NaN below two groups."""
    count = len(left_out)
    if count < 2:
        return float("nan"), float("nan")
    mean = float(left_out.mean())
    error = float(np.sqrt((count - 1) / count * ((left_out - mean) ** 2).sum()))
    return count * whole - (count - 1) * mean, error


def area_ceiling(repeats: Array, groups: Array | None = None, level: float = 0.95) -> AreaCeiling:
    """Mean over units of the squared ``noise_ceiling``, not clipped at 0, whole and without each block of groups.

    Shapes: repeats (stimuli, units, repeats) with NaN, groups (stimuli,) labels -> ``AreaCeiling``.
    Edge rule: units without a ceiling (no repeats, or constant) are left out; none left, or fewer than two groups, give
    NaN. Source: Schoppe et al. 2016; the jackknife of Quenouille and Tukey, over groups.

    >>> area_ceiling([[[0.0, 0.0]], [[2.0, 2.0]], [[1.0, 1.0]]]).whole
    1.0
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    from scipy.special import stdtrit

    values = to_repeats(repeats)
    group = _blocks(groups, len(values))
    infinite = np.asarray(np.isinf(values).any(axis=(0, 2)))
    rows, count = np.zeros((2, int(group.max(initial=-1)) + 2)), 0
    usable = np.zeros(values.shape[1], dtype=bool)
    for part in _chunks(values.shape[1]):
        squares = _squared_ceilings(np.where(infinite[part, None], np.nan, values[:, part]), group)
        usable[part] = np.isfinite(squares[0])
        there = np.isfinite(squares) & usable[part]
        rows += np.stack([np.where(there, squares, 0.0).sum(axis=1), there.sum(axis=1)])
        count += int(usable[part].sum())
    mean = _mean(*rows)
    corrected, error = _jackknife(float(mean[0]), mean[1:])
    half = error * float(stdtrit(max(len(mean) - 2, 1), (1 + level) / 2))
    return AreaCeiling(usable, float(mean[0]), mean[1:], corrected, corrected - half, corrected + half)


def _correlations(predicted: Floats, observed: Floats, group: Groups) -> Floats:
    """Pearson of every unit without each block, (blocks, units); 0 where the prediction is constant."""
    valid = ~(np.isnan(predicted) | np.isnan(observed))
    count = np.maximum(valid.sum(axis=0), 1)
    x, y = (
        np.where(valid, side - np.where(valid, side, 0.0).sum(axis=0) / count, 0.0) for side in (predicted, observed)
    )
    for side, raw in ((x, predicted), (y, observed)):
        largest = np.where(valid, np.abs(raw), 0.0).max(axis=0, initial=0.0)
        side[:, np.abs(side).max(axis=0, initial=0.0) <= CONSTANT * largest] = 0.0
    n, sx, sy, sxx, syy, sxy = (_without(part, group)[1:] for part in (valid, x, y, x * x, y * y, x * y))
    n = np.maximum(n, 1)
    spread_x, spread_y = sxx - sx * sx / n, syy - sy * sy / n
    usable = (spread_x > CONSTANT * (x * x).sum(axis=0)) & (spread_y > CONSTANT * (y * y).sum(axis=0))
    norm = np.sqrt(np.where(usable, spread_x * spread_y, 1.0))
    return np.where(usable, np.clip((sxy - sx * sy / n) / norm, -1, 1), 0.0)


def ratio_to_ceiling(
    predicted: Array, observed: Array, ceiling: AreaCeiling, groups: Array | None = None
) -> CeiledCorrelation:
    """``ceiled_correlation`` where the ceiling is known, for the many twins of one area.

    Shapes: predicted, observed (stimuli, units), the repeat averages; groups as for the ceiling.

    >>> x = np.array([[0.0], [2.0], [1.0], [5.0]])
    >>> round(ratio_to_ceiling(x, x, area_ceiling(np.stack([x, x], axis=2))).value, 6)
    1.0
    """
    first, second = to_matrix(predicted, "predicted"), to_matrix(observed, "observed")
    if not first.shape == second.shape == (len(first), len(ceiling.usable)):
        raise ValueError(
            f"predicted and observed must be (stimuli, {len(ceiling.usable)}); got {first.shape} and {second.shape}"
        )
    group, usable = _blocks(groups, len(first)), int(ceiling.usable.sum())
    first, second = first[:, ceiling.usable], second[:, ceiling.usable]
    parts = [_correlations(first[:, part], second[:, part], group).sum(axis=1) for part in _chunks(usable)]
    left_out = sum(parts, np.zeros(len(ceiling.left_out))) / max(usable, 1)
    reached = float(np.nan_to_num(pearson(first, second)).mean()) if usable else float("nan")
    value, se = float("nan"), float("nan")
    if ceiling.low > 0 and (ceiling.left_out > 0).all():
        value, se = _jackknife(reached / ceiling.whole**0.5, left_out / np.sqrt(ceiling.left_out))
    return CeiledCorrelation(value, se, reached, ceiling.corrected, ceiling.low, ceiling.high, usable)


def ceiled_correlation(
    predicted: Array, repeats: Array, groups: Array | None = None, level: float = 0.95
) -> CeiledCorrelation:
    """How near predictions come to the noise ceiling of an area: mean correlation over root mean squared ceiling.

    value = mean_u r_u / sqrt(mean_u CC_max_u^2), r_u = ``correlation_to_average`` and CC_max_u^2 = signal / var(mean)
    as in ``noise_ceiling`` but not clipped at 0; then the jackknife over B blocks of stimulus groups (each group one
    where there are 100 or fewer): B value - (B - 1) mean of the values without one block each, and its standard error.
    Shapes: predicted (stimuli, units), repeats (stimuli, units, repeats) with NaN, groups (stimuli,) labels (default:
    every stimulus its own) -> ``CeiledCorrelation``, a ratio.
    Edge rule: NaN where the interval of the mean CC_max^2 (jackknife, Student's t, ``level``) includes 0: there is no
    ceiling to speak of; below two groups; and without repeats. Not clipped, so sampling noise may pass 1. Units without
    a ceiling are left out of both means; a unit that is predicted as constant has r = 0. Where the ceilings of units
    differ a perfect twin reaches mean CC_max / root mean CC_max^2, a little below 1, whatever the twin.
    Source: CC_norm of Schoppe et al. 2016, as a ratio of means; the jackknife of Quenouille and Tukey.

    >>> signal = np.random.default_rng(0).normal(size=(50, 4))
    >>> trials = signal[:, :, None] + np.random.default_rng(1).normal(size=(50, 4, 3))
    >>> ceiled_correlation(signal, trials).units
    4
    """
    values = to_repeats(repeats)
    average = count_and_average(values)[1]
    return ratio_to_ceiling(predicted, average, area_ceiling(values, groups, level), groups)
