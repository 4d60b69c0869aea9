"""How many dimensions a population uses, linearly and locally, and whether a twin uses as many as the brain.

The papers' exact alignment score was not readable (see section 2c' of the notes), so the scores below are a
reference design under their own names, not a reproduction. Both estimators are biased by the numbers of
stimuli and units: compare only equal numbers of both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, same_shape, to_complete_matrix, to_float
from metrics.hierarchy import kendall_tau

CANDIDATES = 6
"""Neighbours kept from the fast distances before the two nearest are chosen by exact ones."""

LATTICE = 1e-9
"""Kept ln mu that all stay below this are rounding noise around equal distances."""

ROWS = 1024
"""Points whose distances to all others are held in memory at once."""


def _centred(responses: Array) -> Floats:
    """Responses less their mean over stimuli, scaled to a peak of 1; all zero when constant."""
    matrix = to_complete_matrix(responses, "responses")
    if not matrix.size:
        return matrix
    largest = np.abs(matrix).max()
    matrix = matrix / (largest or 1.0)
    matrix = matrix - matrix.mean(axis=0)
    peak = np.abs(matrix).max()
    return matrix / peak if peak > 1e-12 else np.zeros_like(matrix)


def participation_ratio(responses: Array) -> float:
    """Linear dimensionality: how many principal axes carry the variance, were it shared evenly.

    PR = (sum_k l_k)^2 / sum_k l_k^2 over the eigenvalues of the covariance, computed as trace^2 / squared
    norm of the smaller of Gram matrix and covariance, without an eigendecomposition.
    Shapes: responses (stimuli, units), any unit of measure -> float in [1, min(stimuli - 1, units)].
    Edge rule: constant data or a single stimulus give NaN; NaN or infinite responses are a ValueError.
    Biased: isotropic data of D units give about n D / (n + D).
    Source: effective dimensionality of Elmoznino and Bonner 2024; Gao et al. 2017.

    >>> participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    2.0
    """
    matrix = _centred(responses)
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    norm = float((product**2).sum())
    return float(np.trace(product) ** 2 / norm) if norm > 0 else float("nan")


def _near(points: Floats, norms: Floats, rows: slice) -> NDArray[np.intp]:
    """Indices of the nearest candidates of some points by |b|^2 - 2 a b, the point itself left out."""
    squared = norms - 2 * points[rows] @ points.T  # the row's own norm does not change the order
    squared[np.arange(len(squared)), np.arange(rows.start, rows.start + len(squared))] = np.inf
    kept = min(CANDIDATES, len(points) - 1)
    return np.argpartition(squared, kept - 1, axis=1)[:, :kept]


def _two_nearest(points: Floats) -> Floats:
    """Distances to the two nearest neighbours, (points, 2), by direct difference of a few candidates."""
    norms = (points**2).sum(axis=1)
    found = []
    for start in range(0, len(points), ROWS):
        rows = slice(start, min(start + ROWS, len(points)))
        near = _near(points, norms, rows)
        columns = [((points[rows] - points[near[:, k]]) ** 2).sum(axis=1) for k in range(near.shape[1])]
        found.append(np.sort(np.stack(columns, axis=1), axis=1)[:, :2])
    return np.sqrt(np.concatenate(found))


def two_nn(responses: Array, discard: float = 0.1) -> float:
    """Intrinsic dimension of the response manifold from the two nearest neighbours of every stimulus.

    mu = r2 / r1 follows F(mu) = 1 - mu^-d, so d is the slope through the origin of -ln(1 - F) on ln mu, with
    F = rank / N over the smallest 1 - ``discard`` of the mu; a point with F = 1 (discard 0) is left out.
    Shapes: responses (stimuli, units), any unit of measure -> float above 0.
    Edge rule: exactly equal stimuli are merged into one point first; fewer than three distinct points, fewer
    than two kept ratios, or kept ratios that are all 1 (a lattice) give NaN; NaN or infinite responses are a
    ValueError. Biased down as d grows: uniform data of d = 20 give about 15 with 2,000 stimuli.
    Source: Facco et al. 2017; the fit of scikit-dimension's TwoNN (which drops duplicates unmerged).

    >>> points = np.random.default_rng(0).random((1000, 2))
    >>> round(two_nn(points @ np.ones((2, 5)) + points @ np.eye(2, 5)), 1)
    2.0
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard must lie in [0, 1); got {discard}")
    points = np.unique(_centred(responses) + 0.0, axis=0)  # + 0.0 turns -0.0 into 0.0
    if len(points) < 3:
        return float("nan")
    nearest = _two_nearest(points)
    ratio = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))[: int(len(points) * (1 - discard))]
    rank = np.arange(1, len(ratio) + 1)
    ratio, height = ratio[rank < len(points)], -np.log1p(-rank[rank < len(points)] / len(points))
    if len(ratio) < 2 or ratio[-1] <= LATTICE:
        return float("nan")
    return float(ratio @ height / (ratio @ ratio))


def closeness(twin: float, brain: float) -> float:
    """How close a twin's dimensionality is to the brain's, on a ratio scale: exp(-|ln(twin / brain)|).

    That is min(twin, brain) / max(twin, brain). Shapes: two floats in one unit -> float in
    (0, 1], 1 is equal. Edge rule: NaN when either is not positive and finite.
    Source: ours, a reference design.

    >>> closeness(5.0, 10.0) == closeness(20.0, 10.0) == 0.5
    True
    """
    if not (0 < twin < float("inf") and 0 < brain < float("inf")):
        return float("nan")
    return float(min(twin, brain) / max(twin, brain))


def collapse_index(curve: Array) -> float:
    """How much of its peak dimensionality is left in the last area: last / peak.

    Shapes: curve (areas,) in hierarchical order, any unit -> float in (0, 1], 1 is no collapse.
    Edge rule: NaN below three areas, or when any area is not positive and finite.
    Source: ours, after the late-layer collapse described in section 2c' of the notes.

    >>> collapse_index([4.0, 8.0, 2.0])
    0.25
    """
    values = to_float(curve).ravel()
    if len(values) < 3 or not (np.isfinite(values) & (values > 0)).all():
        return float("nan")
    return float(values[-1] / values.max())


@dataclass(frozen=True)
class DimensionalityAlignment:
    """A twin's dimensionality beside the brain's over the hierarchy, for one measure.

    closeness: (areas,), see ``closeness``, 1 is equal. tau: Kendall's tau-b between the two curves, 1 is the
    same order. curve_distance: mean over areas of |twin / twin's peak - brain / brain's peak|, 0 is the same
    shape. collapse: the twin's ``collapse_index``.
    """

    closeness: Array
    tau: float
    curve_distance: float
    collapse: float

    @property
    def curve_similarity(self) -> float:
        """1 - ``curve_distance``: 1 is the same shape.

        >>> DimensionalityAlignment(np.ones(3), 1.0, 0.25, 1.0).curve_similarity
        0.75
        """
        return 1.0 - self.curve_distance


def dimensionality_alignment(twin: Array, brain: Array) -> DimensionalityAlignment:
    """Compare two dimensionality curves over the same areas, by value, by order and by shape.

    Shapes: twin, brain (areas,) in hierarchical order, in one unit -> ``DimensionalityAlignment``.
    Edge rule: an area where either is not positive and finite has closeness NaN and is left out of tau and
    curve_distance; tau, curve_distance and collapse are NaN below three areas.
    Source: ours, a reference design (section 2c' of the notes: the paper's own score was not readable).

    >>> result = dimensionality_alignment([2.0, 4.0, 8.0], [4.0, 8.0, 16.0])
    >>> result.closeness.tolist(), result.tau, result.curve_distance, result.collapse
    ([0.5, 0.5, 0.5], 1.0, 0.0, 1.0)
    """
    ours, theirs = to_float(twin).ravel(), to_float(brain).ravel()
    same_shape(ours, theirs, "twin and brain")
    close = np.array([closeness(float(a), float(b)) for a, b in zip(ours, theirs, strict=True)], np.float64)
    valid = ~np.isnan(close)
    tau = distance = float("nan")
    if valid.sum() >= 3:
        first, second = ours[valid], theirs[valid]
        tau = kendall_tau(first, second)
        distance = float(np.abs(first / first.max() - second / second.max()).mean())
    return DimensionalityAlignment(like(close, twin, brain), tau, distance, collapse_index(ours))
