"""How many dimensions a population uses, locally and nonlinearly: from distances to neighbours.

Biased down as the dimension grows, and by the number of stimuli: compare only equal numbers of stimuli and units.
Stimuli that are equal, or differ by rounding alone, are merged into one point first and counted by
``count_duplicates``.
"""

from collections.abc import Sequence

import numpy as np

from metrics._arrays import Array, Floats, like, to_float
from metrics.dimensionality._duplicates import merged
from metrics.dimensionality._neighbors import Indices, nearest_distances
from metrics.dimensionality.linear import centred

SCALES = (1, 2, 4, 8, 16, 32, 64)
"""Neighbour ranks at which ``gride`` looks, each against twice the rank."""

LATTICE = 1e-9
"""Log ratios of distances below this are rounding noise around equal distances."""


def _distinct(responses: Array) -> tuple[Floats, Indices]:
    """The distinct stimuli, centred, and which of them every stimulus is."""
    return merged(centred(responses), to_float(responses))


def count_duplicates(responses: Array) -> int:
    """How many stimuli equal an earlier one, exactly or but for rounding: every estimator of this file merges them.

    stimuli - distinct stimuli. Two stimuli are one when their distance is at most 1.5e-8 (the square root of float64's
    rounding) of the typical distance between stimuli, or, where all numbers are such as float32 holds, 9.5e-7 (eight
    of its roundings) of a stimulus's typical length; stimuli that are joined by such steps are one, and stand at their
    mean. The order of the stimuli does not matter, and data without duplicates are left as they are, to the bit.
    Shapes: responses (stimuli, units) -> int in [0, stimuli - 1].
    Edge rule: constant responses are one distinct stimulus; NaN or infinite responses are a ValueError.
    Source: duplicates make nearest-neighbour distances 0 or rounding noise (of features in float32, say).

    >>> count_duplicates([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [0.0, 1.0]])
    2
    """
    points, index = _distinct(responses)
    return len(index) - len(points)


def two_nn(responses: Array, discard: float = 0.1) -> float:
    """Intrinsic dimension of the response manifold from the two nearest neighbours of every stimulus.

    mu = r2 / r1 follows F(mu) = 1 - mu^-d, so d is the slope through the origin of -ln(1 - F) on ln mu, with
    F = rank / N over the smallest 1 - ``discard`` of the mu; a point with F = 1 (discard 0) is left out.
    Shapes: responses (stimuli, units), any unit of measure -> float above 0.
    Edge rule: stimuli that are equal but for rounding are merged (``count_duplicates``); fewer than three
    distinct points, fewer than two kept ratios, or kept ratios that are all 1 (a lattice) give NaN; NaN or infinite
    responses are a ValueError. Biased down as d grows: uniform data of d = 20 give about 15 with 2,000 stimuli.
    Source: Facco et al. 2017; the fit of scikit-dimension's TwoNN (which drops exact duplicates unmerged).

    >>> points = np.random.default_rng(0).random((1000, 2))
    >>> round(two_nn(points @ np.ones((2, 5)) + points @ np.eye(2, 5)), 1)
    2.0
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard must lie in [0, 1); got {discard}")
    points, _ = _distinct(responses)
    if len(points) < 3:
        return float("nan")
    nearest = nearest_distances(points, 2)
    ratio = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))[: int(len(points) * (1 - discard))]
    rank = np.arange(1, len(ratio) + 1)
    ratio, height = ratio[rank < len(points)], -np.log1p(-rank[rank < len(points)] / len(points))
    if len(ratio) < 2 or ratio[-1] <= LATTICE:
        return float("nan")
    return float(ratio @ height / (ratio @ ratio))


def _most_likely(ratio: Floats, scale: int) -> float:
    """The d at which the score of ``gride``'s likelihood is 0, from ln mu above 0; the score only falls with d."""
    from scipy.optimize import brentq  # imported late: takes longer than this whole file

    total = ratio.sum()

    def score(d: float) -> float:
        curved = (ratio / -np.expm1(-d * ratio)).sum()
        return float((len(ratio) - 1) / d + (scale - 1) * curved - (2 * scale - 1) * total)

    low = high = len(ratio) / total
    while score(low) < 0:
        low /= 2
    while score(high) > 0:
        high *= 2
    return float(brentq(score, low, high, xtol=1e-12 * high, rtol=1e-12))


def gride(responses: Array, scales: Sequence[int] = SCALES) -> dict[int, float]:
    """Intrinsic dimension against scale: from the distances to the k-th and the 2k-th neighbour of every stimulus.

    mu = r_2k / r_k has the density d (mu^d - 1)^(k - 1) / (mu^((2k - 1) d + 1) B(k, k)); d maximises the
    likelihood, with (N - 1) ln d in place of N ln d, which makes k = 1 unbiased: d = (N - 1) / sum ln mu.
    Shapes: responses (stimuli, units), any unit of measure; scales k -> {k: float above 0}.
    Edge rule: stimuli that are equal but for rounding are merged (``count_duplicates``); a scale with
    2 k >= distinct points gives NaN; a point with r_k = r_2k is left out, and fewer than two left give NaN; NaN or
    infinite responses and scales below 1 are ValueErrors. Falls with k on curved or bounded data: report the scale.
    Source: Denti et al. 2022; scikit-dimension's GRIDE (which also cuts the largest ratios).

    >>> {k: round(d) for k, d in gride(np.random.default_rng(0).random((1000, 2)), scales=(1, 8, 500)).items()
    ...  if d == d}
    {1: 2, 8: 2}
    """
    wrong = [scale for scale in scales if scale != int(scale) or scale < 1]
    if wrong:
        raise ValueError(f"scales must be whole neighbour ranks of 1 or more; got {wrong}")
    points, _ = _distinct(responses)
    result = {int(scale): float("nan") for scale in scales}
    usable = [scale for scale in result if 2 * scale < len(points)]
    nearest = np.log(nearest_distances(points, 2 * max(usable))) if usable else np.empty((0, 0))
    for scale in usable:
        ratio = nearest[:, 2 * scale - 1] - nearest[:, scale - 1]
        ratio = ratio[ratio > LATTICE]
        if len(ratio) > 1:
            result[scale] = _most_likely(ratio, scale)
    return result


def _inverse_dimension(points: Floats, neighbors: int) -> Floats:
    """Mean over j < k of ln(T_k / T_j) of every point, T_j the distance to its j-th neighbour; NaN if too few."""
    if neighbors < 2:
        raise ValueError(f"neighbors must be 2 or more; got {neighbors}")
    if neighbors >= len(points):
        return np.full(len(points), np.nan)
    nearest = np.log(nearest_distances(points, neighbors))
    mean = (nearest[:, -1:] - nearest[:, :-1]).mean(axis=1)
    return np.where(mean > LATTICE, mean, 0.0)


def levina_bickel(responses: Array, neighbors: int = 20) -> float:
    """Intrinsic dimension by maximum likelihood within every stimulus's neighbourhood, averaged as inverses.

    1 / d = mean over points of 1 / d(x), d(x) = [1 / (k - 1) sum_{j < k} ln(T_k / T_j)]^-1, T_j the distance of
    x to its j-th nearest neighbour and k = ``neighbors``.
    Shapes: responses (stimuli, units), any unit of measure -> float above 0.
    Edge rule: stimuli that are equal but for rounding are merged (``count_duplicates``); ``neighbors`` or
    fewer distinct points, or neighbours that are all equally far, give NaN; NaN or infinite responses and neighbors
    below 2 are ValueErrors.
    Source: Levina and Bickel 2004; the average of the inverses is MacKay and Ghahramani's 2005.

    >>> round(levina_bickel(np.random.default_rng(0).random((2000, 2))), 1)
    1.9
    """
    points, _ = _distinct(responses)
    inverse = _inverse_dimension(points, neighbors)
    mean = float(inverse.mean()) if len(inverse) else float("nan")
    return 1 / mean if mean > 0 else float("nan")


def local_dimension(responses: Array, neighbors: int = 20) -> Array:
    """Intrinsic dimension around every stimulus: the d(x) of ``levina_bickel``.

    d(x) = [1 / (k - 1) sum_{j < k} ln(T_k / T_j)]^-1, k = ``neighbors``; its relative spread is about
    1 / sqrt(k), and its plain mean is too high by (k - 1) / (k - 2).
    Shapes: responses (stimuli, units), any unit of measure -> (stimuli,).
    Edge rule: stimuli that are equal but for rounding are merged (``count_duplicates``) and share one
    value; a stimulus whose neighbours are all equally far is NaN, and so are all with ``neighbors`` or fewer distinct
    points; NaN or infinite responses and neighbors below 2 are ValueErrors.
    Source: Levina and Bickel 2004.

    >>> local_dimension(np.random.default_rng(0).random((100, 2))).shape
    (100,)
    """
    points, index = _distinct(responses)
    inverse = _inverse_dimension(points, neighbors)
    local = np.divide(1.0, inverse, out=np.full_like(inverse, np.nan), where=inverse > 0)
    return like(local[index], responses)
