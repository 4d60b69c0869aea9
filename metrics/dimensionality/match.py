"""Whether a twin uses as many dimensions as the brain, area by area and over the hierarchy.

The papers' exact alignment score was not readable (see section 2c' of the notes), so the scores below are a
reference design under their own names, not a reproduction. Beside the match area by area stand the three
measures that section 2c' proposes for whole depth curves, of any numbers of depths: the order and the late slope
and collapse of each curve (``depth_profile``), and the distance between two (``depth_curve_similarity``).
"""

from dataclasses import dataclass

import numpy as np

from metrics._arrays import Array, Floats, like, same_shape, to_float
from metrics.inference.hierarchy import kendall_tau


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


def _peaked(curve: Array, name: str) -> Floats:
    """A depth curve over its own peak, (depths,); all NaN below three depths or when any is not positive and finite."""
    values = to_float(curve)
    if values.ndim != 1:
        raise ValueError(f"{name} must be one dimension per depth, a vector; got shape {values.shape}")
    if len(values) < 3 or not (np.isfinite(values) & (values > 0)).all():
        return np.full(len(values), np.nan)
    return values / values.max()


@dataclass(frozen=True)
class DepthProfile:
    """How one dimensionality curve runs over depth, see ``depth_profile``.

    tau: Kendall's tau-b between dimension and depth, 1 rises throughout. late_slope: slope over the last third
    of the depths, in shares of the peak per whole depth; below 0 is a late collapse. collapse: last / peak.
    """

    tau: float
    late_slope: float
    collapse: float


def depth_profile(curve: Array) -> DepthProfile:
    """Order, late slope and collapse of a dimensionality curve over depth, of a twin or of a brain.

    tau = ``kendall_tau`` of dimension and depth. late_slope = least-squares slope of dimension / peak on depth in
    [0, 1] over the last third of the depths, rounded up and at least two. collapse = ``collapse_index``.
    Shapes: curve (depths,) in order of depth, evenly spaced, any unit -> ``DepthProfile``.
    Edge rule: all NaN below three depths or when any is not positive and finite, tau also when all are equal; a
    curve that is no vector is a ValueError.
    Source: ours, a reference design: measures (i) and (iii) proposed in section 2c' of the notes.

    >>> profile = depth_profile([2.0, 4.0, 8.0, 6.0])
    >>> round(profile.tau, 2), round(profile.late_slope, 2), profile.collapse
    (0.67, -0.75, 0.75)
    """
    share = _peaked(curve, "curve")
    if np.isnan(share).any() or not len(share):
        return DepthProfile(float("nan"), float("nan"), float("nan"))
    depth = np.linspace(0, 1, len(share))
    late = max(2, -(-len(share) // 3))
    slope = float(np.polyfit(depth[-late:], share[-late:], 1)[0])
    return DepthProfile(kendall_tau(share, depth), slope, collapse_index(share))


def depth_curve_similarity(twin: Array, brain: Array) -> float:
    """How alike two dimensionality curves are in shape, whatever their numbers of depths: 1 - L1 distance.

    1 - integral over x in [0, 1] of |twin(x) / twin's peak - brain(x) / brain's peak|, first depth at 0, last at
    1, straight lines between; the integral is exact.
    Shapes: twin (depths,), brain (its own depths,), in order and evenly spaced, any units -> float in (0, 1],
    1 is the same shape.
    Edge rule: NaN below three depths on either side or when any value is not positive and finite; curves that
    are no vectors are a ValueError.
    Source: ours, a reference design: measure (ii) proposed in section 2c' of the notes.
    ``DimensionalityAlignment.curve_similarity`` differs: a plain mean over the areas that both have.

    >>> depth_curve_similarity([1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0, 6.0])
    1.0
    """
    first, second = _peaked(twin, "twin"), _peaked(brain, "brain")
    if len(first) < 3 or len(second) < 3:
        return float("nan")
    one, two = np.linspace(0, 1, len(first)), np.linspace(0, 1, len(second))
    x = np.union1d(one, two)
    gap = np.interp(x, one, first) - np.interp(x, two, second)
    return float(1 - (_absolute_areas(gap[:-1], gap[1:]) * np.diff(x)).sum())


def _absolute_areas(left: Floats, right: Floats) -> Floats:
    """Mean of |y| along straight lines from ``left`` to ``right``, also where they cross 0.

    >>> _absolute_areas(np.array([1.0, -1.0]), np.array([2.0, 1.0])).tolist()
    [1.5, 0.5]
    """
    total = np.abs(left) + np.abs(right)
    crossed = (left**2 + right**2) / np.where(total > 0, 2 * total, 1.0)
    return np.where(left * right < 0, crossed, total / 2)
