"""Whether an observable follows an order of areas: tau with an interval, and a p that four areas do not bound.

Four areas have 24 orders, so permuting their labels gives p of 1/24 or more. Here units change areas instead, or, where
an area's value and its standard error are all there is, the areas' values are taken as normal about one mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, same_shape, to_float, to_labels
from metrics.inference.bootstrap import bootstrap_interval
from metrics.inference.hierarchy import ROUNDING, permutation_p, tau_rows

Order = Mapping[str, float] | Sequence[str | Sequence[str]]
"""Ranks of areas by name (``AREA_ORDERS``), or their names from first to last, those of one rank in a list."""

Indices = NDArray[np.intp]

DRAWN = 2**22
"""Numbers that are drawn at once."""


@dataclass(frozen=True)
class AreaOrderTest:
    """How an observable follows an order of areas.

    tau: Kendall's tau-b of the areas' values with their ranks. low, high: its interval. p: one-sided, of a rise
    sum_a (rank_a - mean rank) value_a that is at least as large where areas do not differ. values: of each area, NaN
    for one without units; areas: their names, in order.
    """

    tau: float
    low: float
    high: float
    p: float
    values: tuple[float, ...] = ()
    areas: tuple[str, ...] = ()


def area_ranks(order: Order) -> dict[str, float]:
    """Ranks of areas by name, from ranks or from names in order, those of one rank in a list.

    >>> area_ranks(["V1", ["LM", "RL"], "AL"])
    {'V1': 0.0, 'LM': 1.0, 'RL': 1.0, 'AL': 2.0}
    """
    if isinstance(order, Mapping):
        return {str(area): float(rank) for area, rank in order.items()}
    steps = [[step] if isinstance(step, str) else list(step) for step in order]
    names = [area for step in steps for area in step]
    if len(set(names)) < len(names):
        raise ValueError(f"an order names every area once; got {', '.join(names)}")
    return {area: float(rank) for rank, step in enumerate(steps) for area in step}


def _contrast(ranks: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Ranks less their mean over the valid areas of every row, 0 elsewhere, (..., areas)."""
    count = np.maximum(valid.sum(axis=-1, keepdims=True), 1)
    filled = np.where(valid, ranks, 0.0)
    return np.where(valid, filled - filled.sum(axis=-1, keepdims=True) / count, 0.0)


def _bins(reliability: Array | None, units: int, bins: int) -> Indices:
    """Quantile bin of every unit; those without a reliability have a bin of their own."""
    if reliability is None:
        return np.zeros(units, dtype=np.intp)
    values = to_float(reliability).ravel()
    same_shape(values, np.empty(units), "reliability and values")
    known = values[~np.isnan(values)]
    if not known.size:
        return np.zeros(units, dtype=np.intp)
    edges = np.quantile(known, np.arange(1, bins) / bins)
    return np.where(np.isnan(values), bins, np.searchsorted(edges, values, side="right")).astype(np.intp)


@dataclass(frozen=True)
class _Units:
    """Value, area and bin of reliability of every unit (units,), and the rank of every area (areas,)."""

    values: Floats
    area: Indices
    bins: Indices
    ranks: Floats

    def means(self, drawn: Floats) -> Floats:
        """Mean over the units of every area, drawn (draws, units) -> (draws, areas); NaN without units."""
        draws, areas = len(drawn), len(self.ranks)
        place = (np.arange(draws)[:, None] * areas + self.area).ravel()
        count = np.bincount(self.area, minlength=areas)
        total = np.bincount(place, drawn.ravel(), draws * areas).reshape(draws, areas)
        return np.asarray(total / np.where(count > 0, count, np.nan))

    def permutation_p(self, observed: Floats, permutations: int, rng: np.random.Generator) -> float:
        """p of the rise when units change areas within their bin."""
        contrast = _contrast(self.ranks, np.isfinite(observed))
        batches = _batches(permutations, len(self.values))
        null = [np.nan_to_num(self.means(_exchanged(self.values, self.bins, size, rng))) @ contrast for size in batches]
        terms = np.nan_to_num(observed) * contrast
        return permutation_p(float(terms.sum() - ROUNDING * np.abs(terms).sum()), np.concatenate(null))

    def bootstrap_taus(self, replicates: int, rng: np.random.Generator) -> Floats:
        """tau when the units of every area are drawn with replacement."""
        batches = _batches(replicates, len(self.values))
        drawn = [self.means(_redrawn(self.values, self.area, size, rng)) for size in batches]
        return tau_rows(np.concatenate(drawn), self.ranks)


def _exchanged(values: Floats, bins: Indices, draws: int, rng: np.random.Generator) -> Floats:
    """Values exchanged between the units of one bin, (draws, units)."""
    result = np.tile(values, (draws, 1))
    for index in np.unique(bins):
        members = np.flatnonzero(bins == index)
        result[:, members] = rng.permuted(result[:, members], axis=1)
    return result


def _redrawn(values: Floats, area: Indices, draws: int, rng: np.random.Generator) -> Floats:
    """Units of every area drawn with replacement, (draws, units)."""
    result = np.tile(values, (draws, 1))
    for index in np.unique(area):
        members = np.flatnonzero(area == index)
        result[:, members] = values[rng.choice(members, (draws, len(members)))]
    return result


def _batches(draws: int, units: int) -> list[int]:
    """Draws at once, so that their numbers fit into ``DRAWN``."""
    step = max(1, DRAWN // max(units, 1))
    return [min(step, draws - start) for start in range(0, draws, step)]


def area_order_test(
    values_per_unit: Array,
    areas: Array,
    order: Order,
    reliability: Array | None = None,
    bins: int = 4,
    permutations: int = 1000,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> AreaOrderTest:
    """Whether the mean of an observable over an area's units follows an order of areas, by permuting units.

    tau = ``kendall_tau`` of m_a and rank_a, m_a the mean over the units of area a; its interval from drawing the units
    of every area with replacement; p = ``permutation_p`` of the rise sum_a (rank_a - mean rank) m_a, recomputed after
    the areas of units are exchanged, within quantile ``bins`` of their reliability (a noise ceiling or oracle), so that
    every area keeps its number of units and their reliabilities. The rise, not tau, is what p is of: tau of four areas
    has no value that chance reaches less often than one time in 24.
    Shapes: values_per_unit (units,), areas (units,) labels, order by name, reliability (units,) -> ``AreaOrderTest``.
    Edge rule: units with a NaN value are left out, as are areas that the order does not rank; units without a
    reliability are exchanged among themselves; fewer than three ranked areas with units, or ranks or values that are
    all equal, give NaN throughout. Units of one recording share noise and animal: p and interval say how sure
    the order is for these animals.
    Source: the permutation test of Fisher 1935 with blocks; orders as in Luconi et al. 2025.

    >>> areas = np.repeat(["V1", "LM", "AL"], 20)
    >>> values = np.repeat([1.0, 2.0, 3.0], 20) + np.random.default_rng(0).normal(size=60)
    >>> result = area_order_test(values, areas, ["V1", "LM", "AL"], permutations=199)
    >>> result.tau, result.p
    (1.0, 0.005)
    """
    if bins < 1 or permutations < 1 or replicates < 1:
        raise ValueError(
            f"bins, permutations and replicates must be 1 or more; got {bins}, {permutations}, {replicates}"
        )
    values, labels, ranks = to_float(values_per_unit).ravel(), to_labels(areas, "areas"), area_ranks(order)
    if len(values) != len(labels):
        raise ValueError(f"areas must label the {len(values)} units; got {len(labels)} labels")
    names = [name for name in sorted(ranks, key=lambda name: ranks[name]) if (labels == name).any()]
    chosen = np.isin(labels, names) & ~np.isnan(values)
    units = _Units(
        values[chosen],
        np.array([names.index(label) for label in labels[chosen]], dtype=np.intp),
        _bins(reliability, len(values), bins)[chosen],
        np.array([ranks[name] for name in names]),
    )
    observed = units.means(units.values[None])[0]
    tau = float(tau_rows(observed, units.ranks)) if np.isfinite(observed).sum() >= 3 else float("nan")
    if np.isnan(tau):
        return AreaOrderTest(tau, tau, tau, tau, tuple(observed.tolist()), tuple(names))
    rng = np.random.default_rng(seed)
    p = units.permutation_p(observed, permutations, rng)
    interval = bootstrap_interval(units.bootstrap_taus(replicates, rng), level)
    return AreaOrderTest(tau, *interval, p, tuple(observed.tolist()), tuple(names))


def area_order_from_errors(
    values: Array, errors: Array, order: Array, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> AreaOrderTest:
    """Whether an observable follows an order of areas, from each area's value and standard error alone.

    The parametric form of ``area_order_test``, for observables of a whole population and where the units of the areas
    are not at hand together. tau = mean over rows of ``kendall_tau``; its interval from draws value + error z, z
    normal; p = P(z >= sum c v / sqrt(sum c^2 e^2)), c = rank - mean rank within its row: every area's value is drawn
    about one common mean with its own error, which number and reliability of its units have made.
    Shapes: values, errors (areas,) or (rows, areas), a row per recording, NaN where a row lacks an area; order (areas,)
    or (rows, areas) ranks -> ``AreaOrderTest`` without values and areas.
    Edge rule: an area with a NaN value is left out of its row; a row with fewer than three, or with all values or ranks
    equal, is left out; a NaN error leaves tau, without interval and p; errors that are all 0 give p NaN. Normal tails
    make p too small where an area has fewer than some twenty units.
    Source: ours; Welch's test of a linear contrast.

    >>> result = area_order_from_errors([1.0, 2.0, 4.0], [0.1, 0.1, 0.1], [0, 1, 2])
    >>> result.tau, result.low, result.high, result.p < 1e-6
    (1.0, 1.0, 1.0, True)
    """
    table, spread = np.atleast_2d(to_float(values)), np.atleast_2d(to_float(errors))
    same_shape(table, spread, "values and errors")
    if np.atleast_1d(to_float(order)).shape[-1] != table.shape[1]:
        raise ValueError(f"order must rank the {table.shape[1]} areas of values {table.shape}; got {np.shape(order)}")
    ranks = np.broadcast_to(to_float(order), table.shape)
    valid = np.isfinite(table) & np.isfinite(ranks)
    taus = np.where(valid.sum(axis=1) >= 3, tau_rows(np.where(valid, table, np.nan), ranks), np.nan)
    used = ~np.isnan(taus)
    tau = float(taus[used].mean()) if used.any() else float("nan")
    table, spread, ranks, valid = table[used], spread[used], ranks[used], valid[used]
    if not used.any() or np.isnan(spread[valid]).any():
        return AreaOrderTest(tau, float("nan"), float("nan"), float("nan"))
    table, spread = np.where(valid, table, np.nan), np.where(valid, spread, 0.0)
    drawn = table + spread * np.random.default_rng(seed).standard_normal((draws, *table.shape))
    return AreaOrderTest(
        tau, *bootstrap_interval(tau_rows(drawn, ranks).mean(axis=1), level), _rise_p(table, spread, ranks)
    )


def _rise_p(values: Floats, errors: Floats, ranks: Floats) -> float:
    """One-sided normal p of the summed rise of rows, against one mean for the areas of each."""
    contrast = _contrast(ranks, np.isfinite(values))
    error = float(np.sqrt((contrast**2 * errors**2).sum()))
    rise = float((contrast * np.nan_to_num(values)).sum())
    return math.erfc(rise / error / math.sqrt(2)) / 2 if error > 0 else float("nan")
