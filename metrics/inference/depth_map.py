"""What a map of areas to depths owes to chance: its score beside that of other maps."""

from dataclasses import dataclass
from itertools import permutations, product
from math import factorial

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_float, to_matrix
from metrics.inference.hierarchy import permutation_p, tau_rows

TIE = 1e-12
"""Values of two maps that differ by less than this share of the largest score count as equal."""

Maps = NDArray[np.int64]


@dataclass(frozen=True)
class DepthMapTest:
    """A map of areas to depths beside other maps.

    observed: the map's own value. percentile: percent of the maps in null that it beats, ties not beaten.
    p: one-sided, the share of maps at least as good. null: (maps,), NaN where a map has no value. exact:
    whether null holds every map, the observed one included.
    """

    observed: float
    percentile: float
    p: float
    null: Array
    exact: bool


def _other_maps(depth_map: Maps, depths: int, draws: int, how: str, seed: int) -> tuple[Maps, bool]:
    """Maps (maps, areas) to compare with: all of them where they are at most ``draws``, else random ones."""
    areas, rng = len(depth_map), np.random.default_rng(seed)
    if how == "permute":
        if factorial(areas) <= draws:
            return np.array(list(permutations(depth_map))), True
        return rng.permuted(np.tile(depth_map, (draws, 1)), axis=1), False
    if depths**areas <= draws:
        return np.array(list(product(range(depths), repeat=areas))), True
    return rng.integers(depths, size=(draws, areas)), False


def _checked(score_table: Array, depth_map: Array) -> tuple[Floats, Maps]:
    """The table and the map as numbers; every area needs one whole depth of the table."""
    table, depth = to_matrix(score_table, "score_table"), to_float(depth_map).ravel()
    if not len(table) or len(depth) != len(table):
        raise ValueError(f"depth_map must hold a depth for each of the {len(table)} areas; got {len(depth)}")
    if not ((depth == np.floor(depth)) & (depth >= 0) & (depth < table.shape[1])).all():
        raise ValueError(f"depth_map must hold column numbers from 0 to {table.shape[1] - 1}; got {depth.tolist()}")
    if np.isinf(table).any():
        raise ValueError(f"score_table holds {int(np.isinf(table).sum())} infinite entries of {table.size}")
    return table, depth.astype(np.int64)


def _value_of_maps(table: Floats, maps: Maps, order: Array | None) -> Floats:
    """Mean score, or tau-b of the scores with the order, of every map; NaN where a map meets a NaN."""
    picked = table[np.arange(len(table)), maps]
    if order is None:
        return np.asarray(picked.mean(axis=1))
    target = to_float(order).ravel()
    if len(target) != len(table):
        raise ValueError(f"order must rank the {len(table)} areas of score_table; got {len(target)}")
    return np.where(np.isnan(picked).any(axis=1), np.nan, tau_rows(picked, target))


def depth_map_p(
    score_table: Array,
    depth_map: Array,
    draws: int = 10000,
    how: str = "permute",
    seed: int = 0,
    order: Array | None = None,
) -> DepthMapTest:
    """Whether a map of areas to depths is better than other maps, given every area's score at every depth.

    Value of a map = mean over areas of score_table[area, map[area]], or with ``order`` Kendall's tau-b between
    these scores and the order. Exact p = #{maps with value >= observed} / #{maps}; p of random maps is
    ``permutation_p``. "permute": the map's own depths dealt out to the areas anew; "random": every area at
    any depth, all equally likely.
    Shapes: score_table (areas, depths), larger is better; depth_map (areas,) column numbers; order (areas,)
    -> ``DepthMapTest``.
    Edge rule: exact where the maps are at most ``draws``; a map that meets a NaN, or without a tau, has no
    value and is left out; an observed map without one gives NaN. An exact p is at least the share of maps
    equal to the observed one: 1/24 for four areas at four depths, but 1/12 with one depth used twice, so
    that "permute" then cannot beat 95 %; "random" over enough depths can.
    Source: permutation test, Phipson and Smyth 2010; the permuted maps after Luconi et al. 2025; ours otherwise.

    >>> result = depth_map_p([[3.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 3.0]], [0, 1, 2])
    >>> result.observed, round(result.percentile, 1), round(result.p, 3), result.exact
    (3.0, 83.3, 0.167, True)
    """
    if how not in ("permute", "random"):
        raise ValueError(f"how must be 'permute' or 'random'; got {how!r}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    table, assigned = _checked(score_table, depth_map)
    maps, exact = _other_maps(assigned, table.shape[1], draws, how, seed)
    observed = float(_value_of_maps(table, assigned[None], order)[0])
    null = _value_of_maps(table, maps, order)
    scale = np.nanmax(np.abs(table), initial=0.0) if order is None else 1.0
    null = np.where(np.abs(null - observed) <= TIE * scale, observed, null)
    values, percentile, p = null[~np.isnan(null)], float("nan"), float("nan")
    if not np.isnan(observed) and values.size:
        percentile = float(100 * (values < observed).mean())
        p = float((values >= observed).mean()) if exact else permutation_p(observed, values)
    return DepthMapTest(observed, percentile, p, like(null, score_table), exact)
