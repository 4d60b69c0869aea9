"""Rotation-invariant object decoding by linear SVM, the battery of Hoeller et al. 2024; run on request.

The fast stand-in of every sweep is ``object_decoding``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, to_complete_matrix, to_labels
from metrics.invariance.decoding import standardise

Scaler: TypeAlias = Literal["training classes", "all classes"]
Indices: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]

TOLERANCE = 1e-12
"""Relative fall of the SVM's objective below which it counts as solved."""

FLAT = 1e-12
"""Principal components below this share of the largest variance are dropped."""


def rotation_windows(rotations: Floats, held_out: int) -> Iterator[tuple[Mask, Mask]]:
    """Rows (held out, tested) of every cyclic fold: each distinct rotation in turn, with its neighbours around it.

    Rotations are sorted and the last is a neighbour of the first; ``held_out`` counts the tested one.

    >>> held, tested = next(rotation_windows(np.array([0.0, 90.0, 180.0, 270.0]), 3))
    >>> held.tolist(), tested.tolist()
    ([True, True, False, True], [True, False, False, False])
    """
    values, position = np.unique(rotations, return_inverse=True)
    for centre in range(len(values)):
        steps = np.abs(position - centre)
        around = np.minimum(steps, len(values) - steps)
        yield around <= held_out // 2, around == 0


def principal_axes(standardised: Floats, components: int) -> Floats:
    """The first principal axes of z-scored rows, (units, at most ``components``); flat directions are left out.

    The smaller of the two equal eigenvalue problems (units or rows) is solved.

    >>> principal_axes(np.array([[1.0, 0.0], [-1.0, 0.0]]), 2).shape
    (2, 1)
    """
    from scipy.linalg import eigh

    rows, units = standardised.shape
    dual = units > rows
    gram = standardised @ standardised.T if dual else standardised.T @ standardised
    values, vectors = eigh(gram, subset_by_index=[max(len(gram) - components, 0), len(gram) - 1])
    positive = values > max(FLAT * float(values.max()), 0.0)
    vectors = vectors[:, positive]
    return np.asarray(standardised.T @ vectors / np.sqrt(values[positive]) if dual else vectors)


def _ridge_on(design: Floats, sign: Floats, active: Mask, penalty: float) -> Floats:
    """Minimum of the SVM's objective if exactly the ``active`` rows were inside the margin."""
    from scipy.linalg import cho_factor, cho_solve

    rows = design[active]
    system = rows.T @ rows
    system.flat[:: len(system) + 1] += 1 / (2 * penalty)
    return np.asarray(cho_solve(cho_factor(system, check_finite=False), rows.T @ sign[active], check_finite=False))


def squared_hinge(
    design: Floats, sign: Floats, active: Mask, penalty: float = 1.0, iterations: int = 10_000
) -> tuple[Floats, Mask]:
    """Weights of a linear SVM, min_w |w|^2 / 2 + C sum max(0, 1 - y w x)^2, and the rows inside its margin.

    Finite Newton: the ridge solution on the rows inside the margin until these no longer change, exact after
    ten or twenty steps; a step that raises the objective is halved. ``active`` is a first guess of the rows and
    changes the speed only.
    Source: Keerthi and DeCoste 2005; the objective of liblinear's L2-regularised L2-loss SVM.

    >>> design, sign = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    >>> squared_hinge(design, sign, np.ones(2, bool))[0].tolist()
    [0.8]
    """
    weights, value = np.zeros(design.shape[1]), np.inf
    for _ in range(iterations):
        step, share = _ridge_on(design, sign, active, penalty) - weights, 1.0
        while share > TOLERANCE:
            tried = weights + share * step
            slack = 1 - sign * (design @ tried)
            reached = float(tried @ tried / 2 + penalty * (np.maximum(slack, 0) ** 2).sum())
            if reached <= value:
                break
            share /= 2
        else:
            break
        weights, before, value = tried, value, reached
        inside = slack > 0
        solved = (share == 1 and bool((inside == active).all())) or before - value <= TOLERANCE * value
        active = inside
        if solved:
            break
    return weights, active


@dataclass(frozen=True)
class _Decoder:
    """Principal components, then one-vs-rest SVMs with a penalised intercept."""

    components: int
    penalty: float
    iterations: int

    def predict(self, fit: Floats, train: Floats, classes: Indices, test: Floats, active: Mask) -> Indices | None:
        """Class of every test row, z-scored and projected as ``fit`` tells; None if ``fit`` is constant.

        ``active`` (classes, training rows) is the first guess of every SVM and is replaced by the answer.
        """
        scaled, views = standardise(fit, np.concatenate([train, test]))
        axes = principal_axes(scaled, self.components)
        if not axes.shape[1]:
            return None
        design = np.column_stack([views @ axes, np.ones(len(views))])
        scores = np.empty((len(test), len(active)))
        for index in range(len(active)):
            sign = np.where(classes == index, 1.0, -1.0)
            weights, active[index] = squared_hinge(
                design[: len(train)], sign, active[index], self.penalty, self.iterations
            )
            scores[:, index] = design[len(train) :] @ weights
        return np.argmax(scores, axis=1)


Draw: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]


def _draws(classes: int, tested: int, available: int, units: int | None, repetitions: int, seed: int) -> list[Draw]:
    """Test classes and units of every repetition."""
    rng = np.random.default_rng(seed)
    every = tuple(range(available))
    return [
        (
            tuple(sorted(rng.choice(classes, tested, replace=False).tolist())),
            every if units is None else tuple(sorted(rng.choice(available, units, replace=False).tolist())),
        )
        for _ in range(repetitions)
    ]


def _fold_accuracy(
    matrix: Floats, classes: Indices, left_out: Mask, tested: Mask, draws: list[Draw], decoder: _Decoder, strict: bool
) -> list[float]:
    """Accuracy of every draw in one fold; what draws share is fitted once."""
    train, test = matrix[~left_out], matrix[tested]
    labels, truth = classes[~left_out], classes[tested]
    active = np.ones((int(classes.max()) + 1, len(train)), dtype=bool)
    fitted: dict[Draw, Indices | None] = {}
    accuracies = []
    for drawn, units in draws:
        key = (drawn if strict else (), units)
        if key not in fitted:
            chosen = list(units)
            fit = train[~np.isin(labels, key[0])][:, chosen]
            fitted[key] = decoder.predict(fit, train[:, chosen], labels, test[:, chosen], active)
        rows, predicted = np.isin(truth, drawn), fitted[key]
        if rows.any():
            accuracies.append(1 / len(active) if predicted is None else float((predicted == truth)[rows].mean()))
    return accuracies


def _check(objects: int, rotations: int, available: int, held_out: int, tested: int, units: int | None) -> None:
    """A ValueError unless the battery's folds and draws exist."""
    if not 1 <= tested <= objects or objects < 2:
        raise ValueError(f"rotation_decoding draws {tested} test classes and needs 2 objects at least; got {objects}")
    if held_out < 1 or held_out % 2 == 0:
        raise ValueError(f"held_out must be odd, so that there is a middle rotation; got {held_out}")
    if rotations <= held_out:
        raise ValueError(f"rotation_decoding holds out {held_out} rotations and needs more; got {rotations}")
    if not 1 <= (available if units is None else units) <= available:
        raise ValueError(f"units must lie between 1 and the {available} units of the responses; got {units}")


def _check_options(scaler: str, spare: int, counts: dict[str, int], penalty: float) -> None:
    """A ValueError unless the keywords make sense."""
    if scaler not in ("training classes", "all classes"):
        raise ValueError(f"scaler must be 'training classes' or 'all classes'; got {scaler!r}")
    if scaler == "training classes" and spare < 1:
        raise ValueError("scaler='training classes' needs more objects than test_classes; or take 'all classes'")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}")
    if not penalty > 0:
        raise ValueError(f"rotation_decoding needs a penalty above 0; got {penalty}")


def rotation_decoding(
    responses: Array,
    objects: Array,
    rotations: Array,
    held_out: int = 3,
    repetitions: int = 50,
    test_classes: int = 2,
    components: int = 100,
    scaler: Scaler = "training classes",
    iterations: int = 10_000,
    penalty: float = 1.0,
    units: int | None = None,
    seed: int = 0,
) -> float:
    """Accuracy of a linear SVM that names objects at a rotation whose neighbourhood it was never trained on.

    Every repetition draws ``test_classes`` objects. Every fold holds out ``held_out`` neighbouring rotations of
    all objects, cyclically; z-score, PCA and one-vs-rest SVMs are trained on the other rotations of all
    objects, and only the middle held-out rotation of the drawn objects is tested, against all objects.
    Shapes: responses (views, units), objects (views,) labels, rotations (views,) numbers that cover the circle
    -> share in [0, 1], the mean over folds and repetitions; chance is 1 / objects.
    ``scaler``: z-score and PCA see the training rotations of the objects that are not drawn ("training classes",
    the paper's text, stricter: nothing of a tested object shapes its features) or of all ("all classes", its
    code). With more units than training views the stricter one is much lower, because it drops directions that
    only the tested objects use. ``iterations`` caps the Newton steps; the paper's 1,000 (text) and 10,000 (code)
    matter for its solver only, ours is exact after ten or twenty. ``units`` draws as many units per repetition,
    to give areas equal counts (the paper does not). Repetitions that share features share fits: with "all
    classes" and no ``units``, one fit a fold serves all.
    Edge rule: constant responses decode at chance; a view that is missing is not tested; an even ``held_out``,
    too few objects, rotations or units, an object without a training view, text rotations, NaN or infinite
    responses are ValueErrors.
    Source: Hoeller et al. 2024, as in the hierarchical twins of Luconi et al. 2025 (scikit-learn's LinearSVC).

    >>> objects, angles = np.repeat(["cup", "hat", "dog", "car"], 8), np.tile(np.arange(8) * 45, 4)
    >>> code = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
    >>> shown = code[np.arange(32) // 8] + np.random.default_rng(0).normal(size=(32, 2))
    >>> rotation_decoding(shown, objects, angles, repetitions=5)
    1.0
    """
    matrix = to_complete_matrix(responses, "responses")
    names, classes = np.unique(to_labels(objects, "objects"), return_inverse=True)
    angles = to_labels(rotations, "rotations")
    if angles.dtype.kind not in "iuf":
        raise ValueError(f"rotations must be numbers, to know which are neighbours; got {angles.dtype}")
    if not len(matrix) == len(classes) == len(angles):
        raise ValueError(
            f"responses, objects and rotations must have one row per view; got {len(matrix)}, "
            f"{len(classes)} and {len(angles)}"
        )
    _check(len(names), len(np.unique(angles)), matrix.shape[1], held_out, test_classes, units)
    counts = {"repetitions": repetitions, "components": components, "iterations": iterations}
    _check_options(scaler, len(names) - test_classes, counts, penalty)
    draws = _draws(len(names), test_classes, matrix.shape[1], units, repetitions, seed)
    decoder = _Decoder(components, penalty, iterations)
    accuracies: list[float] = []
    for left_out, tested in rotation_windows(angles, held_out):
        unseen = np.setdiff1d(np.arange(len(names)), classes[~left_out])
        if len(unseen):
            raise ValueError(f"object {names[unseen[0]]!s} has no view outside one window of held-out rotations")
        strict = scaler == "training classes"
        accuracies += _fold_accuracy(matrix, classes, left_out, tested, draws, decoder, strict)
    return float(np.mean(accuracies)) if accuracies else float("nan")
