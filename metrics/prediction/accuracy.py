"""How well predicted responses follow recorded ones, per unit: correlations, and shares of explained variance."""

import numpy as np

from metrics._arrays import Array, Floats, like, same_shape, to_float, to_matrix, to_repeats
from metrics._statistics import (
    all_trials,
    count_and_average,
    noise_of_average,
    pearson,
    repeat_variance,
    stimulus_mean,
    variance,
)
from metrics.prediction.ceilings import explainable_variance, noise_ceiling

LEAST_EXPLAINABLE = 0.15
"""Units whose explainable variance is below this have no FEVE: the field's rule."""


def correlation(predicted: Array, observed: Array) -> Array:
    """Pearson correlation over stimuli, one per unit.

    r = sum_i (p_i - mean p)(o_i - mean o) / sqrt(sum_i (p_i - mean p)^2 sum_i (o_i - mean o)^2)
    Shapes: predicted, observed (stimuli, units), any unit of measure -> (units,) in [-1, 1].
    Edge rule: pairs with a NaN are left out unit by unit; fewer than two pairs, a constant side or an
    infinite value give NaN, never 0.
    Source: the field's single-trial correlation (Sensorium), without its epsilon.

    >>> correlation([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]], [[2.0, 0.0], [4.0, 1.0], [6.0, 2.0]]).tolist()
    [1.0, nan]
    """
    first, second = to_matrix(predicted, "predicted"), to_matrix(observed, "observed")
    same_shape(first, second, "predicted and observed")
    return like(pearson(first, second), predicted, observed)


def correlation_to_average(predicted: Array, repeats: Array) -> Array:
    """Pearson correlation over stimuli between prediction and the mean over repeats, one per unit.

    r = corr_i(p_i, mean_j y_ij), the mean over the repeats that were shown.
    Shapes: predicted (stimuli, units), repeats (stimuli, units, repeats) with NaN -> (units,) in [-1, 1].
    Edge rule: a stimulus without repeats is left out of that unit; otherwise as ``correlation``.
    Source: correlation to average, Sensorium 2022; CC_abs of Schoppe et al. 2016.

    >>> correlation_to_average([[1.0], [2.0]], [[[1.0, float("nan")]], [[2.0, 4.0]]]).tolist()
    [1.0]
    """
    _, average = count_and_average(to_repeats(repeats))
    return like(np.asarray(correlation(to_matrix(predicted, "predicted"), average)), predicted, repeats)


def normalized_correlation(predicted: Array, repeats: Array) -> Array:
    """CCnorm, the correlation to the repeat average divided by the noise ceiling, one per unit.

    CCnorm = CC_abs / CC_max, with ``correlation_to_average`` and ``noise_ceiling``.
    Shapes: predicted (stimuli, units), repeats (stimuli, units, repeats) with NaN -> (units,), a ratio.
    Edge rule: not clipped, so sampling noise may pass 1; a ceiling that is 0 or NaN gives NaN.
    Source: Schoppe et al. 2016.

    >>> normalized_correlation([[1.0], [2.0]], [[[1.0, 1.0]], [[2.0, 2.0]]]).tolist()
    [1.0]
    """
    values = to_repeats(repeats)
    ceiling = np.asarray(noise_ceiling(values))
    reached = np.asarray(correlation_to_average(to_matrix(predicted, "predicted"), values))
    return like(reached / np.where(ceiling > 0, ceiling, np.nan), predicted, repeats)


def _kept_repeats(predicted: Array, repeats: Array) -> tuple[Floats, Floats]:
    """Both as float64, the repeats without stimuli that were not predicted; both shapes are checked."""
    rate, values = to_matrix(predicted, "predicted"), to_repeats(repeats)
    if rate.shape != values.shape[:2]:
        raise ValueError(
            f"predicted must be (stimuli, units) of the repeats (stimuli, units, repeats); got {rate.shape} and "
            f"{values.shape}"
        )
    return rate, np.where(np.isnan(rate)[:, :, None], np.nan, values)


def feve(predicted: Array, repeats: Array, variant: str = "trials", least: float = LEAST_EXPLAINABLE) -> Array:
    """Share of the explainable variance that a prediction explains, one per unit: FEVE.

    FEVE = 1 - (MSE - noise) / (total - noise), with variances of ddof 1 and
    "trials": MSE = mean_ij (y_ij - p_i)^2, total = var_ij y_ij over all single trials, noise = mean_i s_i^2;
    "average": MSE = mean_i (m_i - p_i)^2, total = var_i m_i, noise = mean_i s_i^2 / n_i,
    where m_i and s_i^2 are mean and variance over the n_i repeats of stimulus i. "trials" is the field's.
    Shapes: predicted (stimuli, units), repeats (stimuli, units, repeats) with NaN, in one unit of measure ->
    (units,), a share: 1 is the true rate, about 0 the mean, without a lower bound.
    Edge rule: not clipped, so sampling noise may pass 1. NaN, never 0, for a unit whose ``explainable_variance``
    is below ``least`` (0.15 as in the field, which leaves such units out; count them with ``finite_mean``),
    whose total does not exceed its noise, that holds an infinity, or without a stimulus of two repeats.
    Stimuli that were not predicted or not shown are left out unit by unit; those with one repeat are in MSE
    and total, and with "average" take the unit's mean s^2 as their noise.
    Source: Cadena et al. 2019 as in the Sensorium code ("trials"); noise of a mean ("average").

    >>> feve([[0.0], [3.0]], [[[0.0, 0.0]], [[2.0, 2.0]]]).tolist()
    [0.625]
    >>> feve([[0.0], [3.0]], [[[0.0, 0.0]], [[2.0, 2.0]]], variant="average").tolist()
    [0.75]
    """
    if variant not in ("trials", "average"):
        raise ValueError(f"variant must be 'trials' or 'average'; got {variant!r}")
    rate, values = _kept_repeats(predicted, repeats)
    targets = values if variant == "trials" else count_and_average(values)[1][:, :, None]
    noise = stimulus_mean(repeat_variance(values)) if variant == "trials" else noise_of_average(values)
    error, total = _error_and_total(rate, targets)
    with np.errstate(invalid="ignore", over="ignore"):
        usable = (np.asarray(explainable_variance(values)) >= least) & (total > noise) & np.isfinite(error)
        return like(1 - (error - noise) / np.where(usable, total - noise, np.nan), predicted, repeats)


def _error_and_total(rate: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Mean squared error over the targets (stimuli, units, n), and their variance, one per unit."""
    with np.errstate(invalid="ignore", over="ignore"):
        return stimulus_mean(all_trials((targets - rate[:, :, None]) ** 2)), variance(all_trials(targets))


def area_feve(predicted: Array, repeats: Array) -> tuple[float, int]:
    """Share of an area's explainable variance that a prediction explains, no unit left out for its responses.

    1 - mean_u ((MSE_u - noise_u) / total_u) / mean_u ((total_u - noise_u) / total_u), on single trials as in ``feve``.
    A mean of ``feve`` needs units of little explainable variance to be left out, which chooses units by the responses
    that are scored; here they count for what they have, so that a mean over units of unequal noise holds.
    Shapes: predicted (stimuli, units), repeats (stimuli, units, repeats) with NaN, in one unit of measure -> (share,
    number of units). Edge rule: not clipped; units that are constant, hold an infinity or have no stimulus of two
    repeats are left out; NaN without units, or where what they can explain is not above 0.
    Source: ours, the area ratio of ``ceiled_correlation`` for squared errors.

    >>> area_feve([[0.0], [3.0]], [[[0.0, 0.0]], [[2.0, 2.0]]])
    (0.625, 1)
    """
    rate, values = _kept_repeats(predicted, repeats)
    noise = stimulus_mean(repeat_variance(values))
    error, total = _error_and_total(rate, values)
    with np.errstate(invalid="ignore", over="ignore"):
        usable = np.isfinite(error) & np.isfinite(noise) & np.isfinite(total) & (total > 0)
    if not usable.any():
        return float("nan"), 0
    unexplained = float(((error - noise)[usable] / total[usable]).mean())
    explainable = float(((total - noise)[usable] / total[usable]).mean())
    return (1 - unexplained / explainable if explainable > 0 else float("nan")), int(usable.sum())


def finite_mean(values: Array) -> tuple[float, int]:
    """Mean of the entries that are numbers, and how many entries were left out of it.

    mean = sum of finite entries / their number; left out = NaN and infinite entries.
    Shapes: values of any shape, usually (units,) -> (float in the unit of the values, int).
    Edge rule: no finite entry gives NaN beside the full count. Source: a mean that says what it leaves out.

    >>> finite_mean([0.25, float("nan"), 0.75])
    (0.5, 1)
    """
    array = to_float(values).ravel()
    finite = array[np.isfinite(array)]
    return (float(finite.mean()) if finite.size else float("nan")), int(array.size - finite.size)
