"""Dimension against depth, at equal numbers of units: what a network's features can be compared by.

The dimension of features rises with their number alone. A network has more channels the deeper one looks, so that a
curve over depth of all channels rises for every network, whatever it has learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics._arrays import Array, Floats, to_complete_matrix
from metrics.dimensionality.curves import Estimator

FEWEST_DRAWS = 8
"""Draws whose spread is looked at first."""


@dataclass(frozen=True)
class DimensionAtSize:
    """A dimension at a number of units: ``mean`` over ``draws`` random parts, and the relative ``spread`` of that mean.

    spread: standard error / abs(mean), 0 where all units were taken.
    """

    mean: float
    spread: float
    draws: int


def dimension_at_size(
    responses: Array,
    estimator: Estimator,
    units: int,
    tolerance: float = 0.01,
    most: int = 1000,
    seed: int = 0,
) -> DimensionAtSize:
    """A dimension at a number of units, averaged over random draws of them until the mean's spread is small.

    spread = s / (sqrt(draws) abs(mean)), s the deviation (ddof 1) over draws without replacement; draws are added
    until it is below ``tolerance``, or there are ``most`` of them. All units, or more than there are, are one draw.
    Shapes: responses (stimuli, units) -> ``DimensionAtSize``.
    Edge rule: NaN once a draw's estimate is NaN; units below 1, fewer than two draws at most, and NaN or infinite
    responses are ValueErrors. ``spread`` says how far the mean is from settled where ``most`` ended it.
    Source: ours, a reference design (section 2c' of the notes: dimensions compare at equal numbers only).

    >>> wide = np.random.default_rng(0).normal(size=(200, 40))
    >>> result = dimension_at_size(wide, lambda part: float(part.shape[1]), 7)
    >>> result.mean, result.spread, result.draws
    (7.0, 0.0, 8)
    """
    if units < 1 or most < 2:
        raise ValueError(f"units must be 1 or more and most 2 or more; got {units} and {most}")
    matrix = to_complete_matrix(responses, "responses")
    if units >= matrix.shape[1]:
        return DimensionAtSize(estimator(matrix), 0.0, 1)
    rng = np.random.default_rng([seed, units])
    values: list[float] = []
    while len(values) < min(FEWEST_DRAWS, most) or (_spread(values) >= tolerance and len(values) < most):
        values.append(estimator(matrix[:, np.sort(rng.permutation(matrix.shape[1])[:units])]))
        if np.isnan(values[-1]):
            return DimensionAtSize(float("nan"), float("nan"), len(values))
    return DimensionAtSize(float(np.mean(values)), _spread(values), len(values))


def _spread(values: Sequence[float]) -> float:
    """Standard error of the mean, relative to it."""
    mean, error = abs(float(np.mean(values))), float(np.std(values, ddof=1) / len(values) ** 0.5)
    return error / mean if mean > 0 else 0.0 if error == 0 else float("inf")


def depth_dimensions(
    features: Sequence[Array], estimator: Estimator, units: int | None = None, tolerance: float = 0.01, seed: int = 0
) -> tuple[DimensionAtSize, ...]:
    """The dimension of every block's features at one number of units, ``units`` or that of the narrowest block.

    See ``dimension_at_size``; give both a trained and a random network the same ``units``.
    Shapes: features, one (stimuli, units) a block, each its own number of units -> one ``DimensionAtSize`` a block.
    Edge rule: no block, and a block narrower than ``units``, are ValueErrors.
    Source: ours, a reference design.

    >>> blocks = [np.eye(9)[:, :3], np.eye(9)]
    >>> [block.mean for block in depth_dimensions(blocks, lambda part: float(part.shape[1]))]
    [3.0, 3.0]
    """
    matrices: list[Floats] = [to_complete_matrix(block, "features") for block in features]
    narrowest = min((matrix.shape[1] for matrix in matrices), default=0)
    size = narrowest if units is None else units
    if not 1 <= size <= narrowest:
        raise ValueError(f"units must be 1 to {narrowest}, as many as the narrowest block has; got {size}")
    return tuple(dimension_at_size(matrix, estimator, size, tolerance, seed=seed) for matrix in matrices)
