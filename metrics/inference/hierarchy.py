"""Areas in order: Kendall's tau, the slope along the hierarchy, the permutation test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, same_shape, to_float, to_labels, to_matrix
from metrics._statistics import tied_ranks
from metrics.inference.bootstrap import bootstrap_interval, group_weights

AREA_ORDERS: dict[str, dict[str, int]] = {
    "receptive_field_area": {"V1": 0, "RL": 1, "LM": 2, "AL": 3},
    "rotation_decoding": {"V1": 0, "LM": 1, "RL": 2, "AL": 3},
    "object_discriminability": {"RL": 0, "V1": 1, "LM": 2, "AL": 3},
    "architecture": {"V1": 0, "LM": 1, "RL": 1, "AL": 2},
}
"""Orders of mouse areas that Luconi et al. 2025 test against, as ranks.

Receptive fields after Siegle et al. 2021, decoding after Hoeller et al. 2024, discriminability after
Froudarakis et al. 2020; the last is the depth at which their model reads each area.
"""

AREA_HIERARCHY: dict[str, float] = {"V1": -0.354, "LM": -0.094, "RL": -0.056, "AL": 0.152}
"""Anatomical hierarchy scores of mouse areas, the horizontal axis of Luconi et al. 2025; no unit."""

ROUNDING = 1e-12
"""Deviations and variances below this share of the largest value, or of the sum of squares, count as zero."""

FEW = 64
"""Areas of which all pairs are compared at once: a hundred times as fast as scipy's sort for four."""


def kendall_tau(values: Array, order: Array) -> float:
    """Kendall's tau-b between values and the order they should follow.

    tau_b = (P - Q) / sqrt((P + Q + T)(P + Q + U)): concordant, discordant pairs, ties in one or the other.
    Shapes: values, order (areas,), any unit of measure -> float in [-1, 1].
    Edge rule: pairs with a NaN are left out; values that differ by 1e-12 of the largest or less are tied; fewer than
    two areas or a constant side give NaN.
    Source: Kendall 1945, by pairs, or ``scipy.stats.kendalltau`` for more than 64 areas.

    >>> round(kendall_tau([0.1, 0.4, 0.3], [0, 1, 2]), 6)
    0.333333
    """
    first, second = to_float(values).ravel(), to_float(order).ravel()
    same_shape(first, second, "values and order")
    valid = ~(np.isnan(first) | np.isnan(second))
    first, second = first[valid], second[valid]
    if len(first) <= FEW:
        return float(tau_rows(first, second))
    from scipy.stats import kendalltau  # imported late: scipy.stats alone takes longer than this whole room

    first, second = tied_ranks(first), tied_ranks(second)
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(kendalltau(first, second).statistic)


@dataclass(frozen=True)
class HierarchyTau:
    """Kendall's tau-b of every row of a table with one order, and its spread over rows.

    tau: (rows,), NaN where undefined. mean, sem: over the rows that have one; sem = standard deviation (ddof
    1) / sqrt(rows). rows: how many those are.
    """

    tau: Array
    mean: float
    sem: float
    rows: int


def _signs(values: Floats) -> Floats:
    """Sign of the difference of every pair of areas, (..., areas) -> (..., pairs), 0 for rounding; NaN for a NaN."""
    first, second = np.triu_indices(values.shape[-1], k=1)
    low, high = values[..., first], values[..., second]
    rounding = ROUNDING * np.where(np.isfinite(values), np.abs(values), 0.0).max(axis=-1, keepdims=True, initial=0.0)
    with np.errstate(invalid="ignore"):  # two infinities are tied
        rise = high - low
    return np.where(np.isnan(low) | np.isnan(high), np.nan, (rise > rounding) * 1.0 - (rise < -rounding))


def tau_rows(values: Floats, order: Floats) -> Floats:
    """``kendall_tau`` of every row with the order, for few areas: all pairs at once."""
    ours, theirs = np.broadcast_arrays(_signs(values), _signs(order))
    valid = ~(np.isnan(ours) | np.isnan(theirs))
    ours, theirs = np.where(valid, ours, 0.0), np.where(valid, theirs, 0.0)
    norm = np.sqrt(np.abs(ours).sum(axis=-1) * np.abs(theirs).sum(axis=-1))
    return np.asarray((ours * theirs).sum(axis=-1) / np.where(norm > 0, norm, np.nan))


def hierarchy_tau(values: Array, order: Array) -> HierarchyTau:
    """Kendall's tau-b between each row of an observable and the order its areas should follow.

    ``kendall_tau`` per row, then mean and standard error over rows.
    Shapes: values (rows, areas), a row per session and seed, order (areas,) ranks, ties allowed
    (``AREA_ORDERS``) -> ``HierarchyTau`` with tau (rows,) in [-1, 1].
    Edge rule: areas that are NaN are left out of their row; a row with fewer than two areas or a constant one
    has NaN and is left out of mean and sem; sem is NaN below two rows. Four areas are six pairs, so tau
    moves in steps of 1/3 without ties, and an order with a tie is never reached in full (0.913 for one tie of
    six pairs). The standard error takes rows as independent, which sessions of one animal are not.
    Source: Kendall 1945; the use by Luconi et al. 2025.

    >>> result = hierarchy_tau([[566.0, 713.0, 699.0, 741.0], [1.0, 2.0, 3.0, 4.0]], [0, 2, 1, 3])
    >>> result.tau.round(3).tolist(), round(result.mean, 3), round(result.sem, 3)
    ([1.0, 0.667], 0.833, 0.167)
    """
    table, target = to_matrix(values, "values"), to_float(order).ravel()
    if table.shape[1] != len(target):
        raise ValueError(f"order must rank the {table.shape[1]} areas of values {table.shape}; got {len(target)}")
    tau = tau_rows(table, target)
    defined = tau[~np.isnan(tau)]
    mean = float(defined.mean()) if defined.size else float("nan")
    sem = float(defined.std(ddof=1) / np.sqrt(defined.size)) if defined.size > 1 else float("nan")
    return HierarchyTau(like(tau, values), mean, sem, int(defined.size))


@dataclass(frozen=True)
class Slope:
    """A least-squares slope along the hierarchy with two intervals.

    slope, low, high: in units of the values per unit of the hierarchy score, low and high from Student's t with
    independent points. p: two-sided, of slope 0 under the same assumption. group_low, group_high: from
    resampling whole groups, NaN without groups. points: how many points were fitted.
    """

    slope: float
    low: float
    high: float
    p: float
    group_low: float
    group_high: float
    points: int


def _points(values: Array, hierarchy: Array, groups: Array | None) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Score, value and group number of every point without a NaN."""
    y, score = to_float(values), to_float(hierarchy)
    if y.ndim not in (1, 2) or score.shape != y.shape[-1:]:
        raise ValueError(
            "values must be (areas,) or (rows, areas) and hierarchy (areas,); "
            f"got values {y.shape}, hierarchy {score.shape}"
        )
    x = np.broadcast_to(score, y.shape)
    names = to_labels(np.zeros(len(y)) if groups is None else groups, "groups")
    if len(names) != len(y):
        raise ValueError(f"groups must label the {len(y)} rows of values; got {len(names)} labels")
    group = np.unique(names, return_inverse=True)[1].reshape(-1, *[1] * (y.ndim - 1))
    valid = ~(np.isnan(x) | np.isnan(y))
    return x[valid], y[valid], np.broadcast_to(group, y.shape)[valid]


def _centred(values: Floats) -> Floats:
    """Deviations from the mean; exactly 0 where they are rounding errors."""
    deviation = values - values.mean() if values.size else values
    constant = np.abs(deviation).max(initial=0.0) <= ROUNDING * np.abs(values).max(initial=0.0)
    return np.zeros_like(values) if constant else deviation


def _wald(x: Floats, y: Floats, level: float) -> tuple[float, float, float, float]:
    """Slope, both ends of its t interval and p, of centred x and y."""
    from scipy.special import stdtr, stdtrit

    spread, freedom = float(x @ x), len(x) - 2
    slope = float(x @ y / spread) if spread > 0 else float("nan")
    if not spread > 0 or freedom < 1:
        return slope, float("nan"), float("nan"), float("nan")
    error = float(np.sqrt(((y - slope * x) ** 2).sum() / freedom / spread))
    half = error * float(stdtrit(freedom, (1 + level) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * float(stdtr(freedom, -np.abs(np.divide(slope, error))))
    return slope, slope - half, slope + half, p


def _group_slopes(x: Floats, y: Floats, group: NDArray[np.intp], replicates: int, seed: int) -> Floats:
    """Slopes after drawing whole groups with replacement, from five sums per group."""
    weights = group_weights(group, replicates, seed)
    member = np.unique(group, return_inverse=True)[1]
    sums = np.stack([np.bincount(member, terms) for terms in (np.ones_like(x), x, y, x * x, x * y)], axis=1)
    count, sx, sy, sxx, sxy = (weights @ sums).T
    spread = sxx - sx * sx / count
    return np.asarray((sxy - sx * sy / count) / np.where(spread > ROUNDING * sxx, spread, np.nan))


def slope_interval(
    values: Array,
    hierarchy: Array,
    level: float = 0.95,
    groups: Array | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Slope:
    """How an observable rises along the hierarchy: the least-squares slope, its interval and p.

    slope = sum (x - mean x)(y - mean y) / sum (x - mean x)^2, t = slope / se on n - 2 degrees of freedom, and
    low, high = slope -/+ t_(1+level)/2 se. With groups, a percentile interval of slopes after drawing whole
    groups with replacement stands beside it.
    Shapes: values (areas,) or (rows, areas), any unit; hierarchy (areas,) scores (``AREA_HIERARCHY``); groups
    one label per row of values, such as its recording -> ``Slope``.
    Edge rule: points with a NaN are left out; a constant hierarchy gives NaN; below three points the interval
    and p are NaN; constant values give slope 0 and p NaN; a perfect line p 0; fewer than two groups have no
    group interval. The t interval takes all points as independent: an offset shared by the areas of a
    recording makes it too wide, a slope of its own in every recording too narrow. The group interval needs
    neither assumption but is too narrow for few groups (figures in ``hierarchical_bootstrap``).
    Source: the Wald test of Luconi et al. 2025; the group interval is ours, after Davison and Hinkley 1997.

    >>> result = slope_interval([[0.0, 1.0, 2.0], [0.0, 1.0, 5.0]], [0, 1, 2], groups=["a", "b"])
    >>> round(result.slope, 3), round(result.p, 3), result.group_low, result.group_high
    (1.75, 0.038, 1.0, 2.5)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    x, y, group = _points(values, hierarchy, groups)
    x, y = _centred(x), _centred(y)
    slopes = np.full(1, np.nan)
    if len(np.unique(group)) > 1:
        slopes = _group_slopes(x, y, group, replicates, seed)
    return Slope(*_wald(x, y, level), *bootstrap_interval(slopes, level), len(x))


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
