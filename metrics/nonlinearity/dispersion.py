"""How nonlinear an encoding model is, unit by unit: the dispersion of its Jacobian over samples (JNE).

The Jacobian of a linear readout is the same at every sample, so its dispersion is zero by construction: such a
unit is NaN, with its reason, never a small number left over from rounding.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from metrics._arrays import Array, Floats, is_tensor, like, to_float
from metrics.nonlinearity.jacobians import Differentiated, Factored, blocks_of, centred, slices

TOO_FEW = "fewer than two samples"
LINEAR = "the Jacobian is the same at every sample: a linear readout has no dispersion, by construction"
UNDEFINED = "the Jacobian is NaN or infinite at some sample, or has no z-score there (equal over features)"


@dataclass(frozen=True)
class JacobianNonlinearity:
    """The dispersion of a model's Jacobian over samples, per unit.

    jne (units,): see ``jne``. mean_deviation (units,): see ``mean_deviation``. scale_free (units,): jne /
    mean_deviation. per_sample (samples, units) or None: see ``jne_per_sample``. linear (units,): whether the
    (z-scored) Jacobian is the same at every sample. samples: how many there were.
    """

    jne: Array
    mean_deviation: Array
    scale_free: Array
    per_sample: Array | None
    linear: Array
    samples: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a unit has no dispersion, one text per unit; empty where it has one.

        >>> jacobian_nonlinearity([[[1.0, 0.0]], [[1.0, 3.0]]]).reasons[1]
        ''
        """
        undefined = np.isnan(to_float(self.mean_deviation))
        why = np.where(to_float(self.linear) > 0, LINEAR, np.where(undefined, UNDEFINED, ""))
        return tuple(map(str, why)) if self.samples > 1 else (TOO_FEW,) * len(why)


def relative_tolerance(values: Array) -> float:
    """Deviations that count as rounding, relative to the Jacobian: eps^(2/3), 4e-11 in float64, 2e-5 in float32.

    >>> round(relative_tolerance(np.ones(2, np.float32)) * 1e5, 1)
    2.4
    """
    if is_tensor(values):
        torch = sys.modules["torch"]
        return float(torch.finfo(values.dtype if values.dtype.is_floating_point else torch.float64).eps) ** (2 / 3)
    kind = np.asarray(values).dtype
    return float(np.finfo(kind if kind.kind == "f" else np.float64).eps) ** (2 / 3)


def _lengths(deviations: Array, norm: str) -> Floats:
    """Norm over features of a block (samples, features, units), summed in float64 -> (samples, units)."""
    if is_tensor(deviations) and (deviations.device.type != "cpu" or deviations.element_size() < 4):
        torch = sys.modules["torch"]
        order = 1 if norm == "l1" else 2
        return to_float(torch.linalg.vector_norm(deviations, order, dim=1, dtype=torch.float64))
    block = np.asarray(deviations)
    if norm == "l1":
        return np.asarray(np.abs(block).sum(axis=1, dtype=np.float64))
    return np.asarray(np.sqrt(np.square(block).sum(axis=1, dtype=np.float64)))


def _standardised(block: Array, tolerance: float) -> Array:
    """Every sample's Jacobian z-scored over features (ddof 0); NaN where it does not vary over features."""
    shifted = block - block.mean(1)[:, None]
    spread = (shifted * shifted).mean(1) ** 0.5
    spread[spread <= tolerance * (block * block).mean(1) ** 0.5] = float("nan")
    return shifted / spread[:, None]


def _check(norm: str, linear: str) -> None:
    """A ValueError for a word that is not known."""
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm must be 'l1' or 'l2'; got {norm!r}")
    if linear not in ("nan", "zero"):
        raise ValueError(f"linear must be 'nan' or 'zero'; got {linear!r}")


def _summary(lengths: Floats, flat: Any, linear: str, keep: bool, kind: Array) -> JacobianNonlinearity:
    """All per-unit numbers, in the kind of ``kind``, from the lengths (samples, units) of the deviations."""
    samples, units = lengths.shape
    with np.errstate(invalid="ignore"):
        mean = lengths.mean(axis=0) if samples > 1 else np.full(units, np.nan)
        squares = (lengths - mean) ** 2
        flat = flat & (samples > 1)
        mean[flat] = squares[:, flat] = np.nan if linear == "nan" else 0.0
        score = np.sqrt(squares.mean(axis=0)) if samples else mean
        ratio = np.divide(score, mean, out=np.full(units, np.nan), where=mean > 0)
    score, mean, ratio, flat = (like(values, kind) for values in (score, mean, ratio, flat))
    return JacobianNonlinearity(score, mean, ratio, like(squares, kind) if keep else None, flat, samples)


def jacobian_nonlinearity(
    jacobians: Array,
    norm: Literal["l1", "l2"] = "l1",
    zscored: bool = False,
    linear: Literal["nan", "zero"] = "nan",
    tolerance: float | None = None,
) -> JacobianNonlinearity:
    """JNE, mean deviation, their ratio and the per-sample map of Jacobians that fit in memory.

    Formulas, edge rule and source: ``jne``, ``mean_deviation``, ``jne_per_sample``.
    Shapes: jacobians (samples, features, units) -> ``JacobianNonlinearity``.

    >>> result = jacobian_nonlinearity([[[0.0]], [[0.0]], [[0.0]], [[8.0]]])
    >>> result.jne.round(3).tolist(), result.mean_deviation.tolist(), result.scale_free.round(3).tolist()
    ([1.732], [3.0], [0.577])
    """
    _check(norm, linear)
    values = to_float(jacobians)
    if values.ndim != 3:
        raise ValueError(f"jacobians must be (samples, features, units), three axes; got shape {values.shape}")
    tolerance = relative_tolerance(jacobians) if tolerance is None else tolerance
    with np.errstate(invalid="ignore"):
        values = _standardised(values, tolerance) if zscored else values
        mean = values.sum(axis=0) / max(len(values), 1)
        lengths = _lengths(values - mean, norm)
    flat = lengths.sum(axis=0) <= tolerance * len(values) * _lengths(mean[None], norm)[0]
    return _summary(lengths, flat, linear, True, jacobians)


def jne(
    jacobians: Array,
    norm: Literal["l1", "l2"] = "l1",
    zscored: bool = False,
    scale_free: bool = False,
    linear: Literal["nan", "zero"] = "nan",
    tolerance: float | None = None,
) -> Array:
    """Jacobian nonlinearity: how unequally far the samples' Jacobians lie from their mean.

    s_im = sum_d |J_idm - mean_i J_idm| (l2: the root of the sum of squares), JNE_m = std_i(s_im), ddof 0.
    ``zscored`` first z-scores each sample's Jacobian over features (ddof 0); ``scale_free`` divides by
    ``mean_deviation``, which takes out the gain: JNE(a f) = |a| JNE(f).
    Shapes: jacobians (samples, features, units) -> (units,), at least 0, in units of the Jacobian.
    Edge rule: below two samples NaN. Deviations within ``tolerance`` of the mean Jacobian (None: see
    ``relative_tolerance``) are a linear readout: NaN, or 0 with ``linear="zero"`` (scale-free stays NaN). A
    unit whose Jacobian is not finite, or has no z-score at some sample, is NaN; ``jacobian_nonlinearity``
    gives the reasons. Blind to fair two-state switches, which are equally far from the mean: 0 there.
    Source: Gao et al. 2025 (arXiv 2510.13688), JNE-L1 by default, with its L2 and z-score variants; scale-free
    and the rule for linear readouts are ours.

    >>> jne([[[0.0]], [[0.0]], [[0.0]], [[8.0]]]).round(3).tolist()
    [1.732]
    """
    result = jacobian_nonlinearity(jacobians, norm, zscored, linear, tolerance)
    return result.scale_free if scale_free else result.jne


def mean_deviation(
    jacobians: Array,
    norm: Literal["l1", "l2"] = "l1",
    zscored: bool = False,
    linear: Literal["nan", "zero"] = "nan",
    tolerance: float | None = None,
) -> Array:
    """How far the samples' Jacobians lie from their mean: sees the fair switches that JNE is blind to.

    mean_i s_im with s of ``jne``.
    Shapes: jacobians (samples, features, units) -> (units,), at least 0, in units of the Jacobian.
    Edge rule: as ``jne``.
    Source: mu of the JNE paper, there a step on the way; reported on its own by us.

    >>> mean_deviation([[[0.0]], [[2.0]]]).tolist(), jne([[[0.0]], [[2.0]]]).tolist()
    ([1.0], [0.0])
    """
    return jacobian_nonlinearity(jacobians, norm, zscored, linear, tolerance).mean_deviation


def jne_per_sample(
    jacobians: Array,
    norm: Literal["l1", "l2"] = "l1",
    zscored: bool = False,
    linear: Literal["nan", "zero"] = "nan",
    tolerance: float | None = None,
) -> Array:
    """The JNE-SS map: what every sample adds to JNE, (s_im - mean_i s_im)^2 with s of ``jne``.

    Its mean over samples is JNE^2.
    Shapes: jacobians (samples, features, units) -> (samples, units), in squared units of the Jacobian.
    Edge rule: as ``jne``, for whole columns.
    Source: JNE-SS of Gao et al. 2025 (arXiv 2510.13688).

    >>> jne_per_sample([[[0.0]], [[0.0]], [[0.0]], [[8.0]]]).ravel().tolist()
    [1.0, 1.0, 1.0, 9.0]
    """
    return jacobian_nonlinearity(jacobians, norm, zscored, linear, tolerance).per_sample


def _by_factors(source: Factored, chunks: list[slice], blocks: list[slice], norm: str) -> tuple[Floats, Floats]:
    """Lengths (samples, units) of the deviations (left_i - mean left) @ right, and of mean left @ right (units,)."""
    entries = len(source.inputs) * source.features * len(source.right)
    mean, lefts = centred(lambda: (source.left(chunk) for chunk in chunks), entries)
    lengths, level = np.empty((len(source.inputs), source.units)), np.empty(source.units)
    for chunk, left in zip(chunks, lefts(), strict=True):
        for units in blocks:
            lengths[chunk, units] = _lengths(source.times_right(left, units), norm)
    for units in blocks:
        level[units] = _lengths(source.times_right(mean[None], units), norm)[0]
    return lengths, level


def _by_blocks(
    source: Factored | Differentiated,
    chunks: list[slice],
    blocks: list[slice],
    norm: str,
    change: Callable[[Array], Array],
) -> tuple[Floats, Floats]:
    """Lengths (samples, units) of J_i - mean J, and of mean J (units,), one block of units after another."""

    def parts(units: slice) -> Iterator[Array]:
        return (change(source.block(chunk, units)) for chunk in chunks)

    samples = len(source.inputs)
    lengths, level = np.empty((samples, source.units)), np.empty(source.units)
    for units in blocks:
        mean, deviations = centred(partial(parts, units), samples * source.features * (units.stop - units.start))
        level[units] = _lengths(mean[None], norm)[0]
        for chunk, part in zip(chunks, deviations(), strict=True):
            lengths[chunk, units] = _lengths(part, norm)
    return lengths, level


def jne_streaming(
    model: Any,
    inputs: Array,
    norm: Literal["l1", "l2"] = "l1",
    zscored: bool = False,
    linear: Literal["nan", "zero"] = "nan",
    tolerance: float | None = None,
    per_sample: bool = False,
    units_per_block: int | None = None,
    samples_per_block: int | None = None,
) -> JacobianNonlinearity:
    """``jacobian_nonlinearity`` of a model, without ever holding samples x features x units.

    ``model`` is either an object with ``jacobian_factors(inputs) -> left (samples, features, hidden), right
    (hidden, units)`` and J_i = left_i @ right, of which only (left_i - mean left) @ right is formed; or any
    differentiable torch callable (samples, features) -> (samples, units), by reverse mode, block by block.
    Held are one block and samples x units lengths in float64. Block sizes change speed and memory, not the
    result; None chooses blocks of tens of MB.
    Shapes: inputs (samples, features), or (samples, ...) for a torch callable -> ``JacobianNonlinearity``,
    its per_sample only if asked for.
    Edge rule: as ``jne``; no sample at all, and shapes that do not fit, are a ValueError. Everything runs in
    the precision of the model and its inputs (float32 is fine, and fast); sums are taken in float64.
    Source: as ``jne``; the factors are the paper's closed form, see ``residual_mlp_factors``.

    >>> from metrics import ResidualJacobian
    >>> model = ResidualJacobian([np.eye(2), np.ones((2, 1))], lambda x: [np.exp(x)])
    >>> jne_streaming(model, np.log([[1.0, 1.0], [1.0, 1.0], [1.0, 4.0]])).jne.round(3).tolist()
    [0.471]
    """
    _check(norm, linear)
    source = blocks_of(model, inputs)
    samples, units = source.sizes(again=zscored)
    samples = samples if samples_per_block is None else samples_per_block
    units = units if units_per_block is None else units_per_block
    chunks = slices(len(source.inputs), samples, "samples_per_block")
    blocks = slices(source.units, units, "units_per_block")
    limit = relative_tolerance(source.example) if tolerance is None else tolerance
    if isinstance(source, Factored) and not zscored:
        lengths, level = _by_factors(source, chunks, blocks, norm)
    else:
        change = partial(_standardised, tolerance=limit) if zscored else (lambda block: block)
        lengths, level = _by_blocks(source, chunks, blocks, norm, change)
    return _summary(lengths, lengths.mean(axis=0) <= limit * level, linear, per_sample, inputs)
