"""Control of false discoveries when many units are tested at once."""

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_float


def _checked(p: Array) -> tuple[Floats, NDArray[np.bool_]]:
    """The p-values, and which are not NaN."""
    values = to_float(p)
    present = ~np.isnan(values)
    if ((values[present] < 0) | (values[present] > 1)).any():
        raise ValueError(f"p-values must lie in [0, 1]; got {values[present].min()} to {values[present].max()}")
    return values, present


def benjamini_hochberg(p: Array) -> Array:
    """p-values adjusted for the false discovery rate: reject where the result is at most the rate allowed.

    p_adj(i) = min_{j >= i} p(j) m / j over the m sorted p-values, at most 1.
    Shapes: p (any shape) -> the same shape, in [0, 1].
    Edge rule: NaN stays NaN and does not count in m; a p outside [0, 1] is a ValueError.
    Source: Benjamini and Hochberg 1995; valid for independent and for positively dependent tests.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.5]
    """
    values, present = _checked(p)
    adjusted = np.full_like(values, np.nan)
    order = np.argsort(values[present])[::-1]
    sorted_p = values[present][order]
    stepped = np.minimum.accumulate(sorted_p * len(order) / np.arange(len(order), 0, -1))
    back = np.empty_like(stepped)
    back[order] = np.minimum(stepped, 1.0)
    adjusted[present] = back
    return like(adjusted, p)


def holm(p: Array) -> Array:
    """p-values adjusted for the chance of a single false rejection: reject where the result is at most that chance.

    p_adj(i) = max_{j <= i} (m - j + 1) p(j) over the m sorted p-values, at most 1.
    Shapes: p (any shape) -> the same shape, in [0, 1].
    Edge rule: NaN stays NaN and does not count in m; a p outside [0, 1] is a ValueError.
    Source: Holm 1979; valid however the tests depend on each other.

    >>> holm([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
    [0.04, 0.09, 0.09, 0.5]
    """
    values, present = _checked(p)
    adjusted = np.full_like(values, np.nan)
    order = np.argsort(values[present])
    stepped = np.maximum.accumulate(values[present][order] * np.arange(len(order), 0, -1))
    back = np.empty_like(stepped)
    back[order] = np.minimum(stepped, 1.0)
    adjusted[present] = back
    return like(adjusted, p)
