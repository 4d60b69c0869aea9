"""How well predicted responses follow recorded ones, per unit, as Pearson correlations over stimuli."""

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, same_shape, to_matrix, to_repeats
from metrics.ceilings import count_and_average, noise_ceiling

CONSTANT = 1e-12
"""A unit whose deviations from its mean stay below this share of its largest value counts as constant."""


def _centred(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Deviations from the mean of the valid entries, scaled to a peak of 1; 0 if invalid, NaN if constant."""
    kept = np.where(valid, values, 0.0)
    deviation = np.where(valid, values - kept.sum(axis=0) / np.maximum(valid.sum(axis=0), 1), 0.0)
    peak = np.abs(deviation).max(axis=0, initial=0.0)
    constant = peak <= CONSTANT * np.abs(kept).max(axis=0, initial=0.0)
    return deviation / np.where(constant, np.nan, peak)


def pearson(predicted: Floats, observed: Floats) -> Floats:
    """``correlation`` for float64 matrices that are known to share a shape.

    >>> pearson(np.array([[1.0], [2.0]]), np.array([[5.0], [3.0]])).tolist()
    [-1.0]
    """
    valid = ~(np.isnan(predicted) | np.isnan(observed))
    with np.errstate(invalid="ignore", over="ignore"):
        first, second = _centred(predicted, valid), _centred(observed, valid)
        norm = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        return np.clip((first * second).sum(axis=0) / norm, -1.0, 1.0)


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
