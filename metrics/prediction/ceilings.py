"""What repeats say about noise: how well a perfect model could do, and how much noise a response carries.

All functions take ``repeats`` (stimuli, units, repeats) with NaN, anywhere, where a repeat was not shown.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_repeats
from metrics._statistics import (
    all_trials,
    count_and_average,
    interaction_variance,
    noise_of_average,
    pearson,
    repeat_variance,
    stimulus_mean,
    variance,
)

BATCH = 10
"""Halvings of ``split_half`` that are drawn at once; bounds memory at stimuli x units x BATCH floats."""


def _repeated(repeats: Array) -> Floats:
    """Repeats as float64 with only the stimuli of two repeats or more; a unit with an infinity is all NaN."""
    values = to_repeats(repeats)
    infinite = np.isinf(values).any(axis=(0, 2), keepdims=True)
    single = (~np.isnan(values)).sum(axis=2, keepdims=True) < 2
    return np.where(infinite | single, np.nan, values)


def trial_noise_variance(repeats: Array) -> Array:
    """Noise variance of one trial: mean over stimuli of s_i^2, the variance over the repeats of stimulus i (ddof 1).

    noise = mean_i s_i^2; sqrt(noise) is the deviation of trial-like noise for a noise-free twin.
    Shapes: repeats (stimuli, units, repeats) -> (units,), in squared response units.
    Edge rule: stimuli with one repeat are left out; a unit without any repeated stimulus, or with an infinite
    response, is NaN; repeats that are all equal give exactly 0.
    Source: pooled within-stimulus variance with equal weight for every stimulus, the noise of the field's FEV.

    >>> trial_noise_variance([[[1.0, 3.0]], [[4.0, 4.0]]]).tolist()
    [1.0]
    """
    return like(stimulus_mean(repeat_variance(_repeated(repeats))), repeats)


def noise_variance_of_mean(repeats: Array) -> Array:
    """Noise variance that is left in the repeat average: mean over stimuli of s_i^2 / n_i.

    s_i^2 is the variance over the n_i repeats of stimulus i (ddof 1). Where all repeats are there, the mean of
    each whole repeat is taken out first and s_i^2 scaled by T / (T - 1) for T stimuli: a drift between repeats is
    in every average alike.
    Shapes: repeats (stimuli, units, repeats) -> (units,), in squared response units.
    Edge rule: stimuli with one repeat are left out; a unit without any repeated stimulus, or with an infinite
    response, is NaN.
    Source: standard error of a mean; used to add matched noise to a twin before dimensionality is compared.

    >>> noise_variance_of_mean([[[1.0, 3.0]], [[4.0, 4.0]], [[4.0, 2.0]]]).round(6).tolist()
    [1.0]
    """
    values = _repeated(repeats)
    count, _ = count_and_average(values)
    share = np.divide(interaction_variance(values), count, out=np.full_like(count, np.nan), where=count > 1)
    return like(stimulus_mean(share), repeats)


def noise_ceiling(repeats: Array) -> Array:
    """CC_max, the highest correlation to the repeat average that a perfect model can reach.

    signal = var_i(mean_i) - mean_i(s_i^2 / n_i),  CC_max = sqrt(max(signal, 0) / var_i(mean_i)),
    with variances of ddof 1, mean_i and s_i^2 over the n_i repeats of stimulus i. Where all repeats are there, the
    mean of each whole repeat is taken out of s_i^2, scaled by T / (T - 1) for T stimuli: a drift between repeats is
    in every mean_i alike. A stimulus with one repeat takes the unit's mean s^2: its noise is in var(mean) as well.
    Shapes: repeats (stimuli, units, repeats) with NaN -> (units,), no unit of measure, in [0, 1].
    Edge rule: NaN without a stimulus of two repeats, below two stimuli, or when the averages are constant.
    Source: Schoppe et al. 2016, CC_max^2 = (N var(mean) - mean_j var(y_j)) / ((N - 1) var(mean)) for N equal
    repeats, to which this is equal; with missing repeats a drift cannot be told from noise and counts as noise.

    >>> noise_ceiling([[[0.0, 0.0]], [[2.0, 2.0]]]).tolist()
    [1.0]
    """
    values = to_repeats(repeats)
    noise, total = noise_of_average(values), variance(count_and_average(values)[1])
    share = np.divide(total - noise, total, out=np.full_like(total, np.nan), where=total > 0)
    return like(np.sqrt(np.maximum(share, 0.0)), repeats)


def explainable_variance(repeats: Array) -> Array:
    """Share of the single-trial variance that the stimulus can explain, the field's FEV.

    FEV = (var_total - mean_i s_i^2) / var_total, var_total over all single trials, all variances of ddof 1.
    Shapes: repeats (stimuli, units, repeats) with NaN -> (units,), no unit of measure, at most 1.
    Edge rule: not clipped, so pure noise scatters around 0; NaN without a stimulus of two repeats or when the
    unit is constant; stimuli with one repeat count in var_total only.
    Source: Cadena et al. 2019, as in the Sensorium code.

    >>> explainable_variance([[[0.0, 0.0]], [[2.0, 2.0]]]).tolist()
    [1.0]
    """
    values = to_repeats(repeats)
    total, noise = variance(all_trials(values)), stimulus_mean(repeat_variance(values))
    return like(np.divide(total - noise, total, out=np.full_like(total, np.nan), where=total > 0), repeats)


def _jackknife(values: Floats) -> Floats:
    """Pearson of every trial with the mean of the other repeats of its stimulus."""
    count, average = count_and_average(values)
    others = ((average * count)[:, :, None] - values) / (count - 1)[:, :, None]
    return pearson(all_trials(values), all_trials(others))


def _conservative(values: Floats) -> Floats:
    """sqrt(var_mean / (var_mean + var_noise)), both with ddof 0 as coded in the field."""
    count, average = count_and_average(values)
    noise = stimulus_mean(repeat_variance(values) * (count - 1) / np.maximum(count, 1))
    stimuli = (count > 0).sum(axis=0)
    signal = variance(average) * (stimuli - 1) / np.maximum(stimuli, 1)
    return np.sqrt(np.divide(signal, signal + noise, out=np.full_like(signal, np.nan), where=signal > 0))


def oracle(repeats: Array, variant: str = "jackknife") -> Array:
    """How well repeats predict a single trial of the same stimulus, one correlation per unit.

    "jackknife": r over all (i, j) of the trial y_ij with mean_{l != j} y_il, the mean of the other repeats;
    too low, because that mean is noisy: S / sqrt((S + N) (S + N / (n - 1))) for signal S, noise N, n repeats.
    "conservative": var_mean / sqrt(var_mean (var_mean + var_noise)), var_mean = var_i(mean_i) and
    var_noise = mean_i var_j(y_ij), both of ddof 0 as in the field's code, nothing removed; too high, because
    noise is left in var_mean: sqrt((S + N / n) / (S + N)).
    The highest correlation of a perfect model with single trials, sqrt(S / (S + N)), lies between the two.
    Shapes: repeats (stimuli, units, repeats) with NaN -> (units,), jackknife in [-1, 1], conservative in (0, 1].
    Edge rule: stimuli with fewer than two repeats are left out; none left, a constant unit, an infinite
    response, or for "conservative" fewer than two stimuli or equal averages, give NaN, never 0.
    Source: the two oracles of neuralpredictors, there with an epsilon of 1e-8 and NaN set to 0.

    >>> oracle([[[0.0, 0.0]], [[2.0, 2.0]]]).tolist()
    [1.0]
    >>> oracle([[[0.0, 2.0]], [[2.0, 4.0]]], variant="conservative").round(3).tolist()
    [0.707]
    """
    variants = {"jackknife": _jackknife, "conservative": _conservative}
    if variant not in variants:
        raise ValueError(f"variant must be 'jackknife' or 'conservative'; got {variant!r}")
    return like(variants[variant](_repeated(repeats)), repeats)


def _dealt_halves(values: Floats, splits: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Averages of two random halves of every stimulus's own repeats, each (stimuli, units, splits).

    The repeats of a stimulus are shuffled and paired, then every split deals one of each pair to each half (and
    an odd one to either), so a single split is a uniform draw of halves that differ by at most one repeat.
    """
    stimuli, _, repeats = values.shape
    order = rng.permuted(np.tile(np.arange(repeats), (stimuli, 1)), axis=1)[:, None, :]
    shuffled = np.take_along_axis(values, order, axis=2)
    missing = np.isnan(shuffled)
    if missing.any():  # the repeats that were shown come first, so that they are paired with each other
        shuffled = np.take_along_axis(shuffled, np.argsort(missing, axis=2, kind="stable"), axis=2)
    shuffled = np.pad(np.where(np.isnan(shuffled), 0.0, shuffled), ((0, 0), (0, 0), (0, 2 - repeats % 2)))
    count = repeats - missing.sum(axis=2)[:, :, None]
    side = 2.0 * rng.integers(0, 2, size=(stimuli, shuffled.shape[2] // 2, splits)) - 1.0
    difference = (shuffled[:, :, 0::2] - shuffled[:, :, 1::2]) @ side
    total = shuffled.sum(axis=2, keepdims=True)
    in_first = count // 2 + count % 2 * (np.take_along_axis(side, count // 2, axis=1) > 0)
    return _average((total + difference) / 2, in_first), _average((total - difference) / 2, count - in_first)


def _whole_halves(values: Floats, splits: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Averages over two random halves of the repeat axis, the same for all stimuli, (stimuli, units, splits)."""
    repeats = values.shape[2]
    chosen = np.tile(np.arange(repeats)[:, None] < repeats // 2, (1, splits))
    in_first = rng.permuted(chosen, axis=0).astype(np.float64)
    present = (~np.isnan(values)).astype(np.float64)
    filled = np.where(np.isnan(values), 0.0, values)
    first, count = filled @ in_first, present @ in_first
    total, shown = filled.sum(axis=2, keepdims=True), present.sum(axis=2, keepdims=True)
    return _average(first, count), _average(total - first, shown - count)


def _average(total: Floats, count: NDArray[Any]) -> Floats:
    """Sums over counts, NaN where the count is 0."""
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def split_half(
    repeats: Array, splits: int = 100, seed: int = 0, corrected: bool = False, whole_repeats: bool = False
) -> Array:
    """Reliability of the responses: correlation over stimuli between two halves of the repeats, one per unit.

    r = mean over ``splits`` random halvings of corr_i(mean of one half, mean of the other); ``corrected`` gives
    2 r / (1 + r) (Spearman-Brown) of that mean, the reliability of the average of all repeats, whose square
    root is a ceiling like ``noise_ceiling``.
    Every stimulus's own available repeats are dealt into two halves of equal number, an odd one to either. A
    drift over the session is then noise. With ``whole_repeats`` the repeat axis is halved once for all stimuli
    instead (an odd one to the second half): a drift that all stimuli share cancels, but halves of a stimulus
    with missing repeats differ in number.
    Shapes: repeats (stimuli, units, repeats) with NaN -> (units,) in [-1, 1]; corrected below -1 too.
    Edge rule: stimuli with fewer than two repeats, or without any in one half, are left out; a halving with a
    constant half is left out of the mean; none left, fewer than two stimuli or an infinite response give NaN;
    negative r is not clipped, and corrected r = -1 is NaN. Fewer than one halving is a ValueError.
    Source: split-half reliability of Spearman 1910 and Brown 1910, averaged over random halvings.

    >>> split_half([[[0.0, 0.1, 0.2]], [[2.0, 2.1, 2.2]]], splits=3).tolist()
    [1.0]
    """
    if splits < 1:
        raise ValueError(f"split_half needs at least 1 halving; got splits={splits}")
    values, rng = _repeated(repeats), np.random.default_rng(seed)
    halves = _whole_halves if whole_repeats else _dealt_halves
    correlations = []
    for start in range(0, splits, BATCH):
        pair = halves(values, min(BATCH, splits - start), rng)
        correlations.append(pearson(*(half.reshape(len(half), -1) for half in pair)).reshape(values.shape[1], -1))
    r = stimulus_mean(np.concatenate(correlations, axis=1).T)
    return like(2 * r / np.where(r > -1, 1 + r, np.nan) if corrected else r, repeats)
