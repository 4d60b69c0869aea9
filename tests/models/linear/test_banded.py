"""Banded ridge against himalaya, scikit-learn on scaled features, and ridge with one band."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from models.linear.banded import ShareSearch, balanced, fit_banded, mean_diagonal, share_candidates
from models.linear.ridge import ALPHAS, decompose_kernel, fit_ridge

GROUPS = np.repeat(np.arange(8), 5)


def toy(seed: int = 0, units: int = 4) -> tuple[list[np.ndarray], np.ndarray]:
    """Two bands of other sizes and scales, and units that read the first, the second, both or none."""
    random = np.random.default_rng(seed)
    bands = [3.0 + random.standard_normal((40, 6)), 100 * random.standard_normal((40, 90)) - 7]
    first, second = bands[0][:, :3].sum(axis=1), bands[1][:, :3].sum(axis=1) / 100
    clean = np.stack([first, second, first + second, 0 * first], axis=1)[:, :units]
    return bands, clean + 0.5 * random.standard_normal(clean.shape) + 4


def kernels_of(bands: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(band @ band.T) for band in bands]


def himalaya(kernels: list[torch.Tensor], y: np.ndarray, shares: np.ndarray, folds: list) -> tuple:
    """Random search over given shares in himalaya, on kernels scaled by their mean diagonal once centred."""
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search as solve

    keep = np.eye(len(y)) - 1 / len(y)
    scaled = np.stack([k.numpy() / (np.trace(keep @ k.numpy() @ keep) / len(y)) for k in kernels])
    settings = {"fit_intercept": True, "return_weights": "dual", "progress_bar": False, "return_alphas": True}
    deltas, dual, _, alphas, offset = solve(scaled, y, n_iter=shares, alphas=np.array(ALPHAS), cv=folds, **settings)
    predicted = sum(np.exp(delta) * (kernel @ dual) for delta, kernel in zip(deltas, scaled, strict=True)) + offset
    return predicted, alphas, np.exp(deltas) * alphas


def positive(shares: np.ndarray) -> np.ndarray:
    """Shares far enough from 0 for himalaya, which takes their logarithm."""
    return np.maximum(shares, 1e-6) / np.maximum(shares, 1e-6).sum(axis=1, keepdims=True)


def test_leaving_each_group_out_equals_himalaya_with_a_refit_for_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    bands, y = toy()
    shares = positive(share_candidates(2, 8, seed=1))
    monkeypatch.setattr("models.linear.banded.share_candidates", lambda bands, count, seed: shares)
    fitted = fit_banded(kernels_of(bands), torch.from_numpy(y), GROUPS, search=ShareSearch(iterations=8, seed=1))
    folds = list(LeaveOneGroupOut().split(y, y, GROUPS))
    predicted, alphas, chosen = himalaya(kernels_of(bands), y, shares, folds)
    np.testing.assert_allclose(fitted.alpha, alphas, rtol=1e-9)
    np.testing.assert_allclose(fitted.shares, chosen, rtol=1e-9)
    np.testing.assert_allclose(fitted.predict(kernels_of(bands)), predicted, atol=1e-6)


def test_grouped_folds_are_those_of_himalaya_and_its_backend_is_left_as_it_was() -> None:
    from himalaya.backend import get_backend, set_backend

    bands, y = toy()
    folds = list(GroupKFold(4).split(y, groups=GROUPS))
    predicted, alphas, _ = himalaya(kernels_of(bands), y, share_candidates(2, 6, seed=2), folds)
    before = get_backend()
    set_backend("torch")
    try:
        fitted = fit_banded(
            kernels_of(bands), torch.from_numpy(y), GROUPS, search=ShareSearch(folds=4, iterations=6, seed=2)
        )
        assert get_backend().name == "torch"
    finally:
        set_backend(before)
    np.testing.assert_allclose(fitted.alpha, alphas, rtol=1e-9)
    np.testing.assert_allclose(fitted.predict(kernels_of(bands)), predicted, atol=1e-6)
    np.testing.assert_allclose(fitted.shares.sum(dim=0), 1)


@pytest.mark.parametrize("folds", ["each", 8])
def test_both_searches_agree_where_the_folds_are_the_groups(folds: int | str) -> None:
    bands, y = toy(seed=3)
    one = fit_banded(kernels_of(bands), torch.from_numpy(y), GROUPS, search=ShareSearch(iterations=5, seed=0))
    other = fit_banded(
        kernels_of(bands), torch.from_numpy(y), GROUPS, search=ShareSearch(folds=folds, iterations=5, seed=0)
    )
    torch.testing.assert_close(one.shares, other.shares, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(one.left_out_error, other.left_out_error, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.predict(kernels_of(bands)), other.predict(kernels_of(bands)), rtol=1e-6, atol=1e-6)


def test_chosen_shares_are_penalties_of_scikit_learns_ridge_on_scaled_bands() -> None:
    bands, y = toy(seed=4)
    fitted = fit_banded(kernels_of(bands), torch.from_numpy(y), GROUPS, search=ShareSearch(iterations=10))
    new, _ = toy(seed=5)
    found = fitted.predict([torch.from_numpy(b @ a.T) for a, b in zip(bands, new, strict=True)])
    scales = [((band - band.mean(axis=0)) ** 2).sum(axis=1).mean() for band in bands]
    for unit in range(y.shape[1]):
        factors = np.sqrt(fitted.shares[:, unit].numpy() / scales)
        x, shown = (np.hstack([f * b for f, b in zip(factors, each, strict=True)]) for each in (bands, new))
        expected = Ridge(alpha=float(fitted.alpha[unit]), solver="svd").fit(x, y[:, unit]).predict(shown)
        np.testing.assert_allclose(found[:, unit], expected, atol=1e-6)


@pytest.mark.parametrize("alpha", ["auto", 0.3])
def test_one_band_is_ridge(alpha: float | str) -> None:
    bands, y = toy()
    (kernel,), targets = kernels_of(bands[1:]), torch.from_numpy(y)
    ridge = fit_ridge(decompose_kernel(kernel), kernel, targets, GROUPS, alpha)
    banded = fit_banded([kernel], targets, GROUPS, alpha, search=ShareSearch(iterations=50))
    torch.testing.assert_close(banded.alpha, ridge.alpha)
    torch.testing.assert_close(banded.left_out_error, ridge.left_out_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(banded.predict([kernel]), ridge.predict(kernel), rtol=1e-9, atol=1e-9)
    folded = fit_banded([kernel], targets, GROUPS, alpha, search=ShareSearch(folds=8))
    torch.testing.assert_close(folded.predict([kernel]), ridge.predict(kernel), rtol=1e-6, atol=1e-6)


def test_a_band_that_matters_gets_the_larger_share_and_beats_equal_shares() -> None:
    random = np.random.default_rng(0)
    groups, noise = np.arange(60), random.standard_normal((60, 300))
    signal = random.standard_normal((60, 5))
    y = torch.from_numpy(signal @ random.standard_normal((5, 3)) + 0.3 * random.standard_normal((60, 3)))
    kernels = kernels_of([signal, noise])
    fitted = fit_banded(kernels, y, groups, search=ShareSearch(iterations=30))
    assert (fitted.shares[0] > 0.9).all()
    both, _ = balanced(kernels)
    assert (fitted.left_out_error < 0.7 * fit_ridge(decompose_kernel(both), both, y, groups).left_out_error).all()


def test_balanced_kernels_are_those_of_concatenated_features_scaled_to_one_size() -> None:
    bands, _ = toy()
    kernel, factors = balanced(kernels_of(bands))
    joined = np.hstack([np.sqrt(f) * band for f, band in zip(factors, bands, strict=True)])
    np.testing.assert_allclose(kernel, joined @ joined.T, rtol=1e-12)
    for band, factor in zip(bands, factors, strict=True):
        assert factor * band.var(axis=0).sum() == pytest.approx(1)
    assert balanced(kernels_of(bands[:1]))[1] == [1.0]


@pytest.mark.parametrize("folds", ["each", 4])
def test_bands_without_variance_get_no_share_and_none_at_all_predicts_the_mean(folds: int | str) -> None:
    bands, y = toy()
    flat, targets = np.full((40, 7), 2.5), torch.from_numpy(y)
    alone = fit_banded(kernels_of(bands[:1]), targets, GROUPS, search=ShareSearch(folds=folds))
    beside = fit_banded(kernels_of([flat, bands[0]]), targets, GROUPS, search=ShareSearch(folds=folds))
    assert mean_diagonal(kernels_of([flat])[0]) == 0
    assert (beside.shares[0] == 0).all()
    torch.testing.assert_close(
        beside.predict(kernels_of([flat, bands[0]])), alone.predict(kernels_of(bands[:1])), rtol=1e-9, atol=1e-9
    )
    nothing = fit_banded(kernels_of([flat, flat]), targets, GROUPS, search=ShareSearch(folds="each"))
    predicted = nothing.predict(kernels_of([flat, flat]))
    torch.testing.assert_close(predicted, targets.mean(dim=0).expand(40, -1), rtol=1e-9, atol=1e-6)


def test_candidates_lie_on_the_simplex_start_equal_and_depend_on_the_seed_alone() -> None:
    found = share_candidates(3, 200, seed=7)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found[0], np.full(3, 1 / 3))
    np.testing.assert_array_equal(found, share_candidates(3, 200, seed=7))
    assert not np.array_equal(found, share_candidates(3, 200, seed=8))
    np.testing.assert_allclose(found.mean(axis=0), 1 / 3, atol=0.08)
    assert (found[2::2].max(axis=1) > 0.9).mean() > 0.5 > (found[1::2].max(axis=1) > 0.9).mean()


def test_one_group_cannot_be_left_out() -> None:
    bands, y = toy()
    with pytest.raises(ValueError, match="two groups"):
        fit_banded(kernels_of(bands), torch.from_numpy(y), np.zeros(40))
