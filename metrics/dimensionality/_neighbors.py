"""Nearest neighbours of every stimulus: fast search, exact distances, duplicates merged.

Distances from one matrix product are wrong by rounding where points lie close together, and exact duplicates then
have small distances instead of 0. So the product only proposes, and differences decide.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Floats

ROWS = 512
"""Points whose distances to all later ones are held in memory at once."""

DEPTH = 32
"""Largest number of distances of which only the smallest is looked at for the search bound."""

PIECE = 2**16
"""Numbers per piece of exact differences; keeps them in the processor's cache."""

Indices = NDArray[np.intp]
Reals = NDArray[np.floating]


def distinct(points: Floats) -> tuple[Floats, Indices]:
    """The distinct rows in order of appearance, and for every row which of them it is.

    >>> points, index = distinct(np.array([[2.0], [1.0], [2.0]]))
    >>> points.ravel().tolist(), index.tolist()
    ([2.0, 1.0], [0, 1, 0])
    """
    first = np.arange(len(points))
    column = points[:, 0] if points.shape[1] else np.zeros(len(points))
    _, value, count = np.unique(column, return_inverse=True, return_counts=True)
    first_rows: dict[bytes, int] = {}
    for row in np.flatnonzero(count[value] > 1).tolist():
        first[row] = first_rows.setdefault((points[row] + 0.0).tobytes(), row)  # + 0.0 turns -0.0 into 0.0
    rows, index = np.unique(first, return_inverse=True)
    return (points if len(rows) == len(points) else points[rows]), index


def _tile(points: Reals, norms: Reals, start: int, stop: int) -> Reals:
    """Fast squared distances |a|^2 + |b|^2 - 2 a b of some points to all from the first of them on."""
    squared = (-2 * points[start:stop]) @ points[start:].T
    squared += norms[start:]
    squared += norms[start:stop, None]
    np.fill_diagonal(squared, np.inf)
    return squared


def _lower(best: Reals, squared: Reals) -> Reals:
    """The smallest of every column, (count, columns), so far and in ``squared``, seen only as minima of chunks."""
    count = len(best)
    depth = max(1, min(DEPTH, len(squared) // (8 * count)))
    even = len(squared) // depth * depth
    minima = squared[:even].reshape(depth, -1, squared.shape[1]).min(axis=0)
    return np.partition(np.concatenate([best, minima, squared[even:]]), count - 1, axis=0)[:count]


def _below(squared: Reals, bound: Reals) -> tuple[Indices, Indices, Reals]:
    """Row, column and value of the entries that are not above the bound."""
    flat = np.flatnonzero(squared <= bound)
    row, column = np.divmod(flat, squared.shape[1])
    return row, column, squared[row, column]


def _tiles(points: Reals, norms: Reals, best: Reals, slack: float) -> Iterator[tuple[Indices, Indices, Reals]]:
    """Point, other point and fast squared distance of the candidates of every tile, seen from both its sides."""
    last = len(best) - 1
    for start in range(0, len(points), ROWS):
        stop = min(start + ROWS, len(points))
        squared = _tile(points, norms, start, stop)
        best[:, start:stop] = _lower(best[:, start:stop], squared.T)
        row, column, value = _below(squared, best[last, start:stop, None] + slack)
        yield row + start, column + start, value
        if stop < len(points):
            squared = squared[:, stop - start :]
            best[:, stop:] = _lower(best[:, stop:], squared)
            row, column, value = _below(squared, best[last, stop:] + slack)
            yield column + stop, row + start, value


def _candidates(points: Reals, count: int, most: float) -> tuple[Indices, Indices] | None:
    """Pairs of a point and another that are certain to hold its ``count`` nearest; None when more than ``most``.

    The ``count``-th smallest fast distance, plus what rounding can do to it and to the candidate, bounds the
    fast distance of every true neighbour. Each is off by at most (units + 4) eps max |a|^2; the slack is four times
    that. Chunk minima are entries themselves, so the bound from them is never too low.
    """
    norms = (points**2).sum(axis=1)
    slack = 4 * float(np.finfo(points.dtype).eps) * (points.shape[1] + 4) * float(norms.max())
    best = np.full((count, len(points)), np.inf, points.dtype)
    tiles, total = [], 0
    for part in _tiles(points, norms, best, slack):
        tiles.append(part)
        total += len(part[0])
        if total > most:
            return None
    point, other, squared = (np.concatenate(parts) for parts in zip(*tiles, strict=True))
    near = squared <= best[-1, point] + slack
    return point[near], other[near]


def _exact(points: Floats, point: Indices, other: Indices) -> Floats:
    """Squared distances of pairs of points by direct difference, (pairs,)."""
    step = max(1, PIECE // max(1, points.shape[1]))
    parts = [slice(start, start + step) for start in range(0, len(point), step)]
    return np.concatenate([((points[point[part]] - points[other[part]]) ** 2).sum(axis=1) for part in parts])


def nearest_distances(points: Floats, count: int) -> Floats:
    """Distances of every point to its ``count`` nearest others, in rising order, exact to float64.

    Float32 products propose a few candidates, among them for certain the nearest; where the points lie too close
    for float32, float64 products do. The candidates' distances are then taken by direct difference in float64.
    Shapes: points (points, units), centred, of a size near 1; count in [1, points - 1] -> (points, count).

    >>> nearest_distances(np.array([[-1.0], [0.0], [2.0]]), 2).tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    most = len(points) * (8 * count + len(points) / 20)
    pairs = _candidates(points.astype(np.float32), count, most) or _candidates(points, count, float("inf"))
    assert pairs is not None
    squared = _exact(points, *pairs)
    order = np.lexsort((squared, pairs[0]))
    first = np.searchsorted(pairs[0][order], np.arange(len(points)))
    return np.sqrt(squared[order][first[:, None] + np.arange(count)])
