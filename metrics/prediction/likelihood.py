"""How probable recorded responses are under a twin: per unit, jointly over units, and averaged over latent samples.

Natural logarithms unless ``bits``. Responses are (stimuli, units) or repeats (stimuli, units, repeats) with NaN
where nothing was recorded. A twin's parameters are (stimuli, units), the same for all repeats of a stimulus; a
leading axis, (samples, stimuli, units), holds samples of latent variables whose likelihoods are averaged.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_float, to_repeats
from metrics._statistics import all_trials, stimulus_mean


def poisson_log_density(observed: Floats, rate: Floats) -> Floats:
    """y ln r - r - ln Gamma(y + 1), elementwise; NaN unless the rate is positive and finite.

    >>> poisson_log_density(np.array([0.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [-2.0, nan]
    """
    from scipy.special import gammaln, xlogy

    usable = np.where((rate > 0) & np.isfinite(rate), rate, np.nan)
    return xlogy(observed, usable) - usable - gammaln(observed + 1)


def _valid(q: Floats, theta: Floats, k: Floats) -> NDArray[np.bool_]:
    """Where q lies in [0, 1] and theta and k are positive and finite."""
    return (q >= 0) & (q <= 1) & (theta > 0) & np.isfinite(theta) & (k > 0) & np.isfinite(k)


def zero_inflated_gamma_log_density(
    observed: Floats, q: Floats, theta: Floats, k: Floats, threshold: float, constant: bool = True
) -> Floats:
    """ln (1 - q) / rho up to rho = ``threshold`` and ln q Gamma(y - rho; k, theta) above it, elementwise.

    NaN where a parameter is out of range; -inf where the branch that was observed has probability 0.

    >>> half, one = np.array(0.5), np.array(1.0)
    >>> zero_inflated_gamma_log_density(np.array([0.0, 1.5]), half, one, one, threshold=0.5).round(3).tolist()
    [0.0, -1.693]
    """
    from scipy.special import gammaln, xlogy

    valid, above = _valid(q, theta, k), observed > threshold
    scale, shape = np.where(valid, theta, np.nan), np.where(valid, k, np.nan)
    excess = np.where(above, observed - threshold, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        high = np.log(q) + xlogy(shape - 1, excess) - excess / scale - shape * np.log(scale) - gammaln(shape)
        low = np.log(1 - q) - (np.log(threshold) if constant else 0.0)
    return np.where(valid, np.where(above, high, low), np.nan)


def _observed(values: Array) -> Floats:
    """Responses as (stimuli, units, repeats); a negative or infinite one is a ValueError, NaN is missing."""
    observed = to_repeats(values)
    bad = int(((observed < 0) | np.isinf(observed)).sum())
    if bad:
        raise ValueError(f"observed must be at least 0 and finite, or NaN where missing; {bad} entries are not")
    return observed


def _per_sample(shape: tuple[int, ...], *parameters: Array) -> list[Floats]:
    """Every parameter as (samples, stimuli, units, 1); one that does not fit the responses is a ValueError."""
    arrays = [to_float(values) for values in parameters]
    given = " and ".join(str(values.shape) for values in arrays)
    try:
        common = np.broadcast_shapes(shape[:2], *(values.shape for values in arrays))
    except ValueError:
        common = ()
    if common[-2:] != shape[:2] or len(common) > 3 or common[:-2] == (0,):
        raise ValueError(
            f"parameters must fit the observed (stimuli, units) = {shape[:2]}, with one axis of samples in "
            f"front at most, not empty; got {given}"
        )
    samples = common if len(common) == 3 else (1, *common)
    return [np.broadcast_to(values, samples)[..., None] for values in arrays]


def _log_likelihood(
    density: Callable[..., Floats], observed: Array, parameters: tuple[Array, ...], joint: bool, bits: bool
) -> Array:
    """Average the density over samples, of every response or of every population vector, and reduce it."""
    values = _observed(observed)
    missing = np.isnan(values)
    filled, arrays = np.where(missing, 0.0, values), _per_sample(values.shape, *parameters)
    total = np.full((), -np.inf)
    for sample in zip(*arrays, strict=True):  # one sample at a time: memory stays at a few times the responses
        logs = np.where(missing, 0.0, density(filled, *sample))
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            total = np.logaddexp(total, logs.sum(axis=1) if joint else logs)
    logs = (total - np.log(len(arrays[0]))) / (np.log(2) if bits else 1.0)
    if joint:
        logs = np.where(missing.all(axis=1), np.nan, logs)
        return like(logs if np.ndim(observed) == 3 else logs[:, 0], observed, *parameters)
    count = (~missing).sum(axis=(0, 2))
    mean = np.where(missing, 0.0, logs).sum(axis=(0, 2)) / np.where(count > 0, count, np.nan)
    return like(mean, observed, *parameters)


def poisson_log_likelihood(observed: Array, rate: Array, joint: bool = False, bits: bool = False) -> Array:
    """Poisson log-likelihood of responses, the mean per observation of every unit, or jointly over units.

    l(y) = y ln r - r - ln Gamma(y + 1);  per unit: mean_ij l(y_ij);  joint: sum over units, per stimulus.
    With samples of latent variables, (samples, stimuli, units): ``marginal_log_likelihood`` of each, that is
    per unit mean_ij ln mean_s p(y_ij | r_s) and joint ln mean_s prod_units p(y | r_s). Only the joint one can
    credit variability that units share.
    Shapes: observed (stimuli, units) or (stimuli, units, repeats), counts that need not be whole; rate
    (stimuli, units) or (samples, stimuli, units) in the same unit -> (units,); joint (stimuli,), or
    (stimuli, repeats) for repeats. In nats, or bits.
    Edge rule: missing (NaN) responses are left out, of a joint sum too; a rate that is not positive and finite
    where a response exists makes that unit (joint: that stimulus) NaN, as does a unit (a stimulus) without any
    response. Negative or infinite responses and shapes that do not fit are ValueErrors.
    Source: the Poisson distribution, with its normalising term, and without the epsilon of the field's loss.

    >>> poisson_log_likelihood([[0.0, 1.0], [0.0, 1.0]], [[2.0, 1.0], [4.0, 1.0]]).tolist()
    [-3.0, -1.0]
    >>> poisson_log_likelihood([[0.0, 1.0], [0.0, 1.0]], [[2.0, 1.0], [4.0, 1.0]], joint=True).tolist()
    [-3.0, -5.0]
    """
    return _log_likelihood(poisson_log_density, observed, (rate,), joint, bits)


def poisson_information(observed: Array, rate: Array, per: str = "observation") -> Array:
    """Gain in Poisson log-likelihood over a constant rate, the unit's mean, in bits per observation or per spike.

    I = mean_ij [ y_ij ln(r_i / m) - (r_i - m) ] / ln 2 with m = mean_ij y_ij;  per spike: I / m.
    Shapes: observed (stimuli, units) or (stimuli, units, repeats), rate (stimuli, units) or, averaged as in
    ``poisson_log_likelihood``, (samples, stimuli, units) -> (units,) in bits, 0 for the mean, negative if worse.
    Edge rule: m is taken from the observed responses themselves, so it is the best constant rate and the gain
    is not flattered; a unit whose responses are all 0 is NaN; otherwise as ``poisson_log_likelihood``.
    Source: bits per spike of the co-smoothing score, Pei et al. 2021.

    >>> poisson_information([[0.0], [2.0]], [[0.5], [1.5]]).round(3).tolist()
    [0.585]
    """
    if per not in ("observation", "spike"):
        raise ValueError(f"per must be 'observation' or 'spike'; got {per!r}")
    values = _observed(observed)
    mean = stimulus_mean(all_trials(values))
    gain = to_float(poisson_log_likelihood(values, rate, bits=True))
    gain = gain - to_float(poisson_log_likelihood(values, mean, bits=True))
    return like(gain / (np.where(mean > 0, mean, np.nan) if per == "spike" else 1.0), observed, rate)


def _threshold(value: float) -> float:
    """The threshold rho as a float; a ValueError unless it is positive and finite."""
    if not 0 < value < float("inf"):
        raise ValueError(f"threshold must be positive and finite; got {value}")
    return float(value)


def zero_inflated_gamma_log_likelihood(
    observed: Array,
    q: Array,
    theta: Array,
    k: Array,
    threshold: float = 0.005,
    constant: bool = True,
    joint: bool = False,
    bits: bool = False,
) -> Array:
    """Zero-inflated gamma log-likelihood of responses, per unit or jointly over units.

    p(y) = (1 - q) / rho for 0 <= y <= rho,  p(y) = q Gamma(y - rho; shape k, scale theta) for y > rho;
    rho = ``threshold``; per unit: mean_ij ln p(y_ij); joint and samples as in ``poisson_log_likelihood``.
    ``constant=False`` drops -ln rho from the lower branch, as the released code does: the result is then
    smaller by -ln rho (5.3 nats for 0.005) times the share of responses up to rho, and no density.
    Shapes: observed (stimuli, units) or (stimuli, units, repeats) in the unit of rho and theta; q, theta
    (stimuli, units) or (samples, stimuli, units); k (units,), one number, or as q -> (units,); joint
    (stimuli,), or (stimuli, repeats) for repeats. In nats, or bits.
    Edge rule: as ``poisson_log_likelihood``, where q outside [0, 1] and theta or k that are not positive and
    finite count as a bad rate; q of 0 or 1 gives -inf for a response of the branch that it excludes.
    Source: the zero-inflated gamma of Wei et al. 2020, with the uniform part of the latent-variable twin.

    >>> zero_inflated_gamma_log_likelihood([[0.0], [1.5]], [[0.5], [0.5]], [[1.0], [1.0]], 1.0, 0.5).round(3).tolist()
    [-0.847]
    """
    density = partial(zero_inflated_gamma_log_density, threshold=_threshold(threshold), constant=constant)
    return _log_likelihood(density, observed, (q, theta, k), joint, bits)


def zero_inflated_gamma_moments(q: Array, theta: Array, k: Array, threshold: float = 0.005) -> tuple[Array, Array]:
    """Mean and variance of the zero-inflated gamma distribution.

    mean = q (k theta + rho) + (1 - q) rho / 2;
    variance = q k theta^2 + (1 - q) rho^2 / 12 + q (1 - q) (k theta + rho / 2)^2, with rho = ``threshold``.
    Shapes: q, theta, k that broadcast, usually (stimuli, units), (stimuli, units), (units,) -> both of that
    common shape, the mean in the unit of theta and rho, the variance in its square.
    Edge rule: NaN where q is outside [0, 1] or theta or k is not positive and finite.
    Source: law of total variance over the two branches of ``zero_inflated_gamma_log_likelihood``.

    >>> mean, variance = zero_inflated_gamma_moments([[1.0, 0.0]], [[2.0, 2.0]], [3.0, 3.0], threshold=1.0)
    >>> mean.tolist(), variance.round(4).tolist()
    ([[7.0, 0.5]], [[12.0, 0.0833]])
    """
    rho = _threshold(threshold)
    share, scale, shape = np.broadcast_arrays(to_float(q), to_float(theta), to_float(k))
    share = np.where(_valid(share, scale, shape), share, np.nan)
    mean = share * (shape * scale + rho) + (1 - share) * rho / 2
    within = share * shape * scale**2 + (1 - share) * rho**2 / 12
    between = share * (1 - share) * (shape * scale + rho / 2) ** 2
    return like(mean, q, theta, k), like(within + between, q, theta, k)


def marginal_log_likelihood(log_likelihoods: Array, axis: int = 0, joint: bool = False) -> Array:
    """Log of the mean likelihood over samples of latent variables, of every response or of the population.

    per unit: ln (1/S) sum_s p(y_n | z_s);  joint: ln (1/S) sum_s prod_n p(y_n | z_s), n over units.
    The first treats every unit as if it had latent variables of its own, so it cannot credit variability that
    units share; the sum of it over units equals the joint one only where units are independent.
    Shapes: log_likelihoods (samples, ..., units), samples on ``axis``, in nats -> (..., units), joint (...,).
    Edge rule: NaN in gives NaN out: leave missing responses out first, or use the likelihoods above, which do;
    -inf in every sample stays -inf; no sample, or joint without an axis of units, is a ValueError.
    Source: Monte Carlo estimate of a marginal likelihood, lower in expectation than its limit.

    >>> logs = np.log([[[0.9, 0.9]], [[0.1, 0.1]]])  # two units that share one latent variable
    >>> np.exp(marginal_log_likelihood(logs)).round(2).tolist()
    [[0.5, 0.5]]
    >>> np.exp(marginal_log_likelihood(logs, joint=True)).round(2).tolist()
    [0.41]
    """
    values = to_float(log_likelihoods)
    if values.ndim < (2 if joint else 1) or not values.shape[axis]:
        raise ValueError(
            f"log_likelihoods must be (samples, ..., units) with a sample at least; got shape {values.shape}, "
            f"samples on axis {axis}"
        )
    values = np.moveaxis(values, axis, 0)
    values = values.sum(axis=-1) if joint else values
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return like(np.logaddexp.reduce(values, axis=0) - np.log(len(values)), log_likelihoods)
