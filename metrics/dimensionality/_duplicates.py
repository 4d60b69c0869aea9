"""Stimuli that differ by rounding alone, found and merged into one point before distances are compared.

A frame that is held, or a picture that is shown twice, gives features that agree but for the order of a sum. Their
distance is rounding noise, and its ratio to a real distance would decide over an estimate of dimension.
"""

import numpy as np

from metrics._arrays import Floats, of_single_precision
from metrics.dimensionality._neighbors import Indices, distinct

SHARE = float(np.finfo(np.float64).eps) ** 0.5
"""Rows closer than this share of the spread of the rows (1.5e-8) are one: half the digits of float64."""

SINGLE = 8 * float(np.finfo(np.float32).eps)
"""The same share of the rows' size, offset included (9.5e-7), where every number is one of float32."""

PROJECTIONS = 3
"""Random directions along which rows are sorted; only rows that lie together on all of them are compared."""


def _typical(lengths: Floats) -> float:
    """Median length, or the mean where more than half of them are 0."""
    return float(np.median(lengths)) or float(lengths.mean())


def rounding_distance(rows: Floats, single: bool) -> float:
    """Distance below which two rows count as equal: what rounding of their type can be, from typical lengths.

    max(SHARE spread, SINGLE size if ``single``); size = median |x_i|, spread = median |x_i - x_m| to the row m that
    lies at the median distance from the mean, which no outlier moves.

    >>> [round(rounding_distance(np.array([[1.0], [2.0], [4.0]]), single), 9) for single in (True, False)]
    [1.907e-06, 1.5e-08]
    """
    lengths = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
    middle = rows[np.argsort(lengths, kind="stable")[len(rows) // 2]]
    spread = _typical(np.linalg.norm(rows - middle, axis=1))
    return max(SHARE * spread, SINGLE * _typical(np.linalg.norm(rows, axis=1)) if single else 0.0)


def _runs(rows: Floats, distance: float) -> Indices:
    """A number per row, equal for rows that may be connected by steps of at most ``distance``."""
    rng = np.random.default_rng(0)
    slack = (rows.shape[1] + 4) * float(np.finfo(np.float64).eps) * float(np.linalg.norm(rows, axis=1).max())
    run = np.zeros(len(rows), dtype=np.intp)
    for _ in range(PROJECTIONS):
        direction = rng.standard_normal(rows.shape[1])
        place = rows @ (direction / np.linalg.norm(direction))
        order = np.lexsort((place, run))
        apart = (np.diff(place[order]) > distance + 2 * slack) | (np.diff(run[order]) > 0)
        run[order] = np.concatenate([[0], np.cumsum(apart)])
    return run


def _components(rows: Floats, distance: float) -> Indices:
    """Which rows are connected by steps of at most ``distance``: a number per row."""
    component = np.full(len(rows), -1, dtype=np.intp)
    for first in range(len(rows)):
        if component[first] >= 0:
            continue
        component[first] = component.max() + 1
        queue = [first]
        while queue:
            free = np.flatnonzero(component < 0)
            near = free[np.linalg.norm(rows[free] - rows[queue.pop()], axis=1) <= distance]
            component[near] = component[first]
            queue += near.tolist()
    return component


def groups_within(rows: Floats, distance: float) -> Indices:
    """Rows joined by steps of at most ``distance`` in one group: for every row the first row of its group.

    Single linkage, so that the order of rows does not matter and a near b near c are one group.

    >>> groups_within(np.array([[0.0], [5.0], [2.0], [1.0]]), 1.0).tolist()
    [0, 1, 0, 0]
    """
    run, leader = _runs(rows, distance), np.arange(len(rows))
    order = np.argsort(run, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(run[order])) + 1):
        if len(members) > 1:
            _, first, component = np.unique(
                _components(rows[members], distance), return_index=True, return_inverse=True
            )
            leader[members] = members[first[component]]
    return leader


def merged(points: Floats, values: Floats) -> tuple[Floats, Indices]:
    """The points that are left when rows whose ``values`` are equal but for rounding are one, and which is whose.

    Equal rows become one, then those within ``rounding_distance`` their mean. Nothing else is touched, so that data
    without such rows keep every bit.
    Shapes: points, values (stimuli, units), of which points are the centred and scaled values -> (distinct, units) in
    order of appearance, (stimuli,).

    >>> rows = np.array([[0.0], [1 / 3], [1 / 3 + 1e-12], [1.0]])
    >>> points, index = merged(rows, rows)
    >>> len(points), index.tolist()
    (3, [0, 1, 1, 2])
    """
    points, index = distinct(points)
    if len(points) < 2:
        return points, index
    rows = values[np.unique(index, return_index=True)[1]]
    single, rows = of_single_precision(rows), rows / max(rows.max(), -rows.min())
    leader = groups_within(rows, rounding_distance(rows, single))
    leaders, group = np.unique(leader, return_inverse=True)
    if len(leaders) == len(points):
        return points, index
    total = np.zeros((len(leaders), points.shape[1]))
    np.add.at(total, group, points)
    return total / np.bincount(group)[:, None], group[index]
