"""The ridge solver against explicit refits, scikit-learn and himalaya."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from models.ridge import (
    ALPHAS,
    decompose,
    decompose_features,
    decompose_kernel,
    fit_ridge,
    group_indices,
    leave_group_out_residuals,
)

SHAPES = [(40, 15), (40, 39), (40, 40), (40, 41), (40, 200)]
"""Primal, just below and above as many features as stimuli, and dual."""


def toy(stimuli: int, features: int, units: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features with a mean and a falling spectrum, and responses with a mean."""
    random = np.random.default_rng(seed)
    scales = np.logspace(0, -1, features)
    held = random.standard_normal((stimuli, features)) * scales + 3.0
    return held, held[:, :units] @ random.standard_normal((units, units)) + random.standard_normal((stimuli, units)) + 5


def refit_residuals(x: np.ndarray, y: np.ndarray, alpha: float, groups: np.ndarray) -> np.ndarray:
    """Residuals of explicit refits without each group, intercept re-estimated (scikit-learn)."""
    found = np.empty_like(y)
    for group in np.unique(groups):
        out = groups == group
        fitted = Ridge(alpha=alpha, solver="svd").fit(x[~out], y[~out])
        found[out] = y[out] - fitted.predict(x[out])
    return found


@pytest.mark.parametrize(("stimuli", "features"), SHAPES)
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("relative", [min(ALPHAS), 1.0])
def test_left_out_residuals_equal_refits_with_a_new_intercept(
    stimuli: int, features: int, size: int, relative: float
) -> None:
    x, y = toy(stimuli, features)
    groups = np.arange(stimuli) // size
    parts = decompose(torch.from_numpy(x))
    alpha = relative * parts.scale
    found = leave_group_out_residuals(
        parts, torch.from_numpy(y), torch.tensor([alpha], dtype=torch.float64), group_indices(groups)
    )[0]
    expected = refit_residuals(x, y, alpha, groups)
    assert np.abs(found.numpy() - expected).max() < 1e-8


@pytest.mark.parametrize(("stimuli", "features"), SHAPES)
def test_primal_and_dual_form_agree(stimuli: int, features: int) -> None:
    x, y = (torch.from_numpy(each) for each in toy(stimuli, features))
    groups = np.arange(stimuli) // 2
    centred = x - x.mean(dim=0)
    fits = [
        fit_ridge(parts, x @ x.T, y, groups) for parts in (decompose_features(x), decompose_kernel(centred @ centred.T))
    ]
    assert torch.equal(fits[0].alpha, fits[1].alpha)
    torch.testing.assert_close(fits[0].predict(x @ x.T), fits[1].predict(x @ x.T), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("stimuli", "features"), SHAPES)
@pytest.mark.parametrize("alpha", [0.01, 10.0])
def test_predictions_equal_scikit_learn(stimuli: int, features: int, alpha: float) -> None:
    x, y = toy(stimuli, features)
    new, _ = toy(12, features, seed=1)
    parts = decompose(torch.from_numpy(x))
    fitted = fit_ridge(parts, torch.from_numpy(x @ x.T), torch.from_numpy(y), np.arange(stimuli), alpha=alpha)
    expected = Ridge(alpha=alpha * parts.scale, solver="svd").fit(x, y).predict(new)
    np.testing.assert_allclose(fitted.predict(torch.from_numpy(new @ x.T)).numpy(), expected, atol=1e-6)


def test_alpha_per_unit_equals_scikit_learn_leave_one_out() -> None:
    x, y = toy(50, 20, units=6)
    parts = decompose(torch.from_numpy(x))
    fitted = fit_ridge(parts, torch.from_numpy(x @ x.T), torch.from_numpy(y), np.arange(50))
    for unit in range(y.shape[1]):
        search = RidgeCV(alphas=[alpha * parts.scale for alpha in ALPHAS], scoring="neg_mean_squared_error")
        assert search.fit(x, y[:, unit]).alpha_ == pytest.approx(float(fitted.alpha[unit]) * parts.scale)


def test_alpha_per_unit_equals_himalaya_on_grouped_folds() -> None:
    from himalaya.kernel_ridge import KernelRidgeCV
    from sklearn.model_selection import LeaveOneGroupOut

    x, y = toy(48, 100, units=5)
    groups = np.arange(48) // 6
    parts = decompose(torch.from_numpy(x))
    fitted = fit_ridge(parts, torch.from_numpy(x @ x.T), torch.from_numpy(y), groups)
    alphas = [alpha * parts.scale for alpha in ALPHAS]
    folds = list(LeaveOneGroupOut().split(x, y, groups))
    peer = KernelRidgeCV(alphas=alphas, fit_intercept=True, cv=folds, solver_params={"score_func": negative_squared})
    peer.fit(x, y)
    np.testing.assert_allclose(peer.best_alphas_, fitted.alpha.numpy() * parts.scale, rtol=1e-6)


def negative_squared(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The score that both maximise."""
    return -((observed - predicted) ** 2).mean(axis=-2)


@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_a_shift_and_a_scale_of_the_features_change_nothing(shift: float, scale: float) -> None:
    x, y = toy(30, 50)
    groups = np.arange(30) // 3
    found = []
    for each in (x, scale * x + shift):
        held = torch.from_numpy(each)
        fitted = fit_ridge(decompose(held), held @ held.T, torch.from_numpy(y), groups)
        found.append((fitted.alpha, fitted.left_out_error))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-7)


def test_features_without_variance_predict_the_mean() -> None:
    x, y = torch.ones(20, 30, dtype=torch.float64), torch.from_numpy(toy(20, 5)[1])
    fitted = fit_ridge(decompose(x), x @ x.T, y, np.arange(20))
    torch.testing.assert_close(fitted.predict(x @ x.T), y.mean(dim=0).expand(20, -1), rtol=1e-9, atol=1e-6)


def test_one_group_cannot_be_left_out() -> None:
    x, y = (torch.from_numpy(each) for each in toy(20, 5))
    with pytest.raises(ValueError, match="two groups"):
        fit_ridge(decompose(x), x @ x.T, y, np.zeros(20))
