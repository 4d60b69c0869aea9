"""Ceilings against planted signal and noise, and against the published formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import explainable_variance, noise_ceiling, noise_variance_of_mean


def _repeats(stimuli: int, repeats: int, noise: float, seed: int = 0, units: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(stimuli, units, 1))
    return signal + noise * rng.normal(size=(stimuli, units, repeats))


def _schoppe_signal(values: np.ndarray) -> np.ndarray:
    """(N var(mean) - mean_j var(y_j)) / (N - 1), per unit, ddof 1."""
    n = values.shape[2]
    return (n * values.mean(2).var(0, ddof=1) - values.var(0, ddof=1).mean(1)) / (n - 1)


@pytest.mark.parametrize(("repeats", "noise"), [(2, 1.0), (4, 2.0), (10, 0.5)])
def test_planted_ceiling_is_found(repeats: int, noise: float) -> None:
    truth = np.sqrt(1 / (1 + noise**2 / repeats))
    np.testing.assert_allclose(noise_ceiling(_repeats(5000, repeats, noise)), truth, atol=0.03)


def test_unequal_repeats_give_the_ceiling_of_that_average() -> None:
    values = _repeats(6000, 6, 1.5)
    shown = np.arange(6) < np.random.default_rng(1).integers(1, 7, size=(6000, 1, 1))  # one to six repeats
    values = np.where(shown, values, np.nan)
    truth = np.sqrt(1 / (1 + 1.5**2 * (1 / shown.sum(2)).mean()))
    np.testing.assert_allclose(noise_ceiling(values), truth, atol=0.03)


def test_schoppe_differs_only_by_the_drift_of_whole_repeats() -> None:
    values = _repeats(50, 4, 1.0) + np.array([0.0, 0.2, -0.1, 0.3])
    stimuli, total = len(values), values.mean(2).var(0, ddof=1)
    ours = total - noise_ceiling(values) ** 2 * total
    theirs = total - _schoppe_signal(values)
    drift = values.mean(0).var(1, ddof=1)
    np.testing.assert_allclose(stimuli * ours, (stimuli - 1) * theirs + drift * stimuli / 4, rtol=1e-9)


def test_schoppe_agrees_for_many_stimuli() -> None:
    values = _repeats(3000, 5, 1.0)
    expected = np.sqrt(_schoppe_signal(values) / values.mean(2).var(0, ddof=1))
    np.testing.assert_allclose(noise_ceiling(values), expected, atol=1e-3)


def test_edge_rules_of_the_ceiling() -> None:
    values = _repeats(20, 3, 1.0)
    values[:, 0, 1:] = np.nan  # one repeat only
    values[:, 1] = 0.1  # constant
    values[1:, 2] = np.nan  # one stimulus
    values[:, 3] = np.nan  # nothing
    assert np.isnan(noise_ceiling(values)[:4]).all()
    assert np.isnan(explainable_variance(values)[[0, 1, 3]]).all()
    np.testing.assert_array_equal(np.isnan(noise_variance_of_mean(values)[:4]), [True, False, False, True])
    assert noise_variance_of_mean(values)[1] == 0
    assert np.isnan(noise_ceiling(np.ones((4, 2)))).all()


def test_noise_variance_of_mean_leaves_single_repeats_out() -> None:
    values = np.array([[[1.0, 3.0, np.nan]], [[0.0, 3.0, 6.0]], [[9.0, np.nan, np.nan]]])
    assert noise_variance_of_mean(values)[0] == pytest.approx((2 / 2 + 9 / 3) / 2)


def test_explainable_variance_finds_the_planted_share() -> None:
    np.testing.assert_allclose(explainable_variance(_repeats(5000, 4, 2.0)), 1 / 5, atol=0.03)
    np.testing.assert_allclose(explainable_variance(_repeats(5000, 4, 0.0)), 1.0, atol=1e-12)
    noise = np.random.default_rng(3).normal(size=(5000, 3, 4))
    np.testing.assert_allclose(explainable_variance(noise), 0.0, atol=0.03)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-10, 10))
def test_shares_ignore_scale_shift_and_the_order_of_repeats(seed: int, scale: float, shift: float) -> None:
    values = _repeats(30, 4, 0.7, seed)
    values[np.random.default_rng(seed).random(values.shape) < 0.2] = np.nan
    changed = scale * values[:, :, ::-1] + shift
    np.testing.assert_allclose(noise_ceiling(changed), noise_ceiling(values), atol=1e-6)
    np.testing.assert_allclose(explainable_variance(changed), explainable_variance(values), atol=1e-6)
    np.testing.assert_allclose(noise_variance_of_mean(changed), scale**2 * noise_variance_of_mean(values), rtol=1e-6)


@pytest.mark.parametrize("function", [noise_ceiling, explainable_variance, noise_variance_of_mean])
def test_torch_in_torch_out(function: object) -> None:
    values = _repeats(20, 3, 1.0)
    result = function(torch.tensor(values))  # type: ignore[operator]
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), function(values))  # type: ignore[operator]


def test_wrong_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="stimuli, units, repeats"):
        noise_ceiling(np.ones(3))
