"""Kendall's tau against scipy; the weighted bootstrap against really resampled arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from metrics import (
    bootstrap_correlation,
    bootstrap_interval,
    correlation,
    group_weights,
    kendall_tau,
    permutation_p,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9))
def test_tau_equals_scipy_and_is_antisymmetric(pairs: list[tuple[int, int]]) -> None:
    values, order = np.array(pairs, dtype=float).T
    expected = kendalltau(values, order).statistic
    np.testing.assert_allclose(kendall_tau(values, order), expected, atol=1e-12)
    np.testing.assert_allclose(kendall_tau(-values, order), -expected, atol=1e-12)


def test_tau_leaves_missing_areas_out() -> None:
    assert kendall_tau([1.0, float("nan"), 2.0, 3.0], [0, 1, 2, 3]) == pytest.approx(1.0)
    assert np.isnan(kendall_tau([1.0, float("nan")], [0, 1]))
    assert np.isnan(kendall_tau([1.0, 1.0, 1.0], [0, 1, 2]))
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        kendall_tau([1, 2], [1, 2, 3])


def test_interval() -> None:
    low, high = bootstrap_interval(np.append(np.arange(101.0), np.nan), level=0.9)
    assert (low, high) == (pytest.approx(5.0), pytest.approx(95.0))
    assert np.isnan(bootstrap_interval([float("nan")] * 3)).all()
    assert type(low) is float
    with pytest.raises(ValueError, match="level"):
        bootstrap_interval([1.0], level=95)


def test_weights_are_counts_of_distinct_groups_and_seeded() -> None:
    groups = np.array([3, 3, 1, 7, 7, 7])
    weights = group_weights(groups, replicates=200, seed=1)
    assert weights.shape == (200, 3)
    assert (weights.sum(1) == 3).all()
    np.testing.assert_allclose(weights.mean(0), 1.0, atol=0.2)
    np.testing.assert_array_equal(weights, group_weights(groups, 200, seed=1))
    assert (weights != group_weights(groups, 200, seed=2)).any()
    with pytest.raises(ValueError, match="at least one group"):
        group_weights([])


def _data(seed: int = 0, units: int = 4, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(36, units)) + offset
    observed = predicted + rng.normal(size=(36, units)) - offset
    observed[rng.random(observed.shape) < 0.1] = np.nan
    return predicted, observed, np.sort(rng.integers(0, 9, size=36))


def _resampled(predicted: np.ndarray, observed: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same replicates, by repeating rows and calling numpy's corrcoef."""
    names, result = np.unique(groups), []
    for counts in weights:
        rows = np.concatenate([np.repeat(np.flatnonzero(groups == g), n) for g, n in zip(names, counts, strict=True)])
        each = []
        for unit in range(predicted.shape[1]):
            x, y = predicted[rows, unit], observed[rows, unit]
            valid = ~np.isnan(x + y)
            each.append(np.corrcoef(x[valid], y[valid])[0, 1])
        result.append(np.nanmean(each))
    return np.array(result)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_bootstrap_equals_resampling(offset: float) -> None:
    predicted, observed, groups = _data(offset=offset)
    weights = group_weights(groups, replicates=50)
    ours = bootstrap_correlation(predicted, observed, groups, weights)
    np.testing.assert_allclose(ours, _resampled(predicted, observed, groups, weights), atol=1e-9)


def test_blocks_of_units_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, observed, groups = _data(units=7)
    weights = group_weights(groups, replicates=20)
    expected = bootstrap_correlation(predicted, observed, groups, weights)
    monkeypatch.setattr("metrics.hierarchy.BLOCK", 3)
    np.testing.assert_allclose(bootstrap_correlation(predicted, observed, groups, weights), expected, atol=1e-12)


def test_every_group_once_is_the_plain_mean_correlation() -> None:
    predicted, observed, groups = _data()
    groups = np.array([f"clip-{g}" for g in groups])[::-1]
    ones = np.ones((1, len(np.unique(groups))))
    result = bootstrap_correlation(predicted, observed, groups, ones)
    assert result[0] == pytest.approx(correlation(predicted, observed).mean())


def test_bootstrap_edge_rules() -> None:
    predicted, observed, groups = _data()
    weights = group_weights(groups, replicates=10)
    expected = bootstrap_correlation(predicted[:, 1:], observed[:, 1:], groups, weights)
    predicted[:, 0] = 0.1
    np.testing.assert_allclose(bootstrap_correlation(predicted, observed, groups, weights), expected)
    assert np.isnan(bootstrap_correlation(predicted[:, :1], observed[:, :1], groups, weights)).all()
    assert np.isnan(bootstrap_correlation(predicted, observed, np.zeros(36), np.ones((5, 1)))).all()
    flat = np.repeat([[1.0], [2.0]], 5, axis=0)  # constant within a group, so one group drawn twice has no spread
    result = bootstrap_correlation(flat, flat, np.repeat([0, 1], 5), np.array([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(result, [np.nan, 1.0])
    with pytest.raises(ValueError, match="column per distinct group"):
        bootstrap_correlation(predicted, observed, groups, weights[:, :2])


def test_interval_covers_the_planted_correlation() -> None:
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(120, 1))
        y = 0.6 * x + 0.8 * rng.normal(size=(120, 1))
        weights = group_weights(np.arange(120), replicates=300, seed=seed)
        low, high = bootstrap_interval(bootstrap_correlation(x, y, np.arange(120), weights))
        covered += low <= 0.6 <= high
    assert covered >= 34


def test_permutation_p() -> None:
    assert permutation_p(0.5, np.linspace(0, 0.4, 99)) == pytest.approx(0.01)
    assert permutation_p(-1.0, np.zeros(9)) == 1.0
    assert permutation_p(1.0, [1.0, 0.0, float("nan")]) == pytest.approx(2 / 3)
    assert np.isnan(permutation_p(float("nan"), [1.0]))
    assert np.isnan(permutation_p(1.0, []))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
def test_bootstrap_ignores_the_order_and_scale_of_units(seed: int, scale: float, shift: float) -> None:
    predicted, observed, groups = _data(seed)
    weights = group_weights(groups, replicates=8, seed=seed)
    expected = bootstrap_correlation(predicted, observed, groups, weights)
    changed = bootstrap_correlation(scale * predicted[:, ::-1] + shift, observed[:, ::-1], groups, weights)
    np.testing.assert_allclose(changed, expected, atol=1e-8)


def test_torch_in_torch_out() -> None:
    predicted, observed, groups = _data()
    weights = group_weights(torch.tensor(groups), replicates=9)
    assert isinstance(weights, torch.Tensor)
    result = bootstrap_correlation(torch.tensor(predicted), torch.tensor(observed), torch.tensor(groups), weights)
    assert isinstance(result, torch.Tensor)
    expected = bootstrap_correlation(predicted, observed, groups, group_weights(groups, replicates=9))
    np.testing.assert_array_equal(result.numpy(), expected)
    assert type(kendall_tau(torch.arange(3), torch.arange(3))) is float
    assert bootstrap_interval(torch.arange(3.0), 0.5) == (0.5, 1.5)
    assert permutation_p(1.0, torch.zeros(3)) == 0.25
