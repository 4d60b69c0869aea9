"""How well one modality predicts responses to another through a linear alignment fitted on other scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import (
    Array,
    Floats,
    like,
    mean_of_finite,
    to_complete_matrix,
    to_labels,
    to_matrix,
)
from metrics.prediction import pearson

PENALTIES: tuple[float, ...] = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried by leave-one-out, relative to the mean diagonal of the kernel."""

COMPONENTS = 10
"""Most principal components of the captions that the backward direction predicts."""

SHUFFLES = 3
"""Shuffled pairings whose mean score is the null."""


@dataclass(frozen=True)
class Alignment:
    """A ridge regression from one source to any targets, with the source decomposed once.

    X - mean = U S V^T; a target Y is predicted at x as
    mean Y + (x - mean) V S / (S^2 + lambda) U^T (Y - mean Y)
    with lambda = penalty * sum S^2 / n: relative to the mean diagonal of the kernel of n samples.
    Fields: mean (features,), left (n, rank), singular (rank,), right (rank, features).
    Source: ridge regression by singular values; leave-one-out by the hat matrix (Golub, Heath, Wahba 1979).
    """

    mean: Floats
    left: Floats
    singular: Floats
    right: Floats

    @classmethod
    def fit(cls, source: Array) -> "Alignment":
        """Decompose ``source`` (samples, features); directions below 1e-10 of the largest are dropped.

        Edge rule: fewer than three samples, and NaN or infinite entries, are ValueErrors; a constant source
        has rank 0 and predicts the mean of the targets.

        >>> Alignment.fit(np.eye(4)).singular.shape
        (3,)
        """
        matrix = to_complete_matrix(source, "source")
        if len(matrix) < 3:
            raise ValueError(f"an alignment needs at least 3 samples to be fitted; got {len(matrix)}")
        mean = matrix.mean(axis=0)
        left, singular, right = np.linalg.svd(matrix - mean, full_matrices=False)
        floor = max(1e-10 * singular.max(initial=0.0), 1e-12 * float(np.abs(matrix).max(initial=0.0)))
        rank = int((singular > floor).sum())
        return cls(mean, left[:, :rank], singular[:rank], right[:rank])

    def project(self, source: Array) -> Floats:
        """``source`` (samples, features) on the principal axes of the fit, (samples, rank), largest first.

        >>> Alignment.fit(np.eye(4)).project(np.eye(4)).shape
        (4, 3)
        """
        return (to_complete_matrix(source, "source") - self.mean) @ self.right.T

    def _ridge(self, penalty: float) -> float:
        """The penalty in units of squared singular values."""
        return penalty * float((self.singular**2).sum()) / len(self.left)

    def leave_one_out(self, targets: Array, penalty: float) -> Floats:
        """Mean squared leave-one-out error per target, exact for a fixed lambda, without refitting.

        e_i = (y_i - yhat_i) / (1 - 1/n - sum_k u_ik^2 s_k^2 / (s_k^2 + lambda)).
        Shapes: targets (samples, targets) -> (targets,) in squared target units; a target with NaN is NaN.

        >>> Alignment.fit(np.eye(4)).leave_one_out(np.ones((4, 1)), 1.0).tolist()
        [0.0]
        """
        values = to_matrix(targets, "targets")
        values = values - values.mean(axis=0)
        shrink = self.singular**2 / (self.singular**2 + self._ridge(penalty))
        residual = values - self.left @ (shrink[:, None] * (self.left.T @ values))
        leverage = 1 - 1 / len(self.left) - (self.left**2) @ shrink
        return ((residual / leverage[:, None]) ** 2).mean(axis=0)

    def choose(self, targets: Array, penalties: tuple[float, ...] = PENALTIES) -> float:
        """The penalty, one for all targets, with the smallest mean of leave-one-out error over variance.

        Edge rule: targets that are constant or hold NaN are left out; none left gives the largest penalty.

        >>> Alignment.fit(np.eye(4)).choose(np.ones((4, 1)), (1.0, 10.0))
        10.0
        """
        values = to_matrix(targets, "targets")
        variance = values.var(axis=0)
        kept = variance > (1e-12 * np.abs(values).max(axis=0, initial=0.0)) ** 2
        if not kept.any():
            return max(penalties)
        errors = [float((self.leave_one_out(values[:, kept], p) / variance[kept]).mean()) for p in penalties]
        return penalties[int(np.argmin(errors))]

    def predict(self, targets: Array, source: Array, penalty: float | None = None) -> Array:
        """Fit ``targets`` at the samples of ``fit`` and predict them at ``source``.

        Shapes: targets (samples, targets), source (rows, features) -> (rows, targets) in target units.
        ``penalty`` is relative (see the class), above 0; None takes ``choose(targets)``.
        Edge rule: a target with a NaN is predicted as NaN; a constant target as its constant.

        >>> x = np.arange(5.0)[:, None]
        >>> Alignment.fit(x).predict(3 * x, [[10.0]], penalty=1e-9).round(3).tolist()
        [[30.0]]
        """
        values = to_matrix(targets, "targets")
        if len(values) != len(self.left):
            raise ValueError(f"the alignment holds {len(self.left)} samples; targets have {len(values)}")
        penalty = self.choose(values) if penalty is None else penalty
        if not penalty > 0:
            raise ValueError(f"penalty must be above 0; got {penalty}")
        mean = values.mean(axis=0)
        shrink = self.singular / (self.singular**2 + self._ridge(penalty))
        weights = shrink[:, None] * (self.left.T @ (values - mean))
        return like(mean + self.project(source) @ weights, targets, source)


def align(source_fit: Array, target_fit: Array, source_test: Array, penalty: float | None = None) -> Array:
    """Ridge-regress targets on a source and predict them for new source rows.

    Shapes: source_fit (samples, features), target_fit (samples, targets), source_test (rows, features) ->
    (rows, targets) in target units. Penalty and edge rules: ``Alignment.predict``. For many targets of one
    source keep ``Alignment.fit(source_fit)`` instead. Source: the alignment matrices between modalities of
    the cross-modal transfer paper; also carries one feature set onto another (feature transfer).

    >>> x = np.arange(5.0)[:, None]
    >>> align(x, -x, [[2.0]]).round(6).tolist()
    [[-2.0]]
    """
    predicted = Alignment.fit(source_fit).predict(to_matrix(target_fit, "target_fit"), source_test, penalty)
    return like(np.asarray(to_matrix(predicted, "predicted")), source_fit, target_fit, source_test)


def aligned_prediction(
    captions_fit: Array, responses_fit: Array, captions_test: Array, penalty: float | None = None
) -> Array:
    """Responses that captions predict through an alignment with responses to other scenes.

    ``align`` from captions to responses; correlate the result with what the brain did on the test scenes.
    Shapes: captions_fit (scenes, embedding), responses_fit (scenes, units), captions_test (rows, embedding)
    -> (rows, units) in response units. Edge rules and source: ``align``.

    >>> x = np.arange(5.0)[:, None]
    >>> aligned_prediction(x, np.hstack([x, 2 * x]), [[2.0]]).round(6).tolist()
    [[2.0, 4.0]]
    """
    return align(captions_fit, responses_fit, captions_test, penalty)


@dataclass(frozen=True)
class CrossModalTransfer:
    """Mean correlations on held-out scenes: captions to responses, back, their mean, and its null."""

    forward: float
    backward: float
    score: float
    null: float


def _standardise(fit: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Both parts z-scored by the fit scenes, without the units that miss a scene or are constant on fit."""
    complete = np.isfinite(fit).all(axis=0) & np.isfinite(test).all(axis=0)
    mean, deviation = fit[:, complete].mean(axis=0), fit[:, complete].std(axis=0)
    varied = deviation > 1e-12 * np.abs(fit[:, complete]).max(axis=0, initial=0.0)
    kept, mean, deviation = np.flatnonzero(complete)[varied], mean[varied], deviation[varied]
    return (fit[:, kept] - mean) / deviation, (test[:, kept] - mean) / deviation


@dataclass(frozen=True)
class _Direction:
    """One direction of the transfer: a decomposed source, its test rows, and the targets on both parts."""

    alignment: Alignment
    source_test: Floats
    target_fit: Floats
    target_test: Floats

    def score(self, order: NDArray[np.intp], penalty: float | None) -> float:
        """Mean correlation over targets on the test scenes, with the fit scenes paired in ``order``."""
        predicted = self.alignment.predict(self.target_fit[order], self.source_test, penalty)
        return mean_of_finite(pearson(predicted, self.target_test))


def _directions(captions: Alignment, captions_test: Floats, fit: Floats, test: Floats) -> list[_Direction]:
    """Captions to responses; responses to the leading components of the captions."""
    source_fit, source_test = _standardise(fit, test)
    components = slice(0, min(COMPONENTS, len(captions.singular)))
    scores_fit = (captions.left * captions.singular)[:, components]
    scores_test = captions.project(captions_test)[:, components]
    return [
        _Direction(captions, captions_test, fit, test),
        _Direction(Alignment.fit(source_fit), source_test, scores_fit, scores_test),
    ]


def _scenes(indices: Array, name: str, scenes: int) -> NDArray[np.intp]:
    """Scene indices as whole numbers in range; a boolean mask is taken as the indices of its true entries."""
    labels = to_labels(indices, name)
    if labels.dtype.kind == "b":
        labels = np.flatnonzero(labels)
    if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0 or labels.max() >= scenes:
        raise ValueError(f"{name} must be whole scene indices from 0 to {scenes - 1}, at least one")
    return labels.astype(np.intp)


def cross_modal_transfer(
    captions: Array,
    responses: Array,
    fit: Array,
    test: Array,
    penalty: float | None = None,
    seed: int = 0,
    alignment: Alignment | None = None,
) -> CrossModalTransfer:
    """How well responses to scenes follow from the scenes' captions, and captions from responses.

    forward: ridge from captions to responses; backward: ridge from z-scored responses to the leading
    principal components of the captions (at most 10). Both are fitted on ``fit`` and scored by the mean
    correlation on ``test``; score is their mean. null: the same with captions shuffled over the fit scenes,
    mean of 3 shuffles.
    Shapes: captions (scenes, embedding), responses (scenes, units), fit and test scene indices -> floats in
    [-1, 1]. ``penalty`` is relative to the kernel's mean diagonal; None chooses it by leave-one-out, for each
    direction and shuffle anew. ``alignment``: ``Alignment.fit(captions[fit])``, to share it between twins.
    Edge rule: a scene in both sets is a ValueError; a unit with a missing scene, or constant, is left out;
    no unit left gives NaN; a constant caption set gives NaN.
    Source: after the transfer of encoding models between modalities (Tang et al. 2023), reference design.

    >>> rng = np.random.default_rng(0)
    >>> captions, weights = rng.normal(size=(60, 5)), rng.normal(size=(5, 8))
    >>> result = cross_modal_transfer(captions, captions @ weights, np.arange(40), np.arange(40, 60))
    >>> result.score > 0.9 > 0.4 > result.null
    True
    """
    words, units = to_complete_matrix(captions, "captions"), to_matrix(responses, "responses")
    if len(words) != len(units):
        raise ValueError(f"captions and responses need one row per scene; got {len(words)} and {len(units)}")
    fitted, tested = _scenes(fit, "fit", len(words)), _scenes(test, "test", len(words))
    if np.intersect1d(fitted, tested).size:
        raise ValueError(f"{np.intersect1d(fitted, tested).size} scenes are in both fit and test")
    shared = Alignment.fit(words[fitted]) if alignment is None else alignment
    directions = _directions(shared, words[tested], units[fitted], units[tested])
    forward, backward = (one.score(np.arange(len(fitted)), penalty) for one in directions)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(fitted)) for _ in range(SHUFFLES)]
    null = np.array([one.score(order, penalty) for one in directions for order in orders])
    return CrossModalTransfer(forward, backward, (forward + backward) / 2, float(null.mean()))
