"""Delays against an explicit loop over runs, Lanczos against its formula and a band-limited signal."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.timing import delayed, lanczos, run_slices, trim

RUNS = np.repeat(["story", "film", "film again"], [7, 5, 9])


def _features(seed: int = 0, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(RUNS), columns))


@pytest.mark.parametrize("delays", [(1, 2, 3, 4), (0,), (3, 0), (-2, 1), (20, 6)])
def test_delays_equal_a_loop_over_runs(delays: tuple[int, ...]) -> None:
    features, expected = _features(), np.zeros((len(RUNS), 3 * len(delays)))
    for time in range(len(RUNS)):
        for position, delay in enumerate(delays):
            if 0 <= time - delay < len(RUNS) and RUNS[time - delay] == RUNS[time]:
                expected[time, 3 * position : 3 * position + 3] = features[time - delay]
    np.testing.assert_array_equal(delayed(features, delays, RUNS), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(-9, 9), min_size=1, max_size=5))
def test_a_run_does_not_see_another_run(seed: int, delays: list[int]) -> None:
    features = _features(seed)
    spoilt = np.where((RUNS == "story")[:, None], 1e6 * features, features)
    kept = RUNS != "story"
    np.testing.assert_array_equal(delayed(spoilt, delays, RUNS)[kept], delayed(features, delays, RUNS)[kept])


def test_without_runs_the_border_is_crossed() -> None:
    features = _features()
    spoilt = np.where((RUNS == "story")[:, None], 1e6 * features, features)
    assert (delayed(spoilt) != delayed(features))[7:11].any(axis=1).all()  # what runs are there to prevent
    np.testing.assert_array_equal(delayed(features), delayed(features, runs=np.zeros(len(RUNS))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delays": ()}, "at least one"),
        ({"delays": (1.5,)}, "whole numbers"),
        ({"runs": [0, 1]}, "2 labels for 21"),
        ({"runs": np.arange(21) % 2}, "21 stretches of 2 runs"),
    ],
)
def test_bad_delays_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delayed(_features(), **arguments)


def test_folds_in_any_order_are_runs_without_delays() -> None:
    np.testing.assert_array_equal(delayed(_features(), (0,), np.arange(21) % 2), _features())
    with pytest.raises(ValueError, match="NaN"):
        delayed(np.full((3, 1), np.nan))


def test_trim_equals_a_loop() -> None:
    for start, end in [(0, 0), (2, 1), (3, 3), (6, 6)]:
        lengths = [int((run == RUNS).sum()) for run in dict.fromkeys(RUNS)]
        expected = [start <= time < length - end for length in lengths for time in range(length)]
        np.testing.assert_array_equal(trim(RUNS, start, end), expected)
    with pytest.raises(ValueError, match="at least 0"):
        trim(RUNS, -1, 0)
    assert run_slices(np.array([])) == []


def _kernel(u: float, lobes: int = 3) -> float:
    if u == 0:
        return 1.0
    if abs(u) > lobes:
        return 0.0
    return lobes * math.sin(math.pi * u) * math.sin(math.pi * u / lobes) / (math.pi**2 * u**2)


@pytest.mark.parametrize("lobes", [1, 3, 5])
@pytest.mark.parametrize("cutoff", [None, 0.2, 2.0])
def test_lanczos_equals_the_formula(lobes: int, cutoff: float | None) -> None:
    rng = np.random.default_rng(0)
    times, at = np.sort(rng.uniform(0, 260, 400)), np.arange(0.0, 260, 2.0)
    values, rate = rng.normal(size=(400, 2)), 0.5 if cutoff is None else cutoff
    expected = np.zeros((len(at), 2))
    for row, new in enumerate(at):
        for old, value in zip(times, values, strict=True):
            expected[row] += _kernel((new - old) * rate, lobes) * value
    np.testing.assert_allclose(lanczos(values, times, at, cutoff, lobes), expected, atol=1e-12)


def test_the_kernel_is_one_at_zero_and_nothing_beyond_three_lobes() -> None:
    at = np.array([0.0, 1.0, 2.0, 3.0, 3.01, 0.5, -0.5])
    expected = [1, 0, 0, 0, 0, 0.607927, 0.607927]  # 3 sin(pi/2) sin(pi/6) / (pi/2)^2 = 6 / pi^2
    np.testing.assert_allclose(lanczos([[1.0]], [0.0], at, cutoff=1.0)[:, 0], expected, atol=1e-6)
    assert lanczos([[1.0]], [0.0], [2.5], cutoff=1.0)[0, 0] > 0 > lanczos([[1.0]], [0.0], [1.5], cutoff=1.0)[0, 0]


def test_the_sum_follows_the_rate_of_words_and_the_mean_does_not() -> None:
    at = np.arange(10.0, 50, 2.0)
    for rate in (1.0, 4.0):
        times = np.arange(0, 60, 1 / rate)
        total = lanczos(np.full((len(times), 1), 3.0), times, at)
        np.testing.assert_allclose(total, 3.0 * 2 * rate, rtol=0.02)  # words per sample of 2 s
        np.testing.assert_allclose(lanczos(np.full((len(times), 1), 3.0), times, at, normalise=True), 3.0)


def test_a_slow_signal_is_resampled_faithfully() -> None:
    times, at = np.arange(0, 100, 0.25), np.arange(10.0, 90.0, 2.0) + 0.37
    slow = np.sin(2 * np.pi * 0.03 * times)[:, None]
    found = lanczos(slow, times, at, cutoff=1.0, normalise=True)[:, 0]
    np.testing.assert_allclose(found, np.sin(2 * np.pi * 0.03 * at), atol=0.01)
    fast = np.sin(2 * np.pi * 1.5 * times)[:, None]  # above the cutoff of one half cycle per unit of time
    assert np.abs(lanczos(fast, times, at, cutoff=1.0, normalise=True)).max() < 0.05


def test_windows_without_weight() -> None:
    values, times = np.array([[2.0], [6.0]]), [0.0, 0.5]
    assert lanczos(values, times, [20.0], cutoff=1.0)[0, 0] == 0
    found = lanczos(values, times, [20.0, 0.0, 1.75], cutoff=1.0, normalise=True)[:, 0]
    assert np.isnan(found[[0, 2]]).all()  # nothing there; negative side lobes only
    assert found[1] == pytest.approx((2 + 6 * 6 / np.pi**2) / (1 + 6 / np.pi**2))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_samples_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times, values, at = rng.uniform(0, 30, 50), rng.normal(size=(50, 2)), np.arange(0.0, 30)
    order = rng.permutation(50)
    np.testing.assert_allclose(lanczos(values[order], times[order], at), lanczos(values, times, at), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [0.0, 1.0], [0.0, 1.0]), "got 2 for 1 rows"),
        (([[1.0]], [0.0], [0.0]), "cutoff must be given"),
        (([[1.0]], [0.0], [2.0, 2.0]), "cutoff must be given"),
        (([[1.0]], [np.nan], [0.0, 1.0]), "times must be a vector of finite"),
        (([[np.nan]], [0.0], [0.0, 1.0]), "NaN"),
        (([[1.0]], [0.0], [0.0], -1.0), "above 0"),
    ],
)
def test_bad_times_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lanczos(*arguments)


def test_torch_in_torch_out() -> None:
    features = torch.tensor(_features(), dtype=torch.float32)
    found = delayed(features, runs=RUNS)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), delayed(features.numpy(), runs=RUNS))
    resampled = lanczos(features, np.arange(21.0), torch.arange(0, 21, 2.0))
    assert isinstance(resampled, torch.Tensor)
    np.testing.assert_array_equal(resampled.numpy(), lanczos(features.numpy(), np.arange(21.0), np.arange(0, 21, 2.0)))
