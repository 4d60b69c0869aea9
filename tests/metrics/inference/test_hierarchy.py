"""Kendall's tau, slopes and permutation p against scipy, loops and the published orders of areas."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, linregress, sem
from scipy.stats import t as student

from metrics import (
    AREA_HIERARCHY,
    AREA_ORDERS,
    bootstrap_interval,
    group_weights,
    hierarchy_tau,
    kendall_tau,
    permutation_p,
    slope_interval,
)

AREAS = ("V1", "LM", "RL", "AL")
BIOLOGY = {
    "receptive_field_area": (566, 713, 699, 741),
    "rotation_decoding": (0.63, 0.70, 0.83, 0.91),
    "object_discriminability": (0.096, 0.146, 0.075, 0.153),
}
HIERARCHICAL_TWIN = {
    "receptive_field_area": (400, 760, 790, 1135),
    "rotation_decoding": (0.187, 0.231, 0.232, 0.260),
    "object_discriminability": (0.393, 0.413, 0.431, 0.452),
}
"""Published area values, V1, LM, RL, AL; the twin's as read off a figure."""


def _order(name: str) -> list[int]:
    return [AREA_ORDERS[name][area] for area in AREAS]


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


def test_permutation_p() -> None:
    assert permutation_p(0.5, np.linspace(0, 0.4, 99)) == pytest.approx(0.01)
    assert permutation_p(-1.0, np.zeros(9)) == 1.0
    assert permutation_p(1.0, [1.0, 0.0, float("nan")]) == pytest.approx(2 / 3)
    assert np.isnan(permutation_p(float("nan"), [1.0]))
    assert np.isnan(permutation_p(1.0, []))


@pytest.mark.parametrize(
    ("name", "discordant"), [("receptive_field_area", 1), ("rotation_decoding", 0), ("object_discriminability", 2)]
)
def test_published_orders(name: str, discordant: int) -> None:
    result = hierarchy_tau([BIOLOGY[name], HIERARCHICAL_TWIN[name]], _order(name))
    np.testing.assert_allclose(result.tau, [1.0, 1 - 2 * discordant / 6], atol=1e-12)


def test_tau_of_permuted_architectures() -> None:
    """Three blocks dealt to V1, {LM, RL}, AL in all six orders: one tie of six pairs on both sides."""
    order = _order("architecture")
    maps = [[blocks[rank] for rank in order] for blocks in permutations((6, 7, 8))]
    np.testing.assert_allclose(hierarchy_tau(maps, order).tau, [1.0, 0.2, 0.2, -0.2, -0.2, -1.0])
    assert hierarchy_tau([[0, 1, 2, 3]], order).tau[0] == pytest.approx(5 / np.sqrt(30))
    assert sorted(AREA_HIERARCHY, key=AREA_HIERARCHY.__getitem__) == list(AREAS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7))
def test_tau_of_rows_equals_tau_of_each(seed: int, areas: int) -> None:
    rng = np.random.default_rng(seed)
    table, order = rng.integers(0, 4, size=(6, areas)).astype(float), rng.integers(0, 4, size=areas)
    table[rng.random(table.shape) < 0.2] = np.nan
    result = hierarchy_tau(table, order)
    np.testing.assert_allclose(result.tau, [kendall_tau(row, order) for row in table], atol=1e-12)
    found = result.tau[~np.isnan(result.tau)]
    assert result.rows == len(found)
    if len(found) > 1:
        assert result.mean == pytest.approx(found.mean())
        assert result.sem == pytest.approx(sem(found))


def test_hierarchy_tau_edge_rules() -> None:
    nan = float("nan")
    result = hierarchy_tau([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [nan, nan, 1.0]], [0, 1, 2])
    np.testing.assert_array_equal(result.tau, [1.0, nan, nan])
    assert (result.mean, result.rows) == (1.0, 1)
    assert np.isnan(result.sem)
    empty = hierarchy_tau(np.empty((0, 3)), [0, 1, 2])
    assert empty.rows == 0
    assert np.isnan(empty.mean)
    with pytest.raises(ValueError, match="rank the 3 areas"):
        hierarchy_tau(np.ones((2, 3)), [0, 1])
    with pytest.raises(ValueError, match="two axes"):
        hierarchy_tau([1.0, 2.0], [0, 1])


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_slope_equals_linregress(level: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    score = np.array([AREA_HIERARCHY[area] for area in AREAS])
    values = rng.normal(size=(5, 4)) + score + offset
    values[2, 1] = np.nan
    valid = ~np.isnan(values)
    expected = linregress(np.broadcast_to(score, values.shape)[valid], values[valid])
    half = expected.stderr * student.ppf((1 + level) / 2, 17)
    result = slope_interval(values, score, level)
    assert result.points == 19
    assert result.slope == pytest.approx(expected.slope, rel=1e-6)
    assert result.low == pytest.approx(expected.slope - half, rel=1e-6)
    assert result.high == pytest.approx(expected.slope + half, rel=1e-6)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-5)


def test_group_interval_equals_resampled_rows() -> None:
    rng = np.random.default_rng(1)
    score, groups = np.array([-0.4, -0.1, 0.0, 0.2]), np.array(["b", "b", "a", "c", "c", "c", "d"])
    values = rng.normal(size=(7, 4)) + 100
    values[0, :3] = np.nan
    slopes = []
    for counts in group_weights(groups, replicates=200, seed=5):
        rows = np.concatenate(
            [np.flatnonzero(groups == g) for g, n in zip("abcd", counts, strict=True) for _ in range(n)]
        )
        x, y = np.broadcast_to(score, (len(rows), 4)), values[rows]
        slopes.append(np.polyfit(x[~np.isnan(y)], y[~np.isnan(y)], 1)[0])
    result = slope_interval(values, score, 0.8, groups, replicates=200, seed=5)
    np.testing.assert_allclose((result.group_low, result.group_high), np.quantile(slopes, [0.1, 0.9]), rtol=1e-6)


def test_offsets_and_own_slopes_of_recordings() -> None:
    """A recording's offset widens only the t interval; its own slope shows only in the group interval."""
    rng = np.random.default_rng(2)
    score, groups = np.array([-0.4, -0.1, 0.0, 0.2]), np.arange(30)
    values = score + 0.1 * rng.normal(size=(30, 4))
    plain = slope_interval(values, score, groups=groups)
    shifted = slope_interval(values + 10 * rng.normal(size=(30, 1)), score, groups=groups)
    assert shifted.slope == pytest.approx(plain.slope)
    assert shifted.group_low == pytest.approx(plain.group_low)
    assert shifted.high - shifted.low > 10 * (plain.high - plain.low)
    tilted = slope_interval(values + 3 * rng.normal(size=(30, 1)) * (score - score.mean()), score, groups=groups)
    assert tilted.group_high - tilted.group_low > 1.5 * (tilted.high - tilted.low)


def test_group_interval_covers_the_planted_slope() -> None:
    score, groups, hits = np.array([-0.4, -0.1, 0.0, 0.2]), np.arange(20), 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        values = (2 + rng.normal(size=(20, 1))) * score + rng.normal(size=(20, 1)) + 0.1 * rng.normal(size=(20, 4))
        result = slope_interval(values, score, groups=groups, replicates=250, seed=seed)
        hits += result.group_low <= 2 <= result.group_high
    assert 0.87 <= hits / 150 <= 0.99


def test_slope_edge_rules() -> None:
    line = slope_interval([1.0, 3.0, 5.0], [0, 1, 2])
    assert (line.slope, line.p) == (2.0, 0.0)
    assert np.isnan([line.group_low, line.group_high]).all()
    flat = slope_interval([0.1] * 3, [0.1, 0.2, 0.4])
    assert (flat.slope, flat.low, flat.high) == (0.0, 0.0, 0.0)
    assert np.isnan(flat.p)
    two = slope_interval([1.0, 3.0, float("nan")], [0, 1, 2])
    assert (two.slope, two.points) == (2.0, 2)
    assert np.isnan([two.low, two.high, two.p]).all()
    for nothing in (slope_interval([1.0, 2.0, 4.0], [0.1] * 3), slope_interval([float("nan")] * 3, [0, 1, 2])):
        assert np.isnan([nothing.slope, nothing.low, nothing.high, nothing.p]).all()
    one = slope_interval([[1.0, 2.0, 4.0]] * 2, [0, 1, 2], groups=["a", "a"])
    assert np.isnan(one.group_low)
    with pytest.raises(ValueError, match=r"values \(3,\), hierarchy \(2,\)"):
        slope_interval([1.0, 2.0, 3.0], [0, 1])
    with pytest.raises(ValueError, match="label the 2 rows"):
        slope_interval(np.ones((2, 3)), [0, 1, 2], groups=[0, 1, 2])
    with pytest.raises(ValueError, match="level"):
        slope_interval([1.0, 2.0], [0, 1], level=95)


def test_torch_in_torch_out() -> None:
    assert type(kendall_tau(torch.arange(3), torch.arange(3))) is float
    assert permutation_p(1.0, torch.zeros(3)) == 0.25
    result = hierarchy_tau(torch.tensor([[1.0, 2.0, 3.0]]), torch.arange(3))
    assert isinstance(result.tau, torch.Tensor)
    assert type(result.mean) is float
    values, score = torch.tensor([[1.0, 2.0, 4.0], [0.0, 2.0, 3.0]]), torch.arange(3)
    ours = slope_interval(values, score, groups=torch.tensor([0, 1]))
    assert ours == slope_interval(values.numpy(), [0, 1, 2], groups=[0, 1])
    assert bootstrap_interval(torch.tensor([ours.slope]))[0] == ours.slope
