"""Orders, intervals and chance: Kendall's tau, the cluster bootstrap, the permutation test."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from metrics._arrays import Array, Floats, like, same_shape, to_float, to_labels, to_matrix

BLOCK = 512
"""Units per matrix product in ``bootstrap_correlation``; bounds memory at replicates x 6 x BLOCK floats."""

DEGENERATE = 1e-12
"""A resampled variance below this share of the unit's sum of squares counts as zero."""


def kendall_tau(values: Array, order: Array) -> float:
    """Kendall's tau-b between values and the order they should follow.

    tau_b = (P - Q) / sqrt((P + Q + T)(P + Q + U)): concordant, discordant pairs, ties in one or the other.
    Shapes: values, order (areas,), any unit of measure -> float in [-1, 1].
    Edge rule: pairs with a NaN are left out; fewer than two areas or a constant side give NaN.
    Source: Kendall 1945, by ``scipy.stats.kendalltau``.

    >>> round(kendall_tau([0.1, 0.4, 0.3], [0, 1, 2]), 6)
    0.333333
    """
    from scipy.stats import kendalltau  # imported late: scipy.stats alone takes longer than this whole room

    first, second = to_float(values).ravel(), to_float(order).ravel()
    same_shape(first, second, "values and order")
    valid = ~(np.isnan(first) | np.isnan(second))
    first, second = first[valid], second[valid]
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(kendalltau(first, second).statistic)


def bootstrap_interval(replicates: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates: the (1 - level)/2 and (1 + level)/2 quantiles.

    Shapes: replicates (any,) -> (low, high) in the unit of the replicates.
    Edge rule: NaN replicates are left out; none left gives (nan, nan); a level outside (0, 1) is an error.
    Source: Efron and Tibshirani 1993, percentile interval, linear interpolation between order statistics.

    >>> bootstrap_interval([0.0, 1.0, 2.0, 3.0, 4.0], level=0.5)
    (1.0, 3.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    values = to_float(replicates).ravel()
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def group_weights(groups: Array, replicates: int = 1000, seed: int = 0) -> Array:
    """How often every distinct group is drawn in each replicate of a cluster bootstrap.

    Row ~ Multinomial(G, 1/G): G draws with replacement from the G distinct groups, in sorted order.
    Shapes: groups (stimuli,) labels -> (replicates, G) whole counts, every row adds up to G.
    Edge rule: one group always has weight 1. Source: Davison and Hinkley 1997, section 3.8.

    >>> group_weights(["a", "a", "b"], replicates=3).sum(axis=1).tolist()
    [2, 2, 2]
    """
    distinct = len(np.unique(to_labels(groups, "groups")))
    if not distinct:
        raise ValueError("group_weights needs at least one group; got none")
    counts = np.random.default_rng(seed).multinomial(distinct, np.full(distinct, 1 / distinct), size=replicates)
    return like(counts, groups)


def _standardised(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Valid entries less their mean, over their root mean square; 0 elsewhere, so sums run over all rows."""
    count = np.maximum(valid.sum(axis=0), 1)
    deviation = np.where(valid, values - np.where(valid, values, 0.0).sum(axis=0) / count, 0.0)
    scale = np.sqrt((deviation**2).sum(axis=0) / count)
    constant = scale <= DEGENERATE * np.where(valid, np.abs(values), 0.0).max(axis=0, initial=0.0)
    return np.where(constant, 0.0, deviation / np.where(constant, 1.0, scale))


def _weighted_correlation(sums: Floats) -> Floats:
    """Pearson from weighted (count, x, y, xx, yy, xy), sums (replicates, 6, units) -> (replicates, units)."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, 1, 0)
    safe = np.maximum(count, 1)
    spread_x, spread_y, shared = xx - x * x / safe, yy - y * y / safe, xy - x * y / safe
    usable = (count > 1) & (spread_x > DEGENERATE * xx) & (spread_y > DEGENERATE * yy)
    norm = np.sqrt(np.where(usable, spread_x * spread_y, np.nan))
    return np.clip(shared / norm, -1.0, 1.0)


def _group_sums(predicted: Floats, observed: Floats, member: csr_matrix) -> Floats:
    """The six sums of ``_weighted_correlation`` within every group, (groups, 6 * units)."""
    valid = ~(np.isnan(predicted) | np.isnan(observed))
    x, y = _standardised(predicted, valid), _standardised(observed, valid)
    return np.asarray(member @ np.hstack([valid.astype(np.float64), x, y, x * x, y * y, x * y]))


def bootstrap_correlation(predicted: Array, observed: Array, groups: Array, weights: Array) -> Array:
    """Mean over units of the Pearson correlation, under each row of group weights.

    Equal to repeating every stimulus as often as its group was drawn and correlating, but computed from six
    sums per group and unit (count, x, y, x^2, y^2, x y) and one matrix product. Units are standardised first,
    which leaves r as it is and keeps the differences of sums stable.
    Shapes: predicted, observed (stimuli, units), groups (stimuli,) labels, weights (replicates, groups) from
    ``group_weights`` -> (replicates,) in [-1, 1].
    Edge rule: pairs with a NaN are left out; a unit without spread in a replicate is left out of that
    replicate's mean; no unit left, or a single group, gives NaN.
    Source: cluster bootstrap, Davison and Hinkley 1997.

    >>> x = np.arange(6.0)[:, None]
    >>> bootstrap_correlation(x, 2 * x, [0, 0, 1, 1, 2, 2], group_weights([0, 1, 2], replicates=2)).tolist()
    [1.0, 1.0]
    """
    first, second = to_matrix(predicted, "predicted"), to_matrix(observed, "observed")
    same_shape(first, second, "predicted and observed")
    names, group = np.unique(to_labels(groups, "groups"), return_inverse=True)
    drawn = to_matrix(weights, "weights")
    if len(group) != len(first) or drawn.shape[1] != len(names):
        raise ValueError(
            f"groups must label {len(first)} stimuli and weights have a column per distinct group; "
            f"got {len(group)} labels, {len(names)} groups, weights {drawn.shape}"
        )
    if len(names) < 2:
        return like(np.full(len(drawn), np.nan), predicted, observed)
    member = csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), (len(names), len(group)))
    total, count = np.zeros(len(drawn)), np.zeros(len(drawn))
    for start in range(0, first.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        sums = drawn @ _group_sums(first[:, part], second[:, part], member)
        r = _weighted_correlation(sums.reshape(len(drawn), 6, -1))
        total += np.nansum(r, axis=1)
        count += (~np.isnan(r)).sum(axis=1)
    return like(np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0), predicted, observed)


def permutation_p(observed: float, null: Array) -> float:
    """One-sided permutation p: the share of the null, observation included, that is at least as large.

    p = (1 + #{null >= observed}) / (1 + n), never 0.
    Shapes: observed float, null (permutations,) in the same unit -> float in (0, 1].
    Edge rule: NaN in the null is left out of n; a NaN observation or an empty null gives NaN.
    Source: Phipson and Smyth 2010.

    >>> permutation_p(3.0, [0.0, 1.0, 2.0])
    0.25
    """
    values = to_float(null).ravel()
    values = values[~np.isnan(values)]
    if np.isnan(observed) or not values.size:
        return float("nan")
    return float((1 + (values >= observed).sum()) / (1 + values.size))
