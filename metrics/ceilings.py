"""What repeats say about noise: how well a perfect model could do, and how much noise an average carries.

All functions take ``repeats`` (stimuli, units, repeats) with NaN, anywhere, where a repeat was not shown.
"""

import numpy as np

from metrics._arrays import Array, Floats, like, to_repeats


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


def _variance(values: Floats) -> Floats:
    """Variance (ddof 1) over the first axis, NaN left out; NaN below two entries, exactly 0 when constant."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    deviation = np.where(present, values - mean, 0.0)
    largest = np.where(present, np.abs(values), 0.0).max(axis=0, initial=0.0)
    deviation[:, np.abs(deviation).max(axis=0, initial=0.0) <= 1e-12 * largest] = 0.0
    total = (deviation**2).sum(axis=0)
    return np.divide(total, count - 1, out=np.full_like(total, np.nan), where=count > 1)


def _repeat_variance(repeats: Floats) -> Floats:
    """Variance (ddof 1) over repeats, (stimuli, units); NaN where a stimulus has fewer than two."""
    return _variance(np.moveaxis(repeats, 2, 0).reshape(repeats.shape[2], -1)).reshape(repeats.shape[:2])


def _mean(values: Floats) -> Floats:
    """Mean over the first axis without NaN entries; NaN where nothing is left."""
    return count_and_average(np.moveaxis(values[None], 1, 2))[1][0]


def noise_variance_of_mean(repeats: Array) -> Array:
    """Noise variance that is left in the repeat average: mean over stimuli of s_i^2 / n_i.

    s_i^2 is the variance over the n_i repeats of stimulus i (ddof 1).
    Shapes: repeats (stimuli, units, repeats) -> (units,), in squared response units.
    Edge rule: stimuli with one repeat are left out; a unit without any repeated stimulus is NaN.
    Source: standard error of a mean; used to add matched noise to a twin before dimensionality is compared.

    >>> noise_variance_of_mean([[[1.0, 3.0]], [[4.0, 4.0]]]).tolist()
    [0.5]
    """
    values = to_repeats(repeats)
    count, _ = count_and_average(values)
    share = np.divide(_repeat_variance(values), count, out=np.full_like(count, np.nan), where=count > 1)
    return like(_mean(share), repeats)


def noise_ceiling(repeats: Array) -> Array:
    """CC_max, the highest correlation to the repeat average that a perfect model can reach.

    signal = var_i(mean_i) - mean_i(s_i^2 / n_i),  CC_max = sqrt(max(signal, 0) / var_i(mean_i)),
    with variances of ddof 1, mean_i and s_i^2 over the n_i repeats of stimulus i. A stimulus with one repeat
    takes the unit's mean s^2, because its noise is in var(mean) as well.
    Shapes: repeats (stimuli, units, repeats) with NaN -> (units,), no unit of measure, in [0, 1].
    Edge rule: NaN without a stimulus of two repeats, below two stimuli, or when the averages are constant.
    Source: Schoppe et al. 2016, CC_max^2 = (N var(mean) - mean_j var(y_j)) / ((N - 1) var(mean)) for N equal
    repeats. There the noise is the stimulus x repeat interaction, here also a drift of whole repeats:
    T noise_here = (T - 1) noise_schoppe + var_j(mean of repeat j) T / N for T stimuli, so both have the same
    expectation and differ by terms of order 1 / T.

    >>> noise_ceiling([[[0.0, 0.0]], [[2.0, 2.0]]]).tolist()
    [1.0]
    """
    values = to_repeats(repeats)
    count, average = count_and_average(values)
    within = _repeat_variance(values)
    within = np.where(np.isnan(within) & (count > 0), _mean(within), within)
    noise = _mean(np.divide(within, count, out=np.full_like(count, np.nan), where=count > 0))
    total = _variance(average)
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
    trials = np.moveaxis(values, 2, 1).reshape(-1, values.shape[1])
    total, noise = _variance(trials), _mean(_repeat_variance(values))
    return like(np.divide(total - noise, total, out=np.full_like(total, np.nan), where=total > 0), repeats)
