"""A ridge regression from one space to another whose source is decomposed once, with its penalty by leave-one-out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_complete_matrix, to_labels, to_matrix

PENALTIES: tuple[float, ...] = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried by leave-one-out, relative to the mean diagonal of the kernel."""

AT_ONCE = 2**22
"""Numbers (samples x penalties x targets) that leave-one-out holds at a time."""


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
        return self._single_errors(to_matrix(targets, "targets"), (penalty,))[0]

    def _single_errors(self, values: Floats, penalties: tuple[float, ...]) -> Floats:
        """``leave_one_out`` for several penalties, (penalties, targets): what they share is computed once."""
        squared, samples, count = self.singular**2, len(self.left), len(penalties)
        shrink = squared[:, None] / (squared[:, None] + np.array([self._ridge(penalty) for penalty in penalties]))
        leverage = 1 - 1 / samples - (self.left**2) @ shrink
        errors = np.empty((count, values.shape[1]))
        width = max(1, AT_ONCE // (samples * count))
        for start in range(0, values.shape[1], width):
            part = values[:, start : start + width]
            part = part - part.mean(axis=0)
            shrunk = shrink[:, :, None] * (self.left.T @ part)[:, None]
            fitted = (self.left @ shrunk.reshape(len(squared), count * part.shape[1])).reshape(samples, count, -1)
            errors[:, start : start + width] = (((part[:, None] - fitted) / leverage[:, :, None]) ** 2).mean(axis=0)
        return errors

    def choose(self, targets: Array, penalties: tuple[float, ...] = PENALTIES) -> float:
        """The penalty, one for all targets, with the smallest mean of leave-one-out error over variance.

        Edge rule: targets that are constant or hold NaN are left out; none left gives the largest penalty.

        >>> Alignment.fit(np.eye(4)).choose(np.ones((4, 1)), (1.0, 10.0))
        10.0
        """
        values = to_matrix(targets, "targets")
        variance = values.var(axis=0)
        varying = variance > (1e-12 * np.abs(values).max(axis=0, initial=0.0)) ** 2
        if not varying.any():
            return max(penalties)
        errors = (self._single_errors(values[:, varying], penalties) / variance[varying]).mean(axis=1)
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
        return like(self.carry(targets, self.project(source), penalty), targets, source)

    def carry(self, targets: Array, projected: Floats, penalty: float | None = None) -> Floats:
        """``predict`` at what was projected before, for many targets at the same rows.

        Shapes: targets (samples, targets), projected (rows, rank) by ``project`` -> (rows, targets) in target units.
        Edge rule: as ``predict``.

        >>> x = np.arange(5.0)[:, None]
        >>> ridge = Alignment.fit(x)
        >>> ridge.carry(3 * x, ridge.project([[10.0]]), penalty=1e-9).round(3).tolist()
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
        return np.asarray(mean + projected @ (shrink[:, None] * (self.left.T @ (values - mean))))

    def leave_groups_out(self, targets: Array, groups: Array, penalty: float) -> Floats:
        """Mean squared error per target when every group of samples is predicted without it, without refitting.

        e_G = (I - H_GG)^-1 (y_G - yhat_G),  H = 1/n + U S^2 / (S^2 + lambda) U^T; exact for a fixed lambda.
        With runs of a recording as groups, neighbouring samples are left out together.
        Shapes: targets (samples, targets), groups (samples,) labels -> (targets,) in squared target units.
        Edge rule: a target with NaN is NaN; fewer than two groups is a ValueError.
        Source: the block form of the hat matrix identity (Golub, Heath, Wahba 1979 for single samples).

        >>> Alignment.fit(np.eye(4)).leave_groups_out(np.ones((4, 1)), [0, 0, 1, 1], 1.0).tolist()
        [0.0]
        """
        return self._group_errors(to_matrix(targets, "targets"), to_labels(groups, "groups"), (penalty,))[0]

    def _group_errors(self, values: Floats, labels: NDArray[Any], penalties: tuple[float, ...]) -> Floats:
        """``leave_groups_out`` for several penalties, (penalties, targets)."""
        names, samples = np.unique(labels), len(self.left)
        if len(names) < 2 or not len(labels) == len(values) == samples:
            raise ValueError(
                f"groups must be at least 2, with a label for each of {samples} samples; "
                f"got {len(names)} groups, {len(labels)} labels and {len(values)} targets"
            )
        values = values - values.mean(axis=0)
        projected, total = self.left.T @ values, np.zeros((len(penalties), values.shape[1]))
        for name in names:
            rows = labels == name
            for index, penalty in enumerate(penalties):
                shrunk = self.left[rows] * (self.singular**2 / (self.singular**2 + self._ridge(penalty)))
                hat = 1 / samples + shrunk @ self.left[rows].T
                error = np.linalg.inv(np.eye(len(hat)) - hat) @ (values[rows] - shrunk @ projected)
                total[index] += (error**2).sum(axis=0)
        return total / samples

    def choose_each(self, targets: Array, groups: Array, penalties: tuple[float, ...] = PENALTIES) -> Floats:
        """The penalty of each target with the smallest ``leave_groups_out`` error, (targets,).

        Edge rule: the first of equal ones; a single penalty is not tried out.

        >>> Alignment.fit(np.eye(4)).choose_each(np.ones((4, 2)), [0, 0, 1, 1], (10.0,)).tolist()
        [10.0, 10.0]
        """
        values = to_matrix(targets, "targets")
        if len(penalties) == 1:
            return np.full(values.shape[1], penalties[0])
        errors = self._group_errors(values, to_labels(groups, "groups"), penalties)
        return np.asarray(penalties, dtype=np.float64)[np.argmin(errors, axis=0)]

    def weights(self, targets: Array, penalty: float | Floats) -> Floats:
        """Weights W of yhat = mean Y + (x - mean) W, with one penalty or one for each target.

        Shapes: targets (samples, targets) -> (features, targets), target units per source unit.
        Edge rule: a target with a NaN has NaN weights; a penalty that is not above 0 is a ValueError.

        >>> Alignment.fit([[-1.0], [0.0], [1.0]]).weights([[-2.0], [0.0], [2.0]], 1e-9).round(6).tolist()
        [[2.0]]
        """
        values = to_matrix(targets, "targets")
        chosen = np.broadcast_to(np.asarray(penalty, dtype=np.float64), values.shape[1])
        if not (chosen > 0).all():
            raise ValueError(f"penalty must be above 0; got {penalty}")
        shrink = self.singular[:, None] / (self.singular[:, None] ** 2 + chosen * self._ridge(1.0))
        return self.right.T @ (shrink * (self.left.T @ (values - values.mean(axis=0))))


def align(source_fit: Array, target_fit: Array, source_test: Array, penalty: float | None = None) -> Array:
    """Ridge-regress targets on a source and predict them for new source rows.

    mean Y + (x - mean X) W, W the ridge weights of ``Alignment`` at its penalty, given or by leave-one-out.
    Shapes: source_fit (samples, features), target_fit (samples, targets), source_test (rows, features) ->
    (rows, targets) in target units. For many targets of one source keep ``Alignment.fit(source_fit)`` instead.
    Edge rule: as ``Alignment.fit`` and ``Alignment.predict``. Source: the alignment matrices between modalities of
    the cross-modal transfer paper; also carries one feature set onto another (feature transfer).

    >>> x = np.arange(5.0)[:, None]
    >>> align(x, -x, [[2.0]]).round(6).tolist()
    [[-2.0]]
    """
    predicted = Alignment.fit(source_fit).predict(to_matrix(target_fit, "target_fit"), source_test, penalty)
    return like(np.asarray(to_matrix(predicted, "predicted")), source_fit, target_fit, source_test)
