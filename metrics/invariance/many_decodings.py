"""``object_decoding`` of many responses at once, or of the same responses under many labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Floats
from metrics.invariance.decoding import transform_folds

CONSTANT = 1e-12


def _hat(train: Floats, test: Floats, penalty: float) -> Floats:
    """Weights (..., test rows, train rows) of class targets in the scores of ``object_decoding``'s ridge."""
    mean, deviation = train.mean(axis=-2, keepdims=True), train.std(axis=-2, keepdims=True)
    constant = deviation <= CONSTANT * np.abs(train).max(axis=-2, keepdims=True)
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
    train, test = (train - mean) * scale, (test - mean) * scale
    samples, units = train.shape[-2:]
    ridge = penalty * np.maximum((train**2).sum(axis=(-2, -1)) / samples, 1.0)[..., None, None]
    turned = np.swapaxes(train, -1, -2)
    if units > samples:
        kernel = train @ turned + ridge * np.eye(samples)
        return np.swapaxes(np.linalg.solve(kernel, train @ np.swapaxes(test, -1, -2)), -1, -2)
    return np.asarray(test @ np.linalg.solve(turned @ train + ridge * np.eye(units), turned))


def object_decodings(
    responses: Floats, objects: NDArray[np.intp], transforms: NDArray[Any], folds: int = 5, penalty: float = 1.0
) -> Floats:
    """Accuracies of ``object_decoding`` for a stack of responses, of labels, or of both, in one go.

    Shapes: responses ([stack,] views, units) without NaN, objects ([stack,] views) numbers from 0 on, transforms
    (views,) -> (stack,), as ``object_decoding`` gives them one by one (but for ties within rounding).
    Edge rule: as there, but unchecked: every object must be seen in two folds.

    >>> views = np.array([[0.0], [0.1], [1.0], [1.1]])
    >>> object_decodings(np.stack([views, 0 * views]), np.array([0, 0, 1, 1]), np.array([0, 90, 0, 90])).tolist()
    [1.0, 0.5]
    """
    fold = transform_folds(transforms, folds)
    hot = np.eye(int(objects.max()) + 1)[objects]
    hits = np.zeros(np.broadcast_shapes(responses.shape[:-2], objects.shape[:-1]))
    for index in np.unique(fold):
        test = fold == index
        known = hot[..., ~test, :]
        prior = known.mean(axis=-2, keepdims=True)
        weights = _hat(responses[..., ~test, :], responses[..., test, :], penalty)
        chosen = np.argmax(weights @ (known - prior) + prior, axis=-1)
        hits += (chosen == objects[..., test]).sum(axis=-1)
    return hits / objects.shape[-1]
