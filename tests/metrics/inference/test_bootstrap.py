"""The weighted bootstrap against really resampled arrays; the hierarchical one against loops and known variances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from metrics import (
    bootstrap_correlation,
    bootstrap_interval,
    correlation,
    group_weights,
    hierarchical_bootstrap,
)


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
    monkeypatch.setattr("metrics.inference.bootstrap.BLOCK", 3)
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


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
def test_bootstrap_ignores_the_order_and_scale_of_units(seed: int, scale: float, shift: float) -> None:
    predicted, observed, groups = _data(seed)
    weights = group_weights(groups, replicates=8, seed=seed)
    expected = bootstrap_correlation(predicted, observed, groups, weights)
    changed = bootstrap_correlation(scale * predicted[:, ::-1] + shift, observed[:, ::-1], groups, weights)
    np.testing.assert_allclose(changed, expected, atol=1e-8)


def _nested(recordings: int, seeds: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a balanced design, rows in order."""
    recording = np.repeat(np.arange(recordings), seeds * units)
    return recording, np.tile(np.repeat(np.arange(seeds), units), recordings)


def _planted(shape: tuple[int, int, int], spread: tuple[float, float, float], seed: int) -> np.ndarray:
    """Values of known variance between recordings, seeds and units, mean 0."""
    rng, (r, s, u) = np.random.default_rng(seed), shape
    parts = rng.normal(size=(r, 1, 1)), rng.normal(size=(r, s, 1)), rng.normal(size=(r, s, u))
    return sum(scale * part for scale, part in zip(spread, parts, strict=True)).ravel()


def _variance(table: np.ndarray, levels: int = 3) -> float:
    """Variance of the mean of a balanced (recordings, seeds, units) table when its outer levels are redrawn."""
    total, draws = 0.0, 1
    for level in range(levels):
        means = table.mean(axis=tuple(range(level + 1, 3)))
        draws *= table.shape[level]
        total += means.var(axis=-1).mean() / draws
    return float(total)


@pytest.mark.parametrize("fixed", [0, 1, 2])
def test_hierarchical_variance_has_its_closed_form(fixed: int) -> None:
    shape = (4, 3, 5)
    values, levels = _planted(shape, (1.0, 0.7, 2.0), seed=3), _nested(*shape)
    draws = hierarchical_bootstrap(values, levels, replicates=20_000, fixed=fixed)
    assert draws.var() == pytest.approx(_variance(values.reshape(shape), 3 - fixed), rel=0.05)
    assert draws.mean() == pytest.approx(values.mean(), abs=5 * draws.std() / np.sqrt(20_000))


def _loops(values: np.ndarray, recording: np.ndarray, seed: np.ndarray, rng: np.random.Generator) -> float:
    """One hierarchical replicate, drawn node by node."""
    drawn = []
    for r in rng.choice(np.unique(recording), len(np.unique(recording))):
        inside = np.unique(seed[recording == r])
        for s in rng.choice(inside, len(inside)):
            units = values[(recording == r) & (seed == s)]
            drawn.append(rng.choice(units, len(units)))
    return float(np.concatenate(drawn).mean())


def test_hierarchical_bootstrap_equals_loops_on_unbalanced_data() -> None:
    rng = np.random.default_rng(0)
    recording = np.array([0] * 9 + [1] * 4 + [2] * 6)
    seed = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    values = rng.normal(size=19) + 2.0 * recording
    order = rng.permutation(19)  # rows need not lie together
    naive = [_loops(values, recording, seed, rng) for _ in range(1500)]
    ours = hierarchical_bootstrap(values[order], [recording[order], seed[order]], replicates=3000)
    assert ks_2samp(naive, ours).pvalue > 1e-3
    other = hierarchical_bootstrap(values, (), replicates=3000)
    assert ks_2samp(naive, other).pvalue < 1e-6


def _coverage(
    shape: tuple[int, int, int], spread: tuple[float, float, float], plain: bool = False, **fixed: int
) -> float:
    levels = () if plain else _nested(*shape)
    hits = 0
    for seed in range(150):
        draws = hierarchical_bootstrap(_planted(shape, spread, seed), levels, replicates=250, seed=seed, **fixed)
        low, high = bootstrap_interval(draws)
        hits += low <= 0 <= high
    return hits / 150


def test_coverage_with_known_variance_components() -> None:
    shape, spread = (20, 2, 10), (1.0, 0.5, 1.0)
    assert 0.88 <= _coverage(shape, spread) <= 0.99
    assert _coverage(shape, spread, plain=True) < 0.6  # units taken as independent: too narrow
    assert _coverage((3, 2, 10), spread) < 0.88  # few recordings: too narrow
    assert _coverage((20, 2, 5), (0.0, 0.0, 1.0)) > 0.97  # inner variance counted again at every level: too wide
    assert 0.86 <= _coverage((20, 2, 5), (0.0, 0.0, 1.0), fixed=2) <= 0.98


def test_any_statistic_of_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = _nested(3, 2, 4)
    values = _planted((3, 2, 4), (1.0, 1.0, 1.0), 0)
    mean = hierarchical_bootstrap(values, levels, replicates=50)
    slow = hierarchical_bootstrap(values, levels, replicates=50, statistic=lambda drawn: drawn.sum() / len(drawn))
    np.testing.assert_allclose(mean, slow, atol=1e-12)
    median = hierarchical_bootstrap(values, levels, replicates=50, statistic=np.median)
    middles = (values[:, None] + values) / 2
    assert all(np.isclose(each, middles).any() for each in median)
    monkeypatch.setattr("metrics.inference.bootstrap.CELLS", 7 * 24)  # blocks of seven replicates
    blocks = hierarchical_bootstrap(values, levels, replicates=50)
    assert len(np.unique(blocks)) > 40
    np.testing.assert_array_equal(blocks[:7], hierarchical_bootstrap(values, levels, replicates=7))


def test_equal_seed_labels_in_two_recordings_are_two_seeds() -> None:
    recording, seed = _nested(3, 2, 4)
    values = _planted((3, 2, 4), (1.0, 1.0, 1.0), 0)
    names = np.array([f"{r}/{s}" for r, s in zip(recording, seed, strict=True)])
    expected = hierarchical_bootstrap(values, [recording, seed])
    np.testing.assert_array_equal(hierarchical_bootstrap(values, [recording, names]), expected)
    assert (hierarchical_bootstrap(values, [recording, seed], seed=1) != expected).any()


def test_hierarchical_edge_rules() -> None:
    recording, seed = _nested(3, 2, 2)
    values = np.arange(12.0)
    values[8:] = np.nan  # the last recording has no value left
    expected = hierarchical_bootstrap(values[:8], [recording[:8], seed[:8]], 20)
    np.testing.assert_array_equal(hierarchical_bootstrap(values, [recording, seed], 20), expected)
    assert np.isnan(hierarchical_bootstrap([np.nan, np.nan], [[0, 1]], 5)).all()
    assert np.isnan(hierarchical_bootstrap([], [[]], 5)).all()
    np.testing.assert_array_equal(hierarchical_bootstrap([2.5], [["a"]], 5), 2.5)
    with pytest.raises(ValueError, match=r"levels\[1\] must label each of the 2 values; got 3"):
        hierarchical_bootstrap([1.0, 2.0], [[0, 1], [0, 1, 1]])
    with pytest.raises(ValueError, match="a vector"):
        hierarchical_bootstrap([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="fixed must lie between 0 and the 1 levels"):
        hierarchical_bootstrap([1.0, 2.0], [[0, 1]], fixed=2)
    with pytest.raises(ValueError, match="replicates must be at least 1; got 0"):
        hierarchical_bootstrap([1.0, 2.0], [[0, 1]], replicates=0)
    with pytest.raises(ValueError, match="vector"):
        hierarchical_bootstrap(np.ones((2, 2)), [[0, 1]])


def test_torch_in_torch_out() -> None:
    predicted, observed, groups = _data()
    weights = group_weights(torch.tensor(groups), replicates=9)
    assert isinstance(weights, torch.Tensor)
    result = bootstrap_correlation(torch.tensor(predicted), torch.tensor(observed), torch.tensor(groups), weights)
    assert isinstance(result, torch.Tensor)
    expected = bootstrap_correlation(predicted, observed, groups, group_weights(groups, replicates=9))
    np.testing.assert_array_equal(result.numpy(), expected)
    assert bootstrap_interval(torch.arange(3.0), 0.5) == (0.5, 1.5)
    draws = hierarchical_bootstrap(torch.arange(4.0), [torch.tensor([0, 0, 1, 1])], 6)
    assert isinstance(draws, torch.Tensor)
    np.testing.assert_array_equal(draws.numpy(), hierarchical_bootstrap(np.arange(4.0), [[0, 0, 1, 1]], 6))
