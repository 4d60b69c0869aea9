"""How many bits about the object a linear decoder gets from a population, the battery of Froudarakis et al. 2020."""

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, to_complete_matrix, to_float, to_labels
from metrics.invariance.decoding import standardise

Indices = NDArray[np.intp]

GRADIENT = 1e-6
"""Mean gradient below which a logistic regression counts as solved."""

RIDGE = 1e-9
"""Share of the mean curvature added to every direction, so that copies of a unit share one weight."""


def mutual_information(confusion: Array, correct_bias: bool = False) -> float:
    """Information in bits that the decoded class carries about the true class.

    MI = sum_ij p_ij log2(p_ij / (p_i p_j)), p = confusion / its sum.
    Shapes: confusion (true classes, decoded classes) of counts or shares -> bits, between 0 and
    log2 of the smaller number of classes.
    ``correct_bias`` subtracts the first-order bias of counts, (m_ij - m_i - m_j + 1) / (2 N ln 2), m the
    non-empty cells, rows and columns (Miller-Madow on each entropy); then below 0 is possible.
    Edge rule: without correction MI is never negative but biased up, by about (classes - 1)^2 / (2 N ln 2) for
    N independent decisions; an empty confusion gives NaN; negative or NaN entries are a ValueError.
    Source: Shannon 1948; Miller 1955 for the bias.

    >>> mutual_information([[5, 0], [0, 5]]), mutual_information([[4, 4], [1, 1]])
    (1.0, 0.0)
    """
    counts = to_float(confusion)
    if counts.ndim != 2 or not (counts >= 0).all() or not np.isfinite(counts).all():
        raise ValueError(f"confusion must be a matrix of finite counts of at least 0; got shape {counts.shape}")
    total = counts.sum()
    if not total:
        return float("nan")
    joint = counts / total
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    filled = joint > 0
    bits = max(float((joint[filled] * np.log2(joint[filled] / expected[filled])).sum()), 0.0)
    if not correct_bias:
        return bits
    cells, rows, columns = filled.sum(), filled.any(axis=1).sum(), filled.any(axis=0).sum()
    return bits - float((cells - rows - columns + 1) / (2 * total * np.log(2)))


def _loss(margin: Floats, target: Floats) -> float:
    """Negative log-likelihood of 0 / 1 targets."""
    return float((np.logaddexp(0, margin) - target * margin).sum())


def logistic_weights(design: Floats, target: Floats, iterations: int = 100) -> Floats:
    """Weights of a logistic regression without penalty, by Newton steps that are halved while the loss rises.

    Edge rule: where a plane separates the classes there is no finite solution; the weights then grow until the
    mean gradient is below ``GRADIENT`` or ``iterations`` is reached, and separate the classes as well.

    >>> design, target = np.array([[1.0], [1.0], [1.0], [1.0]]), np.array([1.0, 1.0, 1.0, 0.0])
    >>> round(float(logistic_weights(design, target)[0]), 4), round(float(np.log(3)), 4)
    (1.0986, 1.0986)
    """
    from scipy.linalg.lapack import dposv
    from scipy.special import expit

    weights, margin = np.zeros(design.shape[1]), np.zeros(len(design))
    value = _loss(margin, target)
    for _ in range(iterations):
        share = expit(margin)
        gradient = design.T @ (share - target)
        if np.abs(gradient).max() < GRADIENT * len(design):
            break
        scaled = design * np.sqrt(share * (1 - share))[:, None]
        curvature = scaled.T @ scaled
        curvature.flat[:: len(curvature) + 1] += RIDGE * np.trace(curvature) / len(curvature)
        step = dposv(curvature, gradient)[1]
        size = 1.0
        while size > RIDGE and _loss(design @ (weights - size * step), target) > value:
            size /= 2
        weights = weights - size * step
        margin = design @ weights
        value = _loss(margin, target)
    return weights


def group_folds(groups: Indices, classes: Indices, folds: int, rng: np.random.Generator) -> Indices:
    """Fold of every row: shuffled groups, sorted by their commonest class, dealt out one by one.

    No group is cut, and every class is spread over the folds as evenly as its groups allow.

    >>> group_folds(np.array([0, 0, 1, 2, 3]), np.array([0, 0, 0, 1, 1]), 2, np.random.default_rng(0)).shape
    (5,)
    """
    count = np.zeros((int(groups.max()) + 1, int(classes.max()) + 1))
    np.add.at(count, (groups, classes), 1)
    order = rng.permutation(len(count))
    order = order[np.argsort(count[order].argmax(axis=1), kind="stable")]
    fold = np.empty(len(count), dtype=np.intp)
    fold[order] = np.arange(len(count)) % folds
    return fold[groups]


def _decode(train: Floats, classes: Indices, test: Floats, iterations: int) -> Indices:
    """Class of every test row by one-vs-rest logistic regression on z-scored units; the first if all are constant."""
    train, test = standardise(train, test)
    varying = np.abs(train).max(axis=0) > 0
    if not varying.any():
        return np.zeros(len(test), dtype=np.intp)
    design = np.column_stack([train[:, varying], np.ones(len(train))])
    scores = np.empty((len(test), int(classes.max()) + 1))
    for index in range(scores.shape[1]):
        weights = logistic_weights(design, (classes == index).astype(np.float64), iterations)
        scores[:, index] = test[:, varying] @ weights[:-1] + weights[-1]
    return np.argmax(scores, axis=1)


def _confusions(matrix: Floats, classes: Indices, fold: Indices, iterations: int) -> Floats:
    """Counts (folds, true classes, decoded classes)."""
    size = int(classes.max()) + 1
    counts = np.zeros((int(fold.max()) + 1, size, size))
    for index in np.unique(fold):
        test = fold == index
        if len(np.unique(classes[~test])) < size:
            raise ValueError("every object needs groups in at least 2 folds; give it more groups, or fewer folds")
        np.add.at(counts[index], (classes[test], _decode(matrix[~test], classes[~test], matrix[test], iterations)), 1)
    return counts


def _check(classes: int, groups: int, available: int, counts: dict[str, int]) -> None:
    """A ValueError unless there is something to tell apart, by something, and something to hold out."""
    if not available:
        raise ValueError("object_discriminability needs at least 1 unit; got none")
    if classes < 2:
        raise ValueError(f"object_discriminability needs at least 2 objects; got {classes}")
    if groups < 2:
        raise ValueError(f"object_discriminability needs at least 2 groups, to hold one out; got {groups}")
    for name, count in counts.items():
        least = 2 if name == "folds" else 1
        if count < least:
            raise ValueError(f"{name} must be at least {least}; got {count}")


def object_discriminability(
    responses: Array,
    objects: Array,
    groups: Array,
    units: int = 128,
    folds: int = 10,
    repetitions: int = 50,
    pooled: bool = True,
    grouped: bool = True,
    correct_bias: bool = False,
    iterations: int = 100,
    seed: int = 0,
) -> float:
    """Bits about the object in the decisions of a cross-validated linear decoder of the population.

    Every repetition draws ``units`` units and stratified folds; inside a fold units are z-scored on the training
    part and one logistic regression per object against the rest, without penalty and with intercept, is fitted;
    the largest wins. The result is the mean over repetitions of ``mutual_information``.
    Shapes: responses (bins, units), objects and groups (bins,) labels -> bits, at most log2(objects).
    ``grouped``: whole groups (clips) are held out, so that neighbouring bins of one clip never lie on both
    sides; False holds out single bins, as the paper does. ``pooled``: one confusion matrix over all folds of a
    repetition (the paper's text, and less biased up); False averages the information of single folds (its
    code). ``correct_bias``: see ``mutual_information``; needed where decisions are few for the objects, but
    bins of a clip are not independent, so it corrects too little. ``repetitions``: 50 in the text, 10 in the
    code. The reliability filter of units is the caller's.
    Edge rule: fewer units than asked are all used, so compare areas at a number that all of them have; constant
    units are ignored and constant responses give 0 bits; where training bins are separable the weights diverge,
    see ``logistic_weights``. Fewer than two objects, groups or folds, an object whose groups all fall in one
    fold, and NaN or infinite responses are ValueErrors.
    Source: Froudarakis et al. 2020, as in the hierarchical twins of Luconi et al. 2025; folds by group are ours.

    >>> clips = np.arange(40) // 2
    >>> objects = np.where(clips % 2 == 0, "cup", "hat")
    >>> shown = np.where(clips % 2 == 0, 1.0, -1.0)[:, None] + np.random.default_rng(0).normal(size=(40, 3)) / 9
    >>> object_discriminability(shown, objects, clips, repetitions=2)
    1.0
    """
    matrix = to_complete_matrix(responses, "responses")
    classes = np.unique(to_labels(objects, "objects"), return_inverse=True)[1]
    clips = np.unique(to_labels(groups, "groups"), return_inverse=True)[1]
    if not len(matrix) == len(classes) == len(clips):
        raise ValueError(
            f"responses, objects and groups must have one row per bin; got {len(matrix)}, "
            f"{len(classes)} and {len(clips)}"
        )
    if not grouped:
        clips = np.arange(len(matrix))
    counts = {"units": units, "folds": folds, "repetitions": repetitions, "iterations": iterations}
    _check(len(np.unique(classes)), len(np.unique(clips)), matrix.shape[1], counts)
    rng = np.random.default_rng(seed)
    bits = []
    for _ in range(repetitions):
        chosen = np.sort(rng.choice(matrix.shape[1], min(units, matrix.shape[1]), replace=False))
        fold = group_folds(clips, classes, min(folds, int(clips.max()) + 1), rng)
        confusions = _confusions(matrix[:, chosen], classes, fold, iterations)
        parts = [confusions.sum(axis=0)] if pooled else confusions
        bits.append(np.mean([mutual_information(part, correct_bias) for part in parts]))
    return float(np.mean(bits))
