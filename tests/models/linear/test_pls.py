"""Partial least squares from kernels against scikit-learn's on the features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression

from models.linear.pls import fit_pls


def toy(stimuli: int, features: int, units: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features with a falling spectrum, and units of other sizes that read some of them, with noise."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((stimuli, features)) * np.logspace(0, -1, features) + 2
    y = x[:, :8] @ random.standard_normal((min(8, features), units)) + 0.5 * random.standard_normal((stimuli, units))
    return x, 3 + y * np.linspace(0.5, 2, units)


@pytest.mark.parametrize(("features", "units"), [(20, 1), (20, 4), (300, 6), (300, 70), (12, 70)])
@pytest.mark.parametrize("components", [1, 3, 10])
def test_predictions_equal_scikit_learn(features: int, units: int, components: int) -> None:
    """Fewer and more features, and units, than stimuli."""
    x, y = toy(50, features, units)
    new, _ = toy(9, features, units, seed=1)
    fitted = fit_pls(torch.from_numpy(x @ x.T), torch.from_numpy(y), components)
    peer = PLSRegression(components, scale=False, max_iter=100_000, tol=1e-14).fit(x, y)
    expected = peer.predict(new).reshape(len(new), units)
    assert fitted.components == components
    np.testing.assert_allclose(fitted.predict(torch.from_numpy(new @ x.T)), expected, rtol=1e-6, atol=1e-6)


def test_25_components_equal_scikit_learn() -> None:
    x, y = toy(80, 400, 5)
    fitted = fit_pls(torch.from_numpy(x @ x.T), torch.from_numpy(y))
    peer = PLSRegression(25, scale=False, max_iter=100_000, tol=1e-14).fit(x, y)
    np.testing.assert_allclose(fitted.predict(torch.from_numpy(x @ x.T)), peer.predict(x), atol=1e-6)


def test_all_components_are_least_squares_and_no_more_are_taken_than_there_are() -> None:
    x, y = toy(50, 6, 3)
    fitted = fit_pls(torch.from_numpy(x @ x.T), torch.from_numpy(y), 25)
    assert fitted.components == 6
    expected = LinearRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(fitted.predict(torch.from_numpy(x @ x.T)), expected, atol=1e-7)


def test_the_first_component_is_the_closed_form_of_one_unit() -> None:
    """w = X' y / |X' y|, t = X w, prediction = mean + t t' y / t' t."""
    x, y = toy(30, 10, 1)
    centred, left = x - x.mean(axis=0), y - y.mean()
    t = centred @ (centred.T @ left)
    expected = y.mean() + t * ((t.T @ left) / (t.T @ t))
    found = fit_pls(torch.from_numpy(x @ x.T), torch.from_numpy(y), 1).predict(torch.from_numpy(x @ x.T))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_shift_of_the_features_and_a_centred_kernel_change_nothing() -> None:
    x, y = (torch.from_numpy(each) for each in toy(40, 100, 4))
    centred = x - x.mean(dim=0)
    one, other = fit_pls(x @ x.T, y, 5), fit_pls(centred @ centred.T, y, 5)
    torch.testing.assert_close(one.predict(x @ x.T), other.predict(centred @ centred.T), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(one.dual.sum(dim=0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)


def test_nothing_to_read_predicts_the_mean() -> None:
    x, y = toy(20, 5, 3)
    flat = torch.full((20, 20), 7.0)
    fitted = fit_pls(flat, torch.from_numpy(y))
    assert fitted.components == 0
    np.testing.assert_allclose(fitted.predict(flat), np.tile(y.mean(axis=0), (20, 1)))
    constant = fit_pls(torch.from_numpy(x @ x.T), torch.full((20, 3), 2.0))
    np.testing.assert_allclose(constant.predict(torch.from_numpy(x @ x.T)), 2.0)


def test_no_components_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 component; got 0"):
        fit_pls(torch.eye(3), torch.zeros(3, 1), 0)
