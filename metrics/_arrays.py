"""Adapters at the edge of every metric: numpy or torch in, float64 numpy inside, the caller's kind out.

Torch is never imported here. A tensor can only exist when the caller has imported torch, so
``sys.modules`` is asked for it. Scalars leave as plain floats.
"""

import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A numpy array, a torch tensor or a nested sequence of numbers; only a tensor gives tensors back."""

Floats: TypeAlias = NDArray[np.float64]


def is_tensor(values: Array) -> bool:
    """Whether ``values`` is a torch tensor, without importing torch.

    >>> is_tensor([1.0, 2.0])
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def to_float(values: Array) -> Floats:
    """``values`` as a float64 numpy array of the same shape; tensors of any dtype, device and gradient state.

    >>> to_float([1, 2]).dtype
    dtype('float64')
    """
    if is_tensor(values):
        torch = sys.modules["torch"]
        values = values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, dtype=np.float64)


def to_labels(values: Array, name: str) -> NDArray[Any]:
    """``values`` as a numpy vector of labels, of any dtype; a missing (NaN) label is a ValueError.

    >>> to_labels(["a", "b"], "objects").shape
    (2,)
    """
    labels = np.asarray(values.detach().cpu().numpy() if is_tensor(values) else values)
    if labels.ndim != 1:
        raise ValueError(f"{name} must be one label per row, a vector; got shape {labels.shape}")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(f"{name} holds {int(np.isnan(labels).sum())} NaN labels; every row needs a label")
    return labels


def to_matrix(values: Array, name: str) -> Floats:
    """``values`` as float64 (rows, columns); any other number of axes is a ValueError.

    >>> to_matrix([[1, 2, 3]], "responses").shape
    (1, 3)
    """
    matrix = to_float(values)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be (stimuli, units), two axes; got shape {matrix.shape}")
    return matrix


def to_complete_matrix(values: Array, name: str) -> Floats:
    """``to_matrix`` for metrics that cannot leave entries out: a NaN or an infinity is a ValueError.

    >>> to_complete_matrix([[1.0, float("nan")]], "responses")
    Traceback (most recent call last):
    ValueError: responses holds 1 NaN or infinite entries of 2; leave those stimuli or units out
    """
    matrix = to_matrix(values, name)
    bad = int(matrix.size - np.isfinite(matrix).sum())
    if bad:
        raise ValueError(
            f"{name} holds {bad} NaN or infinite entries of {matrix.size}; leave those stimuli or units out"
        )
    return matrix


def to_repeats(values: Array) -> Floats:
    """``values`` as float64 (stimuli, units, repeats); (stimuli, units) counts as a single repeat.

    >>> to_repeats([[1.0, 2.0]]).shape
    (1, 2, 1)
    """
    repeats = to_float(values)
    if repeats.ndim == 2:
        repeats = repeats[:, :, None]
    if repeats.ndim != 3:
        raise ValueError(f"repeats must be (stimuli, units, repeats); got shape {repeats.shape}")
    return repeats


def of_single_precision(values: Floats) -> bool:
    """Whether every number is one that float32 holds exactly, as those of float32 arrays are.

    >>> of_single_precision(np.array([0.5, 3.0])), of_single_precision(np.array([0.1]))
    (True, False)
    """
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float32) == values).all())


def same_shape(first: Floats, second: Floats, names: str) -> None:
    """A ValueError naming both shapes unless they are equal.

    >>> same_shape(np.ones((2, 3)), np.ones((2, 3)), "predicted and observed")
    """
    if first.shape != second.shape:
        raise ValueError(f"{names} must have one shape; got {first.shape} and {second.shape}")


def like(result: NDArray[Any], *inputs: Array) -> Array:
    """``result`` in the caller's kind: a tensor where the first tensor of ``inputs`` lies, else numpy.

    >>> type(like(np.ones(2), [1.0, 2.0])).__name__
    'ndarray'
    """
    for values in inputs:
        if is_tensor(values):
            return sys.modules["torch"].from_numpy(np.ascontiguousarray(result)).to(values.device)
    return result


def mean_of_finite(values: Floats) -> float:
    """Mean of the entries that are not NaN, and NaN when none is left.

    >>> mean_of_finite(np.array([1.0, np.nan, 3.0]))
    2.0
    """
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else float("nan")
