"""Chance level of grouped predictions: against shuffling row by row, and calibrated on planted noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import correlation, group_orders, permutation_p, permuted_correlation


def shuffled(predicted: np.ndarray, groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The prediction with its groups in another order, a group repeated or cut to the length of its place."""
    moved = np.empty_like(predicted)
    names = np.unique(groups)
    for place, source in enumerate(order):
        rows = np.flatnonzero(groups == names[place])
        own = predicted[groups == names[source]]
        moved[rows] = np.array([own[j % len(own)] for j in range(len(rows))])
    return moved


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_of_groups_of_one_size_it_is_the_correlation_of_the_shuffled_prediction(
    seed: int, count: int, size: int
) -> None:
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(count), size))
    predicted, observed = random.normal(size=(2, count * size, 3))
    orders = group_orders(groups, 5, seed)
    expected = [np.mean(correlation(shuffled(predicted, groups, order), observed)) for order in orders]
    np.testing.assert_allclose(permuted_correlation(predicted, observed, groups, orders), expected, atol=1e-12)


def test_the_given_order_gives_the_correlation_itself_whatever_the_groups() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c", "d"], [1, 7, 2, 30])
    predicted, observed = random.normal(size=(2, 40, 4))
    observed[random.random(observed.shape) < 0.2] = np.nan
    predicted[:, 3] = 2.0
    found = permuted_correlation(predicted, observed, groups, [[0, 1, 2, 3]])
    assert found[0] == pytest.approx(np.nansum(correlation(predicted, observed)) / 4)  # a constant one counts as 0


def rate(sizes: list[int], within: float, signal: float = 0.0, trials: int = 300) -> float:
    """How often p is at most .05 where both sides vary over groups and within them, and share `signal`."""
    random, hits = np.random.default_rng(1), 0
    groups = np.repeat(np.arange(len(sizes)), sizes)
    orders = group_orders(groups, 199, 0)
    for _ in range(trials):
        x, noise = (random.normal(size=(len(sizes), 3))[groups] * within for _ in range(2))
        x, noise = x + random.normal(size=x.shape), noise + random.normal(size=x.shape)
        y = signal * x + noise
        value = float(np.mean(correlation(x, y)))
        hits += permutation_p(value, permuted_correlation(x, y, groups, orders)) <= 0.05
    return hits / trials


@pytest.mark.parametrize("sizes", [[1] * 60, [6] * 12, [1, 2, 3, 4, 5, 6] * 3, [1] * 20 + [15] * 2])
def test_noise_is_above_chance_no_more_often_than_said(sizes: list[int]) -> None:
    assert rate(sizes, within=2.0) <= 0.08


def test_shuffling_rows_rather_than_groups_would_find_signal_in_noise() -> None:
    """Rows of a group that go up and down together are not 72 samples."""
    random, hits = np.random.default_rng(2), 0
    groups = np.repeat(np.arange(12), 6)
    for _ in range(100):
        x, y = 2 * random.normal(size=(2, 12, 3))[:, groups] + random.normal(size=(2, 72, 3))
        null = permuted_correlation(x, y, np.arange(72), group_orders(np.arange(72), 99, 0))
        hits += permutation_p(float(np.mean(correlation(x, y))), null) <= 0.05
    assert hits > 20


def test_signal_is_found() -> None:
    assert rate([1] * 60, within=1.0, signal=0.4, trials=60) > 0.9


def test_orders_hold_every_group_once_and_follow_the_seed() -> None:
    groups = ["b", "a", "a", "c"]
    orders = group_orders(groups, 50, seed=3)
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len({tuple(order) for order in orders}) == 6
    assert (orders == group_orders(groups, 50, seed=3)).all()
    assert (orders != group_orders(groups, 50, seed=4)).any()


def test_edges() -> None:
    x = np.arange(6.0)[:, None]
    assert np.isnan(permuted_correlation(x, x, [0] * 6, [[0]])).all()
    assert np.isnan(permuted_correlation(x, 0 * x, np.arange(6), group_orders(np.arange(6), 2))).all()
    assert permuted_correlation(0 * x, x, np.arange(6), group_orders(np.arange(6), 2)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="a column per distinct group"):
        permuted_correlation(x, x, np.arange(6), [[0, 1]])
    with pytest.raises(ValueError, match="at least one group"):
        group_orders([])
