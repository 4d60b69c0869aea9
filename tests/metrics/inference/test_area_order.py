"""Orders of areas against planted ones: a p that is uniform without one, power with one, intervals that hold."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, kstest

from metrics import AREA_ORDERS, AreaOrderTest, area_order_from_errors, area_order_test, kendall_tau

ORDER = ("V1", "RL", "LM", "AL")
COUNTS = (30, 12, 50, 20)
AREAS = np.repeat(ORDER, COUNTS)
TRUE = np.repeat(np.arange(4), COUNTS)


def planted(seed: int, rise: float = 0.0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Values and reliabilities of units; with ``bias`` reliable ones, more in later areas, read higher."""
    random = np.random.default_rng(seed)
    reliability = random.uniform(0.4, 1.6, len(AREAS)) + 0.2 * bias * TRUE
    return random.normal(size=len(AREAS)) / 2 + bias * reliability + rise * TRUE, reliability


def from_errors(values: np.ndarray, seed: int = 0) -> AreaOrderTest:
    means = [values[area == AREAS].mean() for area in ORDER]
    errors = [values[area == AREAS].std(ddof=1) / (area == AREAS).sum() ** 0.5 for area in ORDER]
    return area_order_from_errors(means, errors, range(4), draws=400, seed=seed)


def per_unit(values: np.ndarray, reliability: np.ndarray | None, seed: int) -> AreaOrderTest:
    return area_order_test(values, AREAS, ORDER, reliability, permutations=99, replicates=200, seed=seed)


def test_p_is_uniform_where_areas_do_not_differ() -> None:
    """Of 200 recordings; by permutation it comes in steps of 1 / 100."""
    found = [(per_unit(*planted(seed), seed).p, from_errors(planted(seed)[0]).p) for seed in range(200)]
    exact, parametric = np.array(found).T
    jitter = np.random.default_rng(0).random(200) / 100
    assert kstest(exact - jitter, "uniform").pvalue > 0.01
    assert kstest(parametric, "uniform").pvalue > 0.01


def test_units_that_read_high_because_they_are_reliable_make_no_order() -> None:
    """Later areas have more reliable units: significant among all units, not among units of one reliability."""
    found = [
        (per_unit(values, None, seed).p, area_order_test(values, AREAS, ORDER, reliability, 12, 99, 9, seed=seed).p)
        for seed in range(40)
        for values, reliability in [planted(seed, bias=1.5)]
    ]
    careless, matched = (np.array(found) <= 0.05).mean(axis=0)
    assert careless > 0.9
    assert matched < 0.35


@pytest.mark.parametrize("rise", [0.5, 1.0])
def test_a_planted_rise_is_found_beyond_what_four_labels_can_say(rise: float) -> None:
    found = [(per_unit(*planted(seed, rise), seed), from_errors(planted(seed, rise)[0])) for seed in range(30)]
    for tests in zip(*found, strict=True):
        assert np.mean([test.p < 1 / 24 for test in tests]) > 0.95
        assert np.mean([test.p <= 0.01 for test in tests]) > 0.9
        assert np.mean([test.low <= 1 <= test.high for test in tests]) > 0.9
    falling = per_unit(*planted(1, -rise), 1)
    assert (falling.tau, falling.p) == (-1.0, 1.0)


def test_the_interval_covers_the_order_of_the_true_values() -> None:
    """Areas 1 and 2 exchanged: the true tau is 2/3, and steps of 1/3 make intervals too wide rather than too narrow."""
    truth = np.array([0.0, 0.8, 0.4, 1.2])
    shift = np.repeat(truth, COUNTS)
    wanted = kendall_tau(truth, range(4))
    results = [(per_unit(planted(s)[0] + shift, None, s), from_errors(planted(s)[0] + shift, s)) for s in range(60)]
    for tests in zip(*results, strict=True):
        assert np.mean([test.low - 1e-9 <= wanted <= test.high + 1e-9 for test in tests]) > 0.9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_order_of_units_scale_and_shift_change_nothing_that_is_not_drawn(seed: int, scale: float, shift: float) -> None:
    values, _ = planted(seed)
    found, moved = from_errors(values), from_errors(scale * values + shift)
    assert moved.tau == found.tau
    assert moved.p == pytest.approx(found.p, rel=1e-6)
    order = np.random.default_rng(seed).permutation(len(values))
    one = area_order_test(values, AREAS, ORDER, permutations=9, replicates=9)
    two = area_order_test(values[order], AREAS[order], dict(zip(ORDER, range(4), strict=True)), permutations=9)
    assert (one.tau, one.areas) == (two.tau, two.areas)
    np.testing.assert_allclose(one.values, two.values)
    means = [values[area == AREAS].mean() for area in ORDER]
    assert one.tau == pytest.approx(kendalltau(means, range(4)).statistic)


def test_every_exchange_of_few_units_gives_the_p_of_all_of_them() -> None:
    """Six units, of which all 720 exchanges can be counted."""
    values, areas, ranks = np.array([0.3, 0.1, 1.0, 0.7, 1.4, 2.0]), np.repeat(["a", "b", "c"], 2), np.array([-1, 0, 1])

    def rise(drawn: np.ndarray) -> float:
        return float(drawn.reshape(3, 2).mean(axis=1) @ ranks)

    null = np.array([rise(np.array(drawn)) for drawn in permutations(values)])
    found = area_order_test(values, areas, ["a", "b", "c"], permutations=20000, replicates=2).p
    assert found == pytest.approx((null >= rise(values) - 1e-12).mean(), abs=0.006)


def test_rows_are_averaged_and_ties_of_an_order_are_ranks() -> None:
    values = np.array([[1.0, 2.0, 3.0, np.nan], [3.0, 2.0, 1.0, 0.0], [1.0, np.nan, np.nan, 2.0]])
    errors = np.full(values.shape, 0.01)
    ranks = np.array([0.0, 1.0, 2.0, 3.0])
    found = area_order_from_errors(values, errors, ranks)
    assert (found.tau, found.low, found.high) == (0.0, 0.0, 0.0)  # two rows, the third has two areas
    assert found.p > 0.99
    tied = area_order_test(np.arange(8.0), np.repeat(["V1", "LM", "RL", "AL"], 2), ["V1", ["LM", "RL"], "AL"])
    assert tied.tau == pytest.approx(kendall_tau([0, 1, 2, 3], [AREA_ORDERS["architecture"][a] for a in tied.areas]))


def test_edge_rules() -> None:
    nan = float("nan")
    values = np.array([1.0, 2.0, nan, 5.0, 3.0, nan])
    areas = np.array(["V1", "V1", "RL", "LM", "PM", "AL"])
    few = area_order_test(values, areas, ORDER)  # RL and AL without a value, PM without a rank
    assert np.isnan([few.tau, few.low, few.high, few.p]).all()
    assert few.areas == ("V1", "RL", "LM", "AL")
    assert few.values[0] == 1.5
    same = area_order_test(np.ones(8), np.repeat(ORDER, 2), ORDER)
    assert np.isnan([same.tau, same.p]).all()
    unknown = area_order_from_errors([1.0, 2.0, 3.0], [0.1, nan, 0.1], [0, 1, 2])
    assert unknown.tau == 1.0
    assert np.isnan([unknown.low, unknown.high, unknown.p]).all()
    assert np.isnan(area_order_from_errors([1.0, 2.0], [0.1, 0.1], [0, 1]).tau)
    certain = area_order_from_errors([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0, 1, 2])
    assert (certain.tau, certain.low) == (1.0, 1.0)
    assert np.isnan(certain.p)
    with pytest.raises(ValueError, match="areas must label the 3 units; got 2 labels"):
        area_order_test([1, 2, 3], ["V1", "AL"], ORDER)
    with pytest.raises(ValueError, match="names every area once; got V1, V1"):
        area_order_test([1, 2], ["V1", "AL"], ["V1", "V1"])
    with pytest.raises(ValueError, match="bins, permutations and replicates"):
        area_order_test([1, 2], ["V1", "AL"], ORDER, permutations=0)
    with pytest.raises(ValueError, match="order must rank the 3 areas"):
        area_order_from_errors([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [0, 1])
