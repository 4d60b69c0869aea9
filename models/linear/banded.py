"""Banded ridge regression: several feature spaces read together, the penalty of each chosen for every unit.

With one kernel K_b per band, each divided by its mean diagonal d_b so that no band counts more for its size,

    y = sum_b K_b(x, train) gamma_b / d_b (K_gamma + alpha)^{-1} (y - mean),     K_gamma = sum_b gamma_b K_b / d_b

which is ridge regression with the penalty alpha d_b / gamma_b on the weights of band b. The shares gamma (they add up
to one) are searched at random, alpha on a grid, both for each unit by prediction of groups that are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.linear.ridge import ROUNDING, Alpha, alpha_candidates, decompose_kernel, fit_ridge

CONCENTRATIONS = (1.0, 0.1)
"""Of the Dirichlet distribution that shares are drawn from, in turn: all over the simplex, and near its corners."""


@dataclass(frozen=True)
class BandedFit:
    """Fitted readouts in dual form: prediction = sum_b K_b(x, train) @ duals_b + offset.

    `duals` (bands, train stimuli, units), each column summing to zero, so kernels need no centring; `offset` and
    `alpha` (units,), alpha relative to the mean diagonal of K_gamma; `shares` (bands, units) are gamma;
    `left_out_error` (units,) is the mean squared error on groups left out at the chosen shares and alpha.
    """

    duals: Tensor
    offset: Tensor
    alpha: Tensor
    shares: Tensor
    left_out_error: Tensor

    def predict(self, kernels: Sequence[Tensor]) -> Tensor:
        """Predict responses (stimuli, units) from one kernel (stimuli, train stimuli) for each band."""
        parts = [kernel.double() @ dual for kernel, dual in zip(kernels, self.duals, strict=True)]
        return torch.stack(parts).sum(dim=0) + self.offset


@dataclass(frozen=True)
class ShareSearch:
    """How shares are searched: `iterations` candidates, drawn by `seed` alone.

    `folds="each"` leaves out every group in turn, exactly and without refits, from one decomposition for each
    candidate; a number is that many grouped folds, solved by himalaya.
    """

    folds: int | str = "each"
    iterations: int = 20
    seed: int = 0


DEFAULT_SEARCH = ShareSearch()


def mean_diagonal(kernel: Tensor) -> float:
    """Compute the mean diagonal of a centred kernel: the mean squared distance of features to their mean.

    trace(K) / n - sum(K) / n^2; 0 where that is rounding.
    """
    kernel = kernel.double()
    total = float(kernel.trace())
    mean = (total - float(kernel.sum()) / len(kernel)) / len(kernel)
    return mean if mean > ROUNDING * abs(total) else 0.0


def balanced(kernels: Sequence[Tensor]) -> tuple[Tensor, list[float]]:
    """Sum kernels, each divided by its mean diagonal, and the factors: what concatenated, scaled features give.

    A kernel without variance has factor 0. One kernel alone is left as it is (factor 1).
    """
    if len(kernels) == 1:
        return kernels[0].double(), [1.0]
    factors = [_inverse(mean_diagonal(kernel)) for kernel in kernels]
    return _weighted(kernels, factors), factors


def share_candidates(bands: int, count: int, seed: int) -> np.ndarray:
    """Draw shares to try (count, bands), each row adding up to 1: equal ones first, then from Dirichlet distributions.

    The concentration alternates over CONCENTRATIONS, and `seed` alone decides. One band has one candidate.
    Source: random search of himalaya, with generators of NumPy.
    """
    if bands == 1:
        return np.ones((1, 1))
    random = np.random.default_rng(seed)
    rows = [np.full(bands, 1.0 / bands)]
    for index in range(count - 1):
        rows.append(random.dirichlet([CONCENTRATIONS[index % len(CONCENTRATIONS)]] * bands))
    return np.stack(rows)


def fit_banded(
    kernels: Sequence[Tensor],
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    alpha: Alpha = "auto",
    search: ShareSearch = DEFAULT_SEARCH,
) -> BandedFit:
    """Fit a banded ridge readout of every unit; shares and alpha per unit, or one given relative alpha.

    `kernels` (one for each band) are X X' of the training stimuli (stimuli, stimuli), centred or not; `responses`
    (stimuli, units). One band is ridge regression. Bands without variance get no share; without any, each unit's
    mean is predicted. Raises ValueError with fewer than two groups.
    Source: Dupre la Tour et al. 2022 (NeuroImage); himalaya.
    """
    if len(np.unique(np.asarray(groups))) < 2:
        raise ValueError("banded ridge needs at least two groups of training stimuli")
    factors = [_inverse(mean_diagonal(kernel)) for kernel in kernels]
    used = [band for band, factor in enumerate(factors) if factor > 0] or [0]
    scaled = [kernels[band].double() * (factors[band] or 1.0) for band in used]
    candidates = share_candidates(len(used), search.iterations, search.seed)
    grid = alpha_candidates(alpha)
    if search.folds == "each":
        fit = _search_each(scaled, responses.double(), groups, candidates, grid)
    else:
        fit = _search_folds(scaled, responses.double(), groups, candidates, grid, int(search.folds))
    return _spread(fit, used, factors)


def _search_each(
    kernels: Sequence[Tensor],
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    candidates: np.ndarray,
    grid: Sequence[float],
) -> BandedFit:
    """Every candidate by exact leave-one-group-out; a unit moves to a later one only where it is better."""
    units, device = responses.shape[1], responses.device
    duals = torch.zeros(len(kernels), *responses.shape, dtype=torch.float64, device=device)
    shares = torch.zeros(len(kernels), units, dtype=torch.float64, device=device)
    offset, alpha = (torch.zeros(units, dtype=torch.float64, device=device) for _ in range(2))
    error = torch.full((units,), torch.inf, dtype=torch.float64, device=device)
    for share in candidates:
        kernel = _weighted(kernels, share.tolist())
        fitted = fit_ridge(decompose_kernel(kernel), kernel, responses, groups, grid)
        better = fitted.left_out_error < error
        weights = torch.from_numpy(share).to(device)
        duals[:, :, better] = weights[:, None, None] * fitted.dual[:, better]
        shares[:, better] = weights[:, None].expand(-1, int(better.sum()))
        for best, new in ((offset, fitted.offset), (alpha, fitted.alpha), (error, fitted.left_out_error)):
            best[better] = new[better]
    return BandedFit(duals, offset, alpha, shares, error)


def _search_folds(
    kernels: Sequence[Tensor],
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    candidates: np.ndarray,
    grid: Sequence[float],
    folds: int,
) -> BandedFit:
    """The same by grouped folds (at most as many as there are groups) through himalaya's random search."""
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
    from sklearn.model_selection import GroupKFold

    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    splitter = GroupKFold(min(folds, int(labels.max()) + 1))
    with _numpy_backend(), np.errstate(divide="ignore"):
        deltas, dual, scores, alpha, offset = solve_multiple_kernel_ridge_random_search(
            torch.stack(list(kernels)).cpu().numpy(),
            responses.cpu().numpy(),
            n_iter=candidates,
            alphas=np.array(grid),
            cv=list(splitter.split(labels, groups=labels)),
            fit_intercept=True,
            return_weights="dual",
            progress_bar=False,
            return_alphas=True,
        )
    arrays = (np.exp(deltas)[:, None] * dual, offset, alpha, np.exp(deltas) * alpha, -scores.max(axis=0))
    return BandedFit(*(torch.from_numpy(array).to(responses) for array in arrays))


def _spread(fit: BandedFit, used: Sequence[int], factors: Sequence[float]) -> BandedFit:
    """A fit of the bands that vary as one of all bands and of kernels that are not scaled."""
    bands, units = len(factors), fit.shares.shape[1]
    duals = fit.duals.new_zeros(bands, fit.duals.shape[1], units)
    shares = fit.shares.new_zeros(bands, units)
    for place, band in enumerate(used):
        duals[band] = fit.duals[place] * (factors[band] or 1.0)
        shares[band] = fit.shares[place]
    return BandedFit(duals, fit.offset, fit.alpha, shares, fit.left_out_error)


def _weighted(kernels: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = torch.zeros_like(kernels[0], dtype=torch.float64)
    for kernel, weight in zip(kernels, weights, strict=True):
        total += weight * kernel.double()
    return total


def _inverse(value: float) -> float:
    return 1.0 / value if value > 0 else 0.0


@contextmanager
def _numpy_backend() -> Iterator[None]:
    """himalaya on NumPy for a while: its backend is global, so the one in use before is put back."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    set_backend("numpy")
    try:
        yield
    finally:
        set_backend(before)
