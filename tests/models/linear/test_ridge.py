"""The ridge solver against explicit refits, scikit-learn and himalaya."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ridge_forms import CONVENTIONS, absolute_alpha, decompose, leave_group_out_residuals
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

from models.linear import leave_group_out as left_out
from models.linear import ridge
from models.linear.block_choice import choose_block
from models.linear.ridge import (
    ALPHAS,
    Decomposition,
    alpha_candidates,
    decompose_features,
    decompose_kernel,
    fit_ridge,
    group_indices,
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


@pytest.mark.parametrize("decomposed", [decompose_features, lambda x: decompose_kernel(x @ x.T)])
@pytest.mark.parametrize("features", [6, 50])
@pytest.mark.parametrize("sizes", [[1] * 12, [3] * 4, [1, 1, 2, 3, 5]])
def test_left_out_residuals_are_those_of_normal_equations_to_ten_digits(
    decomposed: Callable[[torch.Tensor], Decomposition], features: int, sizes: list[int]
) -> None:
    """Primal and dual form, singletons, equal and unequal groups; the refit solves X'X + alpha with its own means."""
    x, y = toy(12, features)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    alpha = 0.5
    expected = np.empty_like(y)
    for group in range(len(sizes)):
        out = groups == group
        mean_x, mean_y = x[~out].mean(axis=0), y[~out].mean(axis=0)
        inside = x[~out] - mean_x
        weights = np.linalg.solve(inside.T @ inside + alpha * np.eye(features), inside.T @ (y[~out] - mean_y))
        expected[out] = y[out] - mean_y - (x[out] - mean_x) @ weights
    found = leave_group_out_residuals(
        decomposed(torch.from_numpy(x)),
        torch.from_numpy(y),
        torch.tensor([alpha], dtype=torch.float64),
        group_indices(groups),
    )
    assert np.abs(found[0].numpy() - expected).max() < 1e-10


def test_alphas_of_every_convention_are_the_same_ridge() -> None:
    """The Huth stack shrinks singular values as S / (S^2 + a^2), a times the largest one with `normalpha`."""
    x, y = toy(30, 12)
    parts = decompose(torch.from_numpy(x))
    centred, left = x - x.mean(axis=0), y - y.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    a = 2.5

    def shrunk(a: float) -> np.ndarray:
        return y.mean(axis=0) + centred @ (v.T @ np.diag(s / (s**2 + a**2)) @ (u.T @ left))

    expected = {
        "shrinkage": shrunk(a),
        "normalised-shrinkage": shrunk(a * s[0]),
        "absolute": Ridge(alpha=a).fit(x, y).predict(x),
        "relative": Ridge(alpha=a * (centred**2).sum(axis=1).mean()).fit(x, y).predict(x),
    }
    assert set(expected) == set(CONVENTIONS)
    kernel = torch.from_numpy(x @ x.T)
    for convention, predicted in expected.items():
        relative = absolute_alpha(a, convention, parts) / parts.scale
        fitted = fit_ridge(parts, kernel, torch.from_numpy(y), np.arange(30), alpha=relative)
        np.testing.assert_allclose(fitted.predict(kernel), predicted, atol=1e-8)


def test_alphas_that_are_chosen_from_are_those_given() -> None:
    """Of other alphas the best is taken, as scikit-learn does; a single one among them is as if it were given."""
    x, y = toy(50, 20, units=6)
    parts, kernel, own = decompose(torch.from_numpy(x)), torch.from_numpy(x @ x.T), [0.02, 0.7, 5.0]
    fitted = fit_ridge(parts, kernel, torch.from_numpy(y), np.arange(50), own)
    for unit in range(y.shape[1]):
        search = RidgeCV(alphas=[alpha * parts.scale for alpha in own], scoring="neg_mean_squared_error")
        assert search.fit(x, y[:, unit]).alpha_ == pytest.approx(float(fitted.alpha[unit]) * parts.scale)
    listed, single = (fit_ridge(parts, kernel, torch.from_numpy(y), np.arange(50), alpha) for alpha in ([0.7], 0.7))
    assert torch.equal(listed.dual, single.dual)
    assert alpha_candidates("auto") == sorted(ALPHAS, reverse=True)
    with pytest.raises(ValueError, match="a number, numbers, or auto; got 'each'"):
        alpha_candidates("each")


def blocks(seed: int = 0, stimuli: int = 40) -> tuple[list[np.ndarray], np.ndarray]:
    """Three blocks, and units that read the first, the last and none; the second block is wide noise."""
    random = np.random.default_rng(seed)
    held = [random.standard_normal((stimuli, width)) for width in (5, 80, 8)]
    clean = np.stack([held[0].sum(axis=1), held[2].sum(axis=1), np.zeros(stimuli)], axis=1)
    return held, clean + 0.3 * random.standard_normal(clean.shape) + 1


def left_out_errors(held: list[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Smallest leave-one-out error of scikit-learn's RidgeCV, (blocks, units)."""
    found = np.empty((len(held), y.shape[1]))
    for block, x in enumerate(held):
        scale = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
        for unit in range(y.shape[1]):
            search = RidgeCV([a * scale for a in ALPHAS], scoring="neg_mean_squared_error")
            found[block, unit] = -search.fit(x, y[:, unit]).best_score_
    return found


def test_the_best_block_of_each_unit_is_that_of_scikit_learn() -> None:
    held, y = blocks()
    kernels = [torch.from_numpy(x @ x.T) for x in held]
    choice = choose_block(kernels, torch.from_numpy(y), np.arange(40))
    errors = left_out_errors(held, y)
    np.testing.assert_array_equal(choice.block, errors.argmin(axis=0))
    np.testing.assert_array_equal(choice.block[:2], [0, 2])
    found = np.stack([fit.left_out_error for fit in choice.fits])
    np.testing.assert_allclose(found, errors, rtol=1e-6)
    predicted = choice.predict(kernels)
    for unit, block in enumerate(choice.block):
        assert torch.equal(predicted[:, unit], choice.fits[block].predict(kernels[block])[:, unit])


def test_one_block_for_all_units_has_the_smallest_mean_share_of_variance() -> None:
    held, y = blocks()
    y = np.column_stack([y * [1, 100, 1], np.full(40, 3.0)])  # the unit with large responses does not decide alone
    kernels = [torch.from_numpy(x @ x.T) for x in held]
    choice = choose_block(kernels, torch.from_numpy(y), np.arange(40), shared=True)
    shares = left_out_errors(held, y[:, :3]) / y[:, :3].var(axis=0)
    np.testing.assert_array_equal(choice.block, np.full(4, shares.mean(axis=1).argmin()))


def test_a_choice_of_equal_blocks_goes_to_the_first() -> None:
    held, y = blocks()
    kernel = torch.from_numpy(held[0] @ held[0].T)
    assert torch.equal(choose_block([kernel] * 3, torch.from_numpy(y), np.arange(40)).block, torch.zeros(3).long())


@pytest.mark.parametrize("together", [1, 10**4, 2**22])
def test_groups_of_any_size_are_left_out_as_if_each_were_fitted_without(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Residuals of every group against fits of the others, however many groups are solved at a time."""
    monkeypatch.setattr(ridge, "TOGETHER", together)
    random = np.random.default_rng(0)
    features, y = random.standard_normal((40, 6)), random.standard_normal((40, 3))
    groups = np.repeat(np.arange(14), [1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4])
    alphas = torch.tensor([0.1, 3.0], dtype=torch.float64)
    for parts in (
        ridge.decompose_features(torch.tensor(features)),
        ridge.decompose_kernel(torch.tensor(features @ features.T)),
    ):
        index = ridge.group_indices(groups)
        found = leave_group_out_residuals(parts, torch.tensor(y), alphas, index).numpy()
        for place, alpha in enumerate(alphas.tolist()):
            for group in range(14):
                out = groups == group
                fitted = Ridge(alpha=alpha).fit(features[~out], y[~out])
                np.testing.assert_allclose(found[place, out], y[out] - fitted.predict(features[out]), atol=1e-10)


def test_a_given_alpha_needs_no_errors() -> None:
    features, y = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).double(), torch.ones(20, 2).double()
    y[:, 0] += features[:, 0]
    parts, kernel = ridge.decompose_features(features), features @ features.T
    with_errors, without = (ridge.fit_ridge(parts, kernel, y, range(20), 0.1, left_out=each) for each in (True, False))
    assert torch.equal(with_errors.dual, without.dual)
    assert without.left_out_error.isnan().all()
    assert with_errors.left_out_error.isfinite().all()


def planted(stimuli: int, features: int, power: float, outliers: float, units: int = 60) -> tuple[Tensor, Tensor]:
    """Features whose spread falls as a power, the first stimuli larger, and units from hardly to well predictable."""
    random = np.random.default_rng(0)
    x = random.standard_normal((stimuli, features)) * np.arange(1.0, features + 1) ** -power
    x[:3] *= outliers
    noise = random.standard_normal((stimuli, units)) * np.exp(random.uniform(-3, 3, units))
    return torch.from_numpy(x), torch.from_numpy(x @ random.standard_normal((features, units)) + noise)


@pytest.mark.parametrize(
    ("stimuli", "features", "power"), [(120, 40, 0.5), (60, 300, 0.5), (60, 300, 2.0), (90, 89, 1)]
)
@pytest.mark.parametrize("size", [1, 15])
@pytest.mark.parametrize("outliers", [1.0, 1e3])
@pytest.mark.parametrize("cached", [0, 2**18])
def test_many_units_get_the_alphas_of_float64(
    stimuli: int, features: int, power: float, size: int, outliers: float, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Screening in float32 changes nothing, and leaves few alphas to float64."""
    x, y = planted(stimuli, features, power, outliers)
    y = torch.cat([y, y[:, :1] * 1e-30, y[:, :1] * 1e30, torch.ones_like(y[:, :1])], dim=1)
    groups, parts, kernel = np.arange(stimuli) // size, decompose(x), x @ x.T
    monkeypatch.setattr(ridge, "SCREENED", 10**9)
    plain = fit_ridge(parts, kernel, y, groups)
    monkeypatch.setattr(ridge, "SCREENED", 0)
    monkeypatch.setattr(left_out, "CHUNK", len(ALPHAS) * stimuli * 25)
    monkeypatch.setattr(left_out, "CACHED", cached)
    screened = fit_ridge(parts, kernel, y, groups)
    assert torch.equal(plain.alpha, screened.alpha)
    torch.testing.assert_close(plain.dual, screened.dual, rtol=1e-12, atol=0)
    torch.testing.assert_close(plain.left_out_error, screened.left_out_error, rtol=1e-9, atol=0)
    assert fit_ridge(parts, kernel, y, groups, left_out=False).left_out_error.isnan().all()


@pytest.mark.parametrize("decomposed", [decompose_features, lambda x: decompose_kernel(x @ x.T)])
@pytest.mark.parametrize("size", [1, 15])
@pytest.mark.parametrize("outliers", [1.0, 1e3])
def test_contenders_hold_the_best_alpha_and_little_else(
    decomposed: Callable[[Tensor], Decomposition], size: int, outliers: float
) -> None:
    """Against the errors of explicit residuals in float64."""
    x, y = planted(120, 40, 0.5, outliers)
    parts, groups = decomposed(x), group_indices(np.arange(120) // size)
    alphas = torch.tensor(ALPHAS, dtype=torch.float64) * parts.scale
    errors = leave_group_out_residuals(parts, y, alphas, groups).square().mean(dim=1)
    shrink, centred = alphas[:, None] / (parts.spectrum + alphas[:, None]), y - y.mean(dim=0)
    inside = parts.basis.T @ centred
    outside = None if parts.full else centred - parts.basis @ inside
    blocks = ridge.residual_makers(parts, shrink, groups)
    makers = left_out.Makers.of((places, torch.linalg.inv(block)) for places, block in blocks)
    found = left_out.contenders(shrink, parts.basis, inside, outside, makers)
    assert found.gather(0, errors.argmin(dim=0)[None]).all()
    assert found.sum() < 1.3 * y.shape[1]


def test_many_units_without_features_are_predicted_by_their_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "SCREENED", 0)
    x, y = torch.ones(20, 30, dtype=torch.float64), torch.from_numpy(toy(20, 5)[1])
    fitted = fit_ridge(decompose(x), x @ x.T, y, np.arange(20))
    torch.testing.assert_close(fitted.predict(x @ x.T), y.mean(dim=0).expand(20, -1), rtol=1e-9, atol=1e-6)
