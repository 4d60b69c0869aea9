"""Maps of areas to depths against enumeration by loops, planted maps and the validity of the exact test."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import depth_map_p, kendall_tau


def _peaked(depth_map: list[int], depths: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Scores that fall off with the distance to each area's own depth."""
    away = np.abs(np.arange(depths) - np.array(depth_map)[:, None])
    return np.exp(-away / 2) + noise * np.random.default_rng(seed).normal(size=away.shape)


def _value(table: np.ndarray, depth_map: tuple[int, ...], order: list[int] | None) -> float:
    scores = [table[area, depth] for area, depth in enumerate(depth_map)]
    return float(np.mean(scores)) if order is None else kendall_tau(scores, order)


@pytest.mark.parametrize("order", [None, [0, 1, 1, 2]])
@pytest.mark.parametrize("how", ["permute", "random"])
def test_exact_null_equals_loops(how: str, order: list[int] | None) -> None:
    table, planted = np.random.default_rng(0).normal(size=(4, 3)), [0, 2, 1, 2]
    maps = permutations(planted) if how == "permute" else product(range(3), repeat=4)
    null = np.array([_value(table, each, order) for each in maps])
    observed = _value(table, tuple(planted), order)
    result = depth_map_p(table, planted, how=how, order=order)
    assert result.exact
    assert result.observed == pytest.approx(observed)
    np.testing.assert_allclose(np.sort(result.null), np.sort(null), atol=1e-12)
    assert result.p == pytest.approx((null >= observed - 1e-9).mean())
    assert result.percentile == pytest.approx(100 * (null < observed - 1e-9).mean())


@pytest.mark.parametrize("how", ["permute", "random"])
def test_drawn_maps_agree_with_all_maps(how: str) -> None:
    table, planted = _peaked([0, 1, 2, 3, 4], 5, noise=0.5), [1, 0, 2, 4, 3]
    exact = depth_map_p(table, planted, how=how)
    drawn = depth_map_p(table, planted, draws=100 if how == "permute" else 3000, how=how)
    assert (exact.exact, drawn.exact) == (True, False)
    assert exact.null.shape == (120 if how == "permute" else 5**5,)
    assert drawn.p == pytest.approx(exact.p, abs=0.15 if how == "permute" else 0.04)
    assert drawn.p == (1 + (drawn.null >= drawn.observed).sum()) / (1 + len(drawn.null))
    np.testing.assert_array_equal(drawn.null, depth_map_p(table, planted, len(drawn.null), how).null)
    assert (drawn.null != depth_map_p(table, planted, len(drawn.null), how, seed=1).null).any()


def test_planted_map_beats_random_maps() -> None:
    planted = [1, 2, 3, 4]
    for seed in range(5):
        table = _peaked(planted, 6, noise=0.1, seed=seed)
        assert depth_map_p(table, planted, how="random").percentile > 95
        assert depth_map_p(table, planted[::-1], how="random").percentile < 50
    assert depth_map_p(_peaked(planted, 6), planted).p == pytest.approx(1 / 24)


def test_a_depth_used_twice_limits_the_exact_permutation() -> None:
    result = depth_map_p(_peaked([6, 7, 7, 8], 9), [6, 7, 7, 8])
    assert result.p == pytest.approx(2 / 24)
    assert result.percentile == pytest.approx(100 * 22 / 24)
    assert depth_map_p(_peaked([6, 7, 7, 8], 9), [6, 7, 7, 8], how="random").percentile > 99.9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["permute", "random"]), st.booleans())
def test_exact_p_is_valid(seed: int, how: str, ties: bool) -> None:
    """With every map equally likely, p <= k / n happens with probability at most k / n."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 3, size=(3, 3)).astype(float) if ties else rng.normal(size=(3, 3))
    maps = list(permutations(range(3))) if how == "permute" else list(product(range(3), repeat=3))
    p = np.sort([depth_map_p(table, each, how=how).p for each in maps])
    assert (p >= np.arange(1, len(p) + 1) / len(p) - 1e-12).all()


def test_ties_hold_up_to_rounding() -> None:
    table = np.array([[0.1, 0.2, 0.3]] * 3)  # 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1 in floating point
    result = depth_map_p(table, [0, 1, 2])
    assert (result.p, result.percentile) == (1.0, 0.0)


def test_depth_map_edge_rules() -> None:
    table = _peaked([0, 1, 2], 3)
    table[0, 2] = np.nan
    result = depth_map_p(table, [0, 1, 2])
    assert np.isnan(result.null).sum() == 2
    assert result.p == pytest.approx(1 / 4)
    missed = depth_map_p(table, [2, 1, 0])
    assert np.isnan([missed.observed, missed.p, missed.percentile]).all()
    flat = depth_map_p(np.ones((3, 3)), [0, 1, 2], order=[0, 1, 2])
    assert np.isnan(flat.p)
    single = depth_map_p([[0.3, 0.5]], [1])
    assert (single.p, single.observed) == (1.0, 0.5)
    with pytest.raises(ValueError, match="depth for each of the 3 areas; got 2"):
        depth_map_p(table, [0, 1])
    with pytest.raises(ValueError, match="column numbers from 0 to 2"):
        depth_map_p(table, [0, 1, 3])
    with pytest.raises(ValueError, match="column numbers"):
        depth_map_p(table, [0, 1, 0.5])
    with pytest.raises(ValueError, match="'permute' or 'random'; got 'all'"):
        depth_map_p(table, [0, 1, 2], how="all")
    with pytest.raises(ValueError, match="order must rank the 3 areas"):
        depth_map_p(table, [0, 1, 2], order=[0, 1])
    with pytest.raises(ValueError, match="1 infinite"):
        depth_map_p([[np.inf, 1.0]], [0])
    with pytest.raises(ValueError, match="draws"):
        depth_map_p(table, [0, 1, 2], draws=0)


def test_torch_in_torch_out() -> None:
    table = _peaked([0, 1, 2], 3)
    result = depth_map_p(torch.tensor(table), torch.tensor([0, 1, 2]))
    assert isinstance(result.null, torch.Tensor)
    assert type(result.p) is float
    np.testing.assert_array_equal(result.null.numpy(), depth_map_p(table, [0, 1, 2]).null)
