"""Whether objects can be told apart under transformations that a linear decoder has never seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from metrics._arrays import Array, Floats, to_complete_matrix, to_labels


def transform_folds(transforms: NDArray[Any], folds: int) -> NDArray[np.intp]:
    """Fold of every row: the sorted distinct transformations cut into at most ``folds`` contiguous blocks.

    Neighbouring rotations share a fold, so a held-out view is not bracketed by its neighbours.
    Numbers sort by value, text by letters. Edge rule: blocks differ by at most one value.

    >>> transform_folds(np.array([270, 0, 90, 180]), folds=2).tolist()
    [1, 0, 0, 1]
    """
    values, position = np.unique(transforms, return_inverse=True)
    blocks = np.array_split(np.arange(len(values)), min(folds, len(values)))
    return np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])[position]


def _standardise(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Both parts z-scored with the training mean and deviation (ddof 0); constant units become 0 in both."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation <= 1e-12 * np.abs(train).max(axis=0, initial=0.0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=~constant)
    return (train - mean) * scale, (test - mean) * scale


def _ridge_scores(train: Floats, targets: Floats, test: Floats, penalty: float) -> Floats:
    """Least-squares class scores with a ridge, by the smaller of the two equal systems (units or samples)."""
    samples, units = train.shape
    if units > samples:
        kernel = train @ train.T
        kernel.flat[:: samples + 1] += penalty
        return test @ (train.T @ solve(kernel, targets, assume_a="pos"))
    covariance = train.T @ train
    covariance.flat[:: units + 1] += penalty
    return test @ solve(covariance, train.T @ targets, assume_a="pos")


def _decode(train: Floats, classes: NDArray[np.intp], test: Floats, penalty: float) -> NDArray[np.intp]:
    """Predicted class of every test row; the first class wins a tie."""
    train, test = _standardise(train, test)
    hot = np.eye(int(classes.max()) + 1)[classes]
    prior = hot.mean(axis=0)
    return np.argmax(_ridge_scores(train, hot - prior, test, penalty) + prior, axis=1)


def _check(classes: int, transforms: int, folds: int, penalty: float) -> None:
    """A ValueError unless there is something to decode and something to hold out."""
    if classes < 2:
        raise ValueError(f"object_decoding needs at least 2 objects; got {classes}")
    if transforms < 2:
        raise ValueError(f"object_decoding needs at least 2 transforms, to hold one out; got {transforms}")
    if folds < 2:
        raise ValueError(f"object_decoding needs at least 2 folds; got {folds}")
    if not penalty > 0:
        raise ValueError(f"object_decoding needs a penalty above 0; got {penalty}")


def _check_seen(classes: NDArray[np.intp], fold: NDArray[np.intp], names: NDArray[Any]) -> None:
    """A ValueError when an object would be tested without ever being trained on."""
    for index, name in enumerate(names):
        if len(np.unique(fold[classes == index])) < 2:
            raise ValueError(f"object {name!s} is seen in one fold of transforms only, so it cannot be held out")


def object_decoding(responses: Array, objects: Array, transforms: Array, folds: int = 5, penalty: float = 1.0) -> float:
    """Accuracy of a linear object decoder that is tested on transformations it was not trained on.

    One-vs-all ridge, closed form: min_W |Y - mean Y - Z W|^2 + penalty |W|^2, Y one-hot, Z the units z-scored
    on the training part; the largest of z W + mean Y wins. ``transform_folds`` holds out contiguous blocks.
    Shapes: responses (views, units), objects and transforms (views,) labels -> share of views in [0, 1],
    pooled over folds; chance is the largest class share (1 / objects when balanced).
    Edge rule: fewer than two objects, transforms or folds, an object seen in one fold only, and NaN or
    infinite responses are ValueErrors; a constant unit is ignored; constant responses decode at chance.
    Source: a closed-form stand-in for the held-out-rotation decoding of Hoeller et al. 2024 (PCA and SVM).

    >>> object_decoding([[0.0], [0.1], [1.0], [1.1]], ["cup", "cup", "hat", "hat"], [0, 90, 0, 90])
    1.0
    """
    matrix = to_complete_matrix(responses, "responses")
    names, classes = np.unique(to_labels(objects, "objects"), return_inverse=True)
    views = to_labels(transforms, "transforms")
    if not len(matrix) == len(classes) == len(views):
        raise ValueError(
            f"responses, objects and transforms must have one row per view; got {len(matrix)}, "
            f"{len(classes)} and {len(views)}"
        )
    _check(len(names), len(np.unique(views)), folds, penalty)
    fold = transform_folds(views, folds)
    _check_seen(classes, fold, names)
    hits = 0
    for held in np.unique(fold):
        test = fold == held
        hits += int((_decode(matrix[~test], classes[~test], matrix[test], penalty) == classes[test]).sum())
    return hits / len(classes)


def chance_corrected(accuracy: float, classes: int) -> float:
    """Accuracy on a scale where guessing is 0 and perfection 1: (accuracy - 1/c) / (1 - 1/c).

    Shapes: floats, no unit of measure. Edge rule: below chance is negative; fewer than two classes is a
    ValueError. Source: Cohen's kappa for balanced classes.

    >>> chance_corrected(0.5, 2), chance_corrected(1.0, 20)
    (0.0, 1.0)
    """
    if classes < 2:
        raise ValueError(f"chance_corrected needs at least 2 classes; got {classes}")
    return float((accuracy - 1 / classes) / (1 - 1 / classes))
