"""Whether objects can be told apart under transformations that a linear decoder has never seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_complete_matrix, to_labels


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


def standardise(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Both parts z-scored with the training mean and deviation (ddof 0); constant units become 0 in both.

    >>> standardise(np.array([[0.0, 7.0], [2.0, 7.0]]), np.array([[3.0, 9.0]]))[1].tolist()
    [[2.0, 0.0]]
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation <= 1e-12 * np.abs(train).max(axis=0, initial=0.0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=~constant)
    return (train - mean) * scale, (test - mean) * scale


def _ridge_scores(train: Floats, targets: Floats, test: Floats, penalty: float) -> Floats:
    """Least-squares class scores with a ridge, by the smaller of the two equal systems (units or samples).

    The ridge is ``penalty`` times the mean diagonal of the kernel: of z-scored units, their number.
    """
    from scipy.linalg import solve

    samples, units = train.shape
    penalty *= max(float((train**2).sum()) / samples, 1.0)
    if units > samples:
        kernel = train @ train.T
        kernel.flat[:: samples + 1] += penalty
        return test @ (train.T @ solve(kernel, targets, assume_a="pos"))
    covariance = train.T @ train
    covariance.flat[:: units + 1] += penalty
    return test @ solve(covariance, train.T @ targets, assume_a="pos")


def _decode(train: Floats, classes: NDArray[np.intp], test: Floats, penalty: float) -> NDArray[np.intp]:
    """Predicted class of every test row; the first class wins a tie."""
    train, test = standardise(train, test)
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

    One-vs-all ridge, closed form: min_W |Y - mean Y - Z W|^2 + penalty u |W|^2, Y one-hot, Z the u units that vary
    z-scored on the training part; the largest of z W + mean Y wins. The ridge grows with u, the mean diagonal of
    Z Z^T, since one that does not overfits where there are about as many views as units. ``transform_folds`` holds
    out contiguous blocks.
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
    for index in np.unique(fold):
        test = fold == index
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


def _check_positions(classes: NDArray[np.intp], place: NDArray[np.intp], names: Any, places: Any, folds: int) -> None:
    """A ValueError unless at least two objects are all seen at every position."""
    if len(names) < 2:
        raise ValueError(f"position_tolerance needs at least 2 objects; got {len(names)}")
    if folds < 2:
        raise ValueError(f"position_tolerance needs at least 2 folds; got {folds}")
    for index, position in enumerate(places):
        missing = np.setdiff1d(np.arange(len(names)), classes[place == index])
        if len(missing):
            raise ValueError(f"object {names[missing[0]]!s} is never seen at position {position!s}")


def _deal(classes: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.intp]:
    """Fold of every row: the shuffled rows of each class dealt out one by one."""
    fold = np.empty(len(classes), np.intp)
    rng = np.random.default_rng(seed)
    for index in np.unique(classes):
        rows = np.flatnonzero(classes == index)
        fold[rows] = rng.permutation(len(rows)) % folds
    return fold


def _within(matrix: Floats, classes: NDArray[np.intp], penalty: float, folds: int, seed: int) -> float:
    """Cross-validated accuracy over one position's rows; NaN where an object has a single row."""
    if np.bincount(classes).min() < 2:
        return float("nan")
    fold, hits = _deal(classes, folds, seed), 0
    for index in np.unique(fold):
        test = fold == index
        hits += int((_decode(matrix[~test], classes[~test], matrix[test], penalty) == classes[test]).sum())
    return hits / len(classes)


def position_tolerance(
    responses: Array, objects: Array, positions: Array, penalty: float = 1.0, folds: int = 5, seed: int = 0
) -> Array:
    """Accuracy of a linear object decoder trained at one position and tested at another.

    [i, j] = share of the views at position j that a decoder of position i names right. The decoder is that of
    ``object_decoding``, z-scored and fitted on all views of i and nothing of j. On the diagonal the views of one
    position are split into ``folds``, shuffled by ``seed`` and stratified by object, and the hits pooled.
    Shapes: responses (views, units), one row per single trial where there are trials, else per view; objects and
    positions (views,) labels -> (positions, positions) shares in [0, 1], positions in sorted order; chance is
    the largest class share of j.
    Edge rule: the diagonal is NaN where an object has a single view; an object that is missing at a position,
    fewer than two objects or folds, and NaN or infinite responses are ValueErrors. Trials of units recorded
    one after the other carry no shared noise. The diagonal trains on fewer views, so it is a low estimate.
    Source: train at one position, test at another, as Hung et al. 2005 and NeuroDecodeR; the ridge is ours.

    >>> trials = [[0.0], [0.1], [1.0], [1.1], [0.2], [0.3], [1.2], [1.3]]
    >>> position_tolerance(trials, list("aabbaabb"), [0, 0, 0, 0, 5, 5, 5, 5]).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    matrix = to_complete_matrix(responses, "responses")
    names, classes = np.unique(to_labels(objects, "objects"), return_inverse=True)
    places, place = np.unique(to_labels(positions, "positions"), return_inverse=True)
    if not len(matrix) == len(classes) == len(place):
        raise ValueError(
            f"responses, objects and positions must have one row per view; got {len(matrix)}, "
            f"{len(classes)} and {len(place)}"
        )
    if not penalty > 0:
        raise ValueError(f"position_tolerance needs a penalty above 0; got {penalty}")
    _check_positions(classes, place, names, places, folds)
    result = np.empty((len(places), len(places)))
    for i in range(len(places)):
        here = place == i
        right = _decode(matrix[here], classes[here], matrix, penalty) == classes
        result[i] = np.bincount(place, weights=right) / np.bincount(place)
        result[i, i] = _within(matrix[here], classes[here], penalty, folds, seed)
    return like(result, responses)
