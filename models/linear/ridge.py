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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.linear.leave_group_out import Makers, contenders

ALPHAS: tuple[float, ...] = tuple(float(10**power) for power in np.arange(-3.0, 4.01, 0.5))
"""Relative alphas tried by `auto`: half decades from 1e-3 to 1e4 times the kernel's mean diagonal."""

ROUNDING = 1e-13
"""Variance below this share of the features' squared norm is rounding, and taken as none."""

Maker = tuple[Tensor, Tensor]
"""Stimuli (groups, size) of groups of one size, and their blocks of I - H (alphas, groups, size, size)."""

Alpha = float | str | Sequence[float]
"""A relative alpha that is given, "auto" for one of ALPHAS, or others to choose from."""

Solver = tuple[Tensor, Callable[[Tensor], Tensor]]
"""Stimuli (groups, size), and a function from their residuals (alphas, groups, size, units) to left-out ones."""

SCREENED = 2**17
"""Stimuli x units from which on alphas are told apart in float32 first, where it can tell."""

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


def _left_out_errors(parts: Decomposition, responses: Tensor, shrink: Tensor, solvers: Iterable[Solver]) -> Tensor:
    """Mean squares (alphas, units) of left-out residuals, which are never in memory all at once."""
    total = responses.new_zeros(len(shrink), responses.shape[1])
    for _, units, residual in _left_out(parts, responses, shrink, solvers):
        total[:, units] += residual.square_().sum(dim=(1, 2))
    return total / len(responses)


def _left_out(
    parts: Decomposition, responses: Tensor, shrink: Tensor, solvers: Iterable[Solver]
) -> Iterator[tuple[Tensor, slice, Tensor]]:
    """Stimuli (groups, size), units, and left-out residuals (alphas, groups, size, units) of some of either."""
    centred = responses - responses.mean(dim=0)
    inside = parts.basis.T @ centred
    outside = None if parts.full else centred - parts.basis @ inside
    for places, solve in solvers:
        step = max(1, TOGETHER // (len(shrink) * places.numel()))
        for start in range(0, centred.shape[1], step):
            units = slice(start, start + step)
            shrunk = shrink.T[:, :, None] * inside[:, None, units]
            residual = (parts.basis[places.flatten()] @ shrunk.flatten(1)).unflatten(1, shrunk.shape[1:])
            if outside is not None:
                residual += outside[places.flatten(), None, units]
            residual = residual.movedim(1, 0).unflatten(1, places.shape)
            yield places, units, solve(residual)


def _solvers(makers: Iterable[Maker]) -> Iterator[Solver]:
    """Solvers of the blocks of I - H, each factorised once."""
    for places, maker in makers:
        if maker.shape[-1] == 1:
            yield places, maker.reciprocal().mul
        else:
            yield places, partial(torch.linalg.lu_solve, *torch.linalg.lu_factor(maker))


def _shrink(parts: Decomposition, alphas: Tensor) -> Tensor:
    """alpha / (s + alpha), (alphas, directions)."""
    return alphas[:, None] / (parts.spectrum + alphas[:, None])


def _leverage_complement(parts: Decomposition, shrink: Tensor) -> Tensor:
    """Diagonal of I - H for every alpha (alphas, stimuli)."""
    squared = parts.basis**2
    diagonal = shrink @ squared.T
    return diagonal if parts.full else diagonal + 1.0 - 1.0 / parts.stimuli - squared.sum(dim=1)


def residual_makers(parts: Decomposition, shrink: Tensor, groups: Sequence[Tensor]) -> Iterator[Maker]:
    """Yield stimuli (groups, size) and (I - H)_gg (alphas, groups, size, size) of groups of equal size.

    `shrink` (alphas, directions) is alpha / (s + alpha). As many groups at a time as `TOGETHER` allows.
    """
    for size, alike in _by_size(groups).items():
        if size == 1:
            places = torch.stack(alike).to(parts.basis.device)
            yield places, _leverage_complement(parts, shrink)[:, places[:, 0], None, None]
            continue
        most = max(1, TOGETHER // max(1, len(shrink) * size * parts.basis.shape[1]))
        for start in range(0, len(alike), most):
            places = torch.stack(alike[start : start + most]).to(parts.basis.device)
            rows = parts.basis[places]  # (groups, size, directions)
            shrunk = (rows[:, None] * shrink[:, None]).flatten(1, 2)  # (groups, alphas x size, directions)
            maker = (shrunk @ rows.transpose(1, 2)).unflatten(1, (len(shrink), size)).transpose(0, 1)
            if not parts.full:
                whole = torch.eye(size, dtype=rows.dtype, device=rows.device) - 1.0 / parts.stimuli
                maker += whole - rows @ rows.transpose(1, 2)
            yield places, maker


def _by_size(groups: Sequence[Tensor]) -> dict[int, list[Tensor]]:
    alike: dict[int, list[Tensor]] = {}
    for group in groups:
        alike.setdefault(len(group), []).append(group)
    return alike


def group_indices(groups: Sequence[object] | np.ndarray) -> list[Tensor]:
    """List index tensors of the stimuli of each distinct group, in order of first appearance."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return [torch.from_numpy(rows) for rows in np.split(order, cuts)]


@dataclass(frozen=True)
class RidgeFit:
    """A fitted readout in dual form: prediction = (K(x, train) - its train mean) @ dual + intercept.

    `dual` (train stimuli, units) sums to zero over stimuli, so kernels need no centring of their own;
    `alpha` (units,) is relative to the kernel's mean diagonal; `left_out_error` (units,) is the mean
    squared leave-one-group-out residual at the chosen alpha, NaN where it was not computed.
    """

    dual: Tensor
    offset: Tensor
    alpha: Tensor
    left_out_error: Tensor

    def predict(self, kernel: Tensor) -> Tensor:
        """Predict responses (stimuli, units) from the kernel (stimuli, train stimuli) of raw or centred features."""
        return kernel.double() @ self.dual + self.offset


def fit_ridge(
    parts: Decomposition,
    kernel: Tensor,
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    alpha: Alpha = "auto",
    left_out: bool = True,
) -> RidgeFit:
    """Fit a ridge readout of every unit, alpha per unit by leave-one-group-out, or one given relative alpha.

    Minimises |y - X w - b|^2 + alpha * scale * |w|^2 per unit, scale = mean diagonal of the centred kernel.
    `kernel` (stimuli, stimuli) is X X' of the training stimuli, centred or not; `responses` (stimuli, units).
    Memory: a few times stimuli x units, and alphas x stimuli x size of the largest group. A constant feature set
    (scale 0) predicts each unit's mean. Without `left_out` the errors are not returned (NaN): those under a given
    alpha decide nothing.
    Raises ValueError with fewer than two groups, unless alpha is given and nothing is left out.
    """
    responses = responses.double()
    candidates = alpha_candidates(alpha)
    relative = torch.tensor(candidates, dtype=torch.float64, device=responses.device)
    scale = parts.scale if parts.scale > 0 else 1.0
    index = group_indices(groups)
    if len(index) < 2 and (left_out or not isinstance(alpha, int | float)):
        raise ValueError("leave-one-group-out needs at least two groups of training stimuli")
    centre = responses.mean(dim=0)
    centred = responses - centre
    inside = parts.basis.T @ centred
    place = _best_alphas(parts, centred, inside, relative * scale, index)
    errors = torch.full_like(centre, torch.nan)
    if left_out:
        for chosen in place.unique():
            own = place == chosen
            shrink = _shrink(parts, relative[chosen, None] * scale)
            solvers = _solvers(residual_makers(parts, shrink, index))
            errors[own] = _left_out_errors(parts, centred[:, own], shrink, solvers)[0]
    own_alpha = relative[place]
    dual = parts.basis @ (inside / (parts.spectrum[:, None] + own_alpha * scale))
    return RidgeFit(dual, centre - kernel.mean(dim=0).double() @ dual, own_alpha, errors)


def alpha_candidates(alpha: Alpha) -> list[float]:
    """List the relative alphas to choose from, the largest first.

    >>> alpha_candidates(0.5), alpha_candidates([1.0, 3.0])
    ([0.5], [3.0, 1.0])
    """
    if isinstance(alpha, str):
        if alpha != "auto":
            raise ValueError(f"alpha must be a number, numbers, or auto; got {alpha!r}")
        return sorted(ALPHAS, reverse=True)
    return [float(alpha)] if isinstance(alpha, int | float) else sorted(alpha, reverse=True)


def _best_alphas(
    parts: Decomposition, centred: Tensor, inside: Tensor, alphas: Tensor, groups: Sequence[Tensor]
) -> Tensor:
    """Place (units,) of the alpha with the smallest left-out error, the first of equal ones.

    Many responses are screened in float32 first; the others, and units for which that cannot tell, are in float64.
    """
    units = centred.shape[1]
    if len(alphas) == 1:
        return torch.zeros(units, dtype=torch.long, device=centred.device)
    shrink = _shrink(parts, alphas)
    makers = residual_makers(parts, shrink, groups)
    if centred.numel() < SCREENED or max(map(len, groups)) > units:
        return _left_out_errors(parts, centred, shrink, _solvers(makers)).argmin(dim=0)
    inverses = [(places, torch.linalg.inv(maker)) for places, maker in makers]
    outside = None if parts.full else centred - parts.basis @ inside
    possible = contenders(shrink, parts.basis, inside, outside, Makers.of(inverses))
    place = possible.int().argmax(dim=0)
    unsure = possible.sum(dim=0) != 1
    if unsure.any():
        solvers = [(places, inverse.matmul) for places, inverse in inverses]
        place[unsure] = _left_out_errors(parts, centred[:, unsure], shrink, solvers).argmin(dim=0)
    return place
