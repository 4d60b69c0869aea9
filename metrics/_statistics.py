"""Means, variances and Pearson's r over stimuli, unit by unit, with missing (NaN) entries left out.

What prediction and ceilings both stand on. All inputs are float64 numpy arrays, repeats (stimuli, units, repeats).
"""

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Floats

CONSTANT = 1e-12
"""A unit whose deviations from its mean stay below this share of its largest value counts as constant."""


def _centred(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Deviations from the mean of the valid entries, scaled to a peak of 1; 0 if invalid, NaN if constant."""
    filled = np.where(valid, values, 0.0)
    deviation = np.where(valid, values - filled.sum(axis=0) / np.maximum(valid.sum(axis=0), 1), 0.0)
    peak = np.abs(deviation).max(axis=0, initial=0.0)
    constant = peak <= CONSTANT * np.abs(filled).max(axis=0, initial=0.0)
    return deviation / np.where(constant, np.nan, peak)


def pearson(predicted: Floats, observed: Floats) -> Floats:
    """``metrics.correlation`` for float64 matrices that are known to share a shape.

    >>> pearson(np.array([[1.0], [2.0]]), np.array([[5.0], [3.0]])).tolist()
    [-1.0]
    """
    valid = ~(np.isnan(predicted) | np.isnan(observed))
    with np.errstate(invalid="ignore", over="ignore"):
        first, second = _centred(predicted, valid), _centred(observed, valid)
        norm = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        return np.clip((first * second).sum(axis=0) / norm, -1.0, 1.0)


def count_and_average(repeats: Floats) -> tuple[Floats, Floats]:
    """Number of repeats and their mean, each (stimuli, units); the mean is NaN where there is no repeat.

    >>> count, average = count_and_average(np.array([[[1.0, 3.0, np.nan]]]))
    >>> float(count[0, 0]), float(average[0, 0])
    (2.0, 2.0)
    """
    present = ~np.isnan(repeats)
    count = present.sum(axis=2).astype(np.float64)
    total = np.where(present, repeats, 0.0).sum(axis=2)
    return count, np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def stimulus_mean(values: Floats) -> Floats:
    """Mean over the first axis without NaN entries; NaN where nothing is left.

    >>> stimulus_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    return count_and_average(np.moveaxis(values[None], 1, 2))[1][0]


def variance(values: Floats) -> Floats:
    """Variance (ddof 1) over the first axis, NaN left out; NaN below two entries, exactly 0 when constant.

    >>> variance(np.array([[1.0, 0.1], [3.0, 0.1], [np.nan, 0.1]])).tolist()
    [2.0, 0.0]
    """
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    with np.errstate(invalid="ignore"):  # an infinity gives NaN
        deviation = np.where(present, values - mean, 0.0)
    largest = np.where(present, np.abs(values), 0.0).max(axis=0, initial=0.0)
    deviation[:, np.abs(deviation).max(axis=0, initial=0.0) <= CONSTANT * largest] = 0.0
    total = (deviation**2).sum(axis=0)
    return np.divide(total, count - 1, out=np.full_like(total, np.nan), where=count > 1)


def repeat_variance(repeats: Floats) -> Floats:
    """Variance (ddof 1) over repeats, (stimuli, units); NaN where a stimulus has fewer than two.

    >>> repeat_variance(np.array([[[1.0, 3.0]], [[1.0, np.nan]]])).tolist()
    [[2.0], [nan]]
    """
    return variance(np.moveaxis(repeats, 2, 0).reshape(repeats.shape[2], -1)).reshape(repeats.shape[:2])


def all_trials(repeats: Floats) -> Floats:
    """Every single trial as a row, (stimuli * repeats, units).

    >>> all_trials(np.array([[[1.0, 2.0]], [[3.0, 4.0]]])).tolist()
    [[1.0], [2.0], [3.0], [4.0]]
    """
    return np.moveaxis(repeats, 2, 1).reshape(-1, repeats.shape[1])


def interaction_variance(repeats: Floats) -> Floats:
    """``repeat_variance`` without what whole repeats share, (stimuli, units), where every repeat is there.

    A drift that moves a whole repeat is in every average alike and is no noise of theirs: with T stimuli, each
    repeat's mean is taken out and the variance scaled by T / (T - 1). Units that miss a repeat somewhere keep it.

    >>> interaction_variance(np.array([[[1.0, 3.0]], [[2.0, 4.0]]])).tolist()
    [[0.0], [0.0]]
    """
    stimuli = len(repeats)
    complete = np.logical_and(~np.isnan(repeats).any(axis=(0, 2)), stimuli > 1)
    with np.errstate(invalid="ignore"):  # an infinity gives NaN
        level = repeats.mean(axis=0, keepdims=True) if stimuli else np.zeros((1, *repeats.shape[1:]))
        level = np.where(complete[:, None], level - level.mean(axis=2, keepdims=True), 0.0)
        within = repeat_variance(repeats - level)
    largest = np.abs(repeats).max(axis=(0, 2), initial=0.0, where=~np.isnan(repeats))
    within[:, complete] = np.where(within <= (CONSTANT * largest) ** 2, 0.0, within)[:, complete]
    return within * np.where(complete, stimuli / max(stimuli - 1, 1), 1.0)


def noise_of_average(repeats: Floats) -> Floats:
    """Noise variance in the averages of all shown stimuli, (units,): mean_i s_i^2 / n_i.

    s_i^2 is the ``interaction_variance``. A stimulus with one repeat takes the unit's mean s^2, because its noise
    is in its average as well; NaN without a stimulus of two repeats.

    >>> noise_of_average(np.array([[[1.0, 3.0]], [[5.0, np.nan]]])).tolist()
    [1.5]
    """
    count, _ = count_and_average(repeats)
    within = interaction_variance(repeats)
    within = np.where(np.isnan(within) & (count > 0), stimulus_mean(within), within)
    return stimulus_mean(np.divide(within, count, out=np.full_like(count, np.nan), where=count > 0))


def tied_ranks(values: Floats) -> Floats:
    """Ranks, the mean of them where values are equal but for rounding.

    >>> tied_ranks(np.array([0.3, 0.1 + 0.2, 0.1])).tolist()
    [2.5, 2.5, 1.0]
    """
    if not values.size:
        return values
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore"):  # two infinities are tied
        apart = np.diff(values[order]) > CONSTANT * np.abs(values).max(initial=0.0, where=np.isfinite(values))
    tie = np.concatenate([[0], np.cumsum(apart)])
    ranks = np.empty(len(values))
    ranks[order] = (np.bincount(tie, np.arange(1.0, len(values) + 1)) / np.bincount(tie))[tie]
    return ranks
