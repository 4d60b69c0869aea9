"""Ridge regression in closed form: one decomposition serves every unit, every alpha and every left-out group.

With centred features X (stimuli x features) and K = X X', the orthonormal basis Q of the centred stimulus
space and the spectrum s of K in it give, for any alpha, the residual maker

    I - H = O + Q diag(alpha / (s + alpha)) Q',        O = I - 11'/n - Q Q'

where H includes the *re-estimated, unpenalised* intercept. Leaving out a group g of stimuli gives residuals
(I - H)_gg^{-1} (y - yhat)_g: exactly those of a refit, intercept included, without the group. In the dual form
Q spans all n - 1 directions that are orthogonal to the constant, so O is zero by construction; treating the
constant's own direction as one more eigenvector of K (eigenvalue 0) is the usual mistake, since it makes the
residual of the intercept alpha/(0 + alpha) = 1 instead of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALPHAS: tuple[float, ...] = tuple(float(10**power) for power in np.arange(-3.0, 4.01, 0.5))
"""Relative alphas tried by `auto`: half decades from 1e-3 to 1e4 times the kernel's mean diagonal."""

ROUNDING = 1e-13
"""Variance below this share of the features' squared norm is rounding, and taken as none."""

TOGETHER = 2**22
"""Numbers that leaving out groups takes at a time: 32 MB."""


@dataclass(frozen=True)
class Decomposition:
    """Spectrum of one centred kernel: `basis` (stimuli, rank), `spectrum` (rank,), `scale` = mean diagonal.

    `full` says that the basis spans everything orthogonal to the constant (dual form).
    """

    basis: Tensor
    spectrum: Tensor
    scale: float
    full: bool

    @property
    def stimuli(self) -> int:
        return self.basis.shape[0]


def _mirror(stimuli: int, like: Tensor) -> Tensor:
    """Unit vector whose Householder reflection takes the constant direction to the first axis."""
    vector = torch.full((stimuli, 1), 1.0 / np.sqrt(stimuli), dtype=like.dtype, device=like.device)
    vector[0] += 1.0
    return vector / vector.norm()


def decompose_kernel(kernel: Tensor) -> Decomposition:
    """Dual form: from the kernel X X' (stimuli, stimuli), centred here, float64. Use when stimuli < features.

    The kernel is reflected so that the constant becomes the first axis, which is then left out: what remains is
    decomposed, so that no eigenvector can lean on the constant.
    """
    kernel = kernel.double()
    mirror = _mirror(len(kernel), kernel)
    half = kernel - 2.0 * mirror @ (mirror.T @ kernel)
    reflected = half - 2.0 * (half @ mirror) @ mirror.T
    spectrum, vectors = torch.linalg.eigh(reflected[1:, 1:])
    basis = torch.cat([torch.zeros_like(vectors[:1]), vectors])
    basis -= 2.0 * mirror @ (mirror[1:].T @ vectors)
    spectrum = torch.where(spectrum > ROUNDING * kernel.trace(), spectrum, 0.0)
    return Decomposition(basis, spectrum, float(spectrum.sum() / len(kernel)), full=True)


def decompose_features(features: Tensor) -> Decomposition:
    """Primal form: from features (stimuli, features), centred here, float64. Use when features < stimuli."""
    centred = features.double() - features.double().mean(dim=0)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    keep = singular > ROUNDING * features.double().norm()
    scale = float((singular**2).sum() / features.shape[0])
    return Decomposition(left[:, keep], singular[keep] ** 2, scale, full=False)


def decompose(features: Tensor) -> Decomposition:
    """The cheaper of the two forms for features (stimuli, features)."""
    if features.shape[0] > features.shape[1] + 1:
        return decompose_features(features)
    return decompose_kernel(features.double() @ features.double().T)


def leave_group_out_residuals(
    parts: Decomposition, responses: Tensor, alphas: Tensor, groups: Sequence[Tensor]
) -> Tensor:
    """Residuals (alphas, stimuli, units) of each stimulus under the ridge fit without that stimulus's group.

    residual_g = (I - H)_gg^{-1} (y - H y)_g, the intercept re-estimated without the group. `alphas` are
    absolute (the penalty on |weights|^2); `groups` are index tensors that cover the stimuli once.
    """
    shrink = alphas[:, None] / (parts.spectrum + alphas[:, None])
    centred = responses - responses.mean(dim=0)
    inside = parts.basis.T @ centred
    shrunk = (inside[:, None, :] * shrink.T[:, :, None]).flatten(1)
    residual = (parts.basis @ shrunk).unflatten(1, (len(alphas), -1)).transpose(0, 1)
    if not parts.full:
        residual = residual + (centred - parts.basis @ inside)
    if all(len(group) == 1 for group in groups):
        return residual / _leverage_complement(parts, shrink)[:, :, None]
    return _solve_groups(parts, shrink, residual, groups)


def _leverage_complement(parts: Decomposition, shrink: Tensor) -> Tensor:
    """Diagonal of I - H for every alpha (alphas, stimuli)."""
    squared = parts.basis**2
    diagonal = shrink @ squared.T
    return diagonal if parts.full else diagonal + 1.0 - 1.0 / parts.stimuli - squared.sum(dim=1)


def _solve_groups(parts: Decomposition, shrink: Tensor, residual: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """Groups of equal size are solved together, as many at a time as `TOGETHER` allows."""
    left_out = torch.empty_like(residual)
    by_size: dict[int, list[Tensor]] = {}
    for group in groups:
        by_size.setdefault(len(group), []).append(group)
    for size, alike in by_size.items():
        most = max(1, TOGETHER // max(1, len(shrink) * size * parts.basis.shape[1]))
        for start in range(0, len(alike), most):
            places = torch.stack(alike[start : start + most]).to(residual.device)
            rows = parts.basis[places]  # (groups, size, directions)
            maker = (rows * shrink[:, None, None, :]) @ rows.transpose(1, 2)
            if not parts.full:
                whole = torch.eye(size, dtype=rows.dtype, device=rows.device) - 1.0 / parts.stimuli
                maker = maker + (whole - rows @ rows.transpose(1, 2))
            left_out[:, places] = torch.linalg.solve(maker, residual[:, places])
    return left_out


def group_indices(groups: Sequence[object] | np.ndarray) -> list[Tensor]:
    """Index tensors of the stimuli of each distinct group, in order of first appearance."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return [torch.from_numpy(rows) for rows in np.split(order, cuts)]


@dataclass(frozen=True)
class RidgeFit:
    """A fitted readout in dual form: prediction = (K(x, train) - its train mean) @ dual + intercept.

    `dual` (train stimuli, units) sums to zero over stimuli, so kernels need no centring of their own;
    `alpha` (units,) is relative to the kernel's mean diagonal; `left_out_error` (units,) is the mean
    squared leave-one-group-out residual at the chosen alpha.
    """

    dual: Tensor
    offset: Tensor
    alpha: Tensor
    left_out_error: Tensor

    def predict(self, kernel: Tensor) -> Tensor:
        """Responses (stimuli, units) from the kernel (stimuli, train stimuli) of raw or centred features."""
        return kernel.double() @ self.dual + self.offset


def fit_ridge(
    parts: Decomposition,
    kernel: Tensor,
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    alpha: float | str = "auto",
    alphas: Sequence[float] = ALPHAS,
    left_out: bool = True,
) -> RidgeFit:
    """Ridge readout of every unit, alpha per unit by leave-one-group-out, or one given relative alpha.

    Minimises |y - X w - b|^2 + alpha * scale * |w|^2 per unit, scale = mean diagonal of the centred kernel.
    `kernel` (stimuli, stimuli) is X X' of the training stimuli, centred or not; `responses` (stimuli, units).
    Memory: alphas x stimuli x units. A constant feature set (scale 0) predicts each unit's mean. Without `left_out`
    the errors under a given alpha, which decide nothing, are NaN.
    Raises ValueError with fewer than two groups, unless alpha is given and nothing is left out.
    """
    responses = responses.double()
    candidates = sorted(alphas, reverse=True) if alpha == "auto" else [float(alpha)]
    relative = torch.tensor(candidates, dtype=torch.float64, device=responses.device)
    scale = parts.scale if parts.scale > 0 else 1.0
    if left_out or alpha == "auto":
        index = group_indices(groups)
        if len(index) < 2:
            raise ValueError("leave-one-group-out needs at least two groups of training stimuli")
        errors = leave_group_out_residuals(parts, responses, relative * scale, index).square().mean(dim=1)
    else:
        errors = responses.new_full((1, responses.shape[1]), torch.nan)
    best, place = errors.min(dim=0)
    chosen = relative[place]
    dual = dual_coefficients(parts, responses, chosen * scale)
    offset = responses.mean(dim=0) - kernel.double().mean(dim=0) @ dual
    return RidgeFit(dual, offset, chosen, best)


def dual_coefficients(parts: Decomposition, responses: Tensor, alpha: Tensor) -> Tensor:
    """Dual coefficients (stimuli, units): (K + alpha)^{-1} (y - mean) inside the decomposed directions.

    alpha (units,) is absolute. Directions without variance are left out: they predict nothing.
    """
    inside = parts.basis.T @ (responses - responses.mean(dim=0))
    return parts.basis @ (inside / (parts.spectrum[:, None] + alpha))


CONVENTIONS = ("relative", "absolute", "shrinkage", "normalised-shrinkage")
"""How an alpha is meant: times the kernel's mean diagonal; as it is; a of singular values S / (S^2 + a^2); a times
the largest singular value."""


def absolute_alpha(value: float, convention: str, parts: Decomposition) -> float:
    """The penalty on |weights|^2 that an alpha of another convention means for these features.

        relative: value * scale;  absolute: value;  shrinkage: value^2;  normalised-shrinkage: (value * s_1)^2

    scale is the mean diagonal of the centred kernel, s_1 the largest singular value of the centred features; divide by
    `parts.scale` for the relative alpha that `fit_ridge` takes. Raises ValueError for another word.
    Source: scikit-learn and himalaya (absolute); ridge_utils of the Huth lab (shrinkage; with its `normalpha`).
    """
    largest = float(parts.spectrum.max()) if len(parts.spectrum) else 0.0
    found = {
        "relative": value * parts.scale,
        "absolute": value,
        "shrinkage": value**2,
        "normalised-shrinkage": value**2 * largest,
    }
    if convention not in found:
        raise ValueError(f"an alpha is {' | '.join(CONVENTIONS)}; got {convention!r}")
    return float(found[convention])


@dataclass(frozen=True)
class BlockChoice:
    """Ridge readouts of several blocks, and the one that is used for each unit: `block` (units,) counts from 0."""

    block: Tensor
    fits: tuple[RidgeFit, ...]

    def predict(self, kernels: Sequence[Tensor]) -> Tensor:
        """Responses (stimuli, units) from one kernel (stimuli, train stimuli) for each block."""
        every = torch.stack([fit.predict(kernel) for fit, kernel in zip(self.fits, kernels, strict=True)])
        return every.gather(0, self.block.expand(1, every.shape[1], -1))[0]


def choose_block(
    kernels: Sequence[Tensor],
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    alpha: float | str = "auto",
    alphas: Sequence[float] = ALPHAS,
    shared: bool = False,
    parts: Sequence[Decomposition] | None = None,
) -> BlockChoice:
    """The block of several from which each unit is best read, with its alpha, by leave-one-group-out error.

        block_u = argmin_b min_alpha mean_i (left-out residual of unit u from block b)^2

    `kernels` are those of the blocks among the training stimuli alone (stimuli, stimuli), so neither choice sees a
    held-out response; `parts` are their decompositions where they are at hand. `shared` takes one block for all units:
    the smallest mean over units of error / variance, units that are constant left out. A tie goes to the first block.
    """
    parts = parts or [decompose_kernel(kernel) for kernel in kernels]
    fits = tuple(
        fit_ridge(part, kernel, responses, groups, alpha, alphas) for part, kernel in zip(parts, kernels, strict=True)
    )
    errors = torch.stack([fit.left_out_error for fit in fits])
    if shared:
        variance = responses.double().var(dim=0, correction=0)
        kept = variance > 0
        errors = (errors[:, kept] / variance[kept]).mean(dim=1, keepdim=True).expand(-1, responses.shape[1])
    return BlockChoice(errors.argmin(dim=0), fits)
