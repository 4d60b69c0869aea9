"""Ceilings against planted signal and noise, against the published formulas and on real recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from metrics import (
    explainable_variance,
    noise_ceiling,
    noise_variance_of_mean,
    oracle,
    split_half,
    trial_noise_variance,
)
from metrics.prediction.ceilings import _dealt_halves


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


@pytest.mark.parametrize("drift", [0.0, 3.0])
@pytest.mark.parametrize("stimuli", [2, 50])
def test_complete_repeats_give_the_ceiling_of_schoppe_whatever_drifts_between_repeats(
    stimuli: int, drift: float
) -> None:
    values = _repeats(stimuli, 4, 0.5) + drift * np.array([0.0, 1.0, -0.5, 2.0])
    total = values.mean(2).var(0, ddof=1)
    expected = np.sqrt(np.maximum(_schoppe_signal(values), 0.0) / total)
    np.testing.assert_allclose(noise_ceiling(values), expected, rtol=1e-9, atol=1e-7)
    noise = total - _schoppe_signal(values)
    np.testing.assert_allclose(noise_variance_of_mean(values), noise, rtol=1e-9)


def test_a_missing_repeat_makes_a_drift_count_as_noise() -> None:
    values = _repeats(400, 4, 0.5) + np.array([0.0, 1.0, -0.5, 2.0])
    gap = values.copy()
    gap[0, 0, 0] = np.nan
    assert noise_ceiling(gap)[0] < noise_ceiling(values)[0] - 0.05
    np.testing.assert_allclose(noise_ceiling(gap)[1:], noise_ceiling(values)[1:])


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


@pytest.mark.parametrize(
    "function", [noise_ceiling, explainable_variance, noise_variance_of_mean, oracle, split_half, trial_noise_variance]
)
def test_torch_in_torch_out(function: object) -> None:
    values = _repeats(20, 3, 1.0)
    result = function(torch.tensor(values))  # type: ignore[operator]
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), function(values))  # type: ignore[operator]


def test_wrong_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="stimuli, units, repeats"):
        noise_ceiling(np.ones(3))


def test_trial_noise_variance_is_the_planted_one_and_leaves_single_repeats_out() -> None:
    np.testing.assert_allclose(trial_noise_variance(_repeats(5000, 4, 2.0)), 4.0, rtol=0.05)
    values = np.array([[[1.0, 3.0, np.nan]], [[0.0, 3.0, 6.0]], [[9.0, np.nan, np.nan]]])
    assert trial_noise_variance(values)[0] == pytest.approx((2 + 9) / 2)
    assert np.isnan(trial_noise_variance(values[:, :, :1])).all()
    assert np.isnan(trial_noise_variance([[[0.0, np.inf]], [[0.0, 1.0]]])).all()
    assert trial_noise_variance(np.full((3, 1, 4), 0.1)) == 0


def _jackknife_by_loops(values: np.ndarray) -> list[float]:
    found = []
    for unit in range(values.shape[1]):
        trials, others = [], []
        for row in (row[~np.isnan(row)] for row in values[:, unit]):
            for index in range(len(row) if len(row) > 1 else 0):
                trials.append(row[index])
                others.append(np.delete(row, index).mean())
        found.append(pearsonr(trials, others)[0])
    return found


def test_jackknife_oracle_equals_loops_with_scipy() -> None:
    values = _repeats(30, 5, 0.8) + 10
    values[np.random.default_rng(2).random(values.shape) < 0.4] = np.nan
    assert ((~np.isnan(values)).sum(2) < 2).any()
    np.testing.assert_allclose(oracle(values), _jackknife_by_loops(values), atol=1e-10)


def test_conservative_oracle_equals_the_formula_with_ddof_zero() -> None:
    values = _repeats(30, 5, 0.8)
    mean, noise = values.mean(2).var(0), values.var(2).mean(0)
    np.testing.assert_allclose(oracle(values, "conservative"), mean / np.sqrt(mean * (mean + noise)), rtol=1e-10)
    kept = np.concatenate([values, np.full((3, 5, 5), np.nan)])
    kept[30, :, 0] = 50.0  # a stimulus with one repeat is left out
    np.testing.assert_allclose(oracle(kept, "conservative"), oracle(values, "conservative"), rtol=1e-10)


@pytest.mark.parametrize(("repeats", "noise"), [(2, 1.0), (4, 2.0), (10, 0.5)])
def test_oracles_lie_on_either_side_of_the_best_single_trial_correlation(repeats: int, noise: float) -> None:
    values, variance = _repeats(8000, repeats, noise), noise**2
    low = 1 / np.sqrt((1 + variance) * (1 + variance / (repeats - 1)))
    high = np.sqrt((1 + variance / repeats) / (1 + variance))
    np.testing.assert_allclose(oracle(values), low, atol=0.03)
    np.testing.assert_allclose(oracle(values, "conservative"), high, atol=0.03)
    assert low < np.sqrt(1 / (1 + variance)) < high


@pytest.mark.parametrize("variant", ["jackknife", "conservative"])
def test_edge_rules_of_the_oracle(variant: str) -> None:
    values = _repeats(20, 3, 1.0, units=6)
    values[:, 0, 1:] = np.nan  # one repeat only
    values[:, 1] = 0.1  # constant
    values[:, 2] = np.nan  # nothing
    values[4, 3, 1] = np.inf
    values[:, 4] = [-0.5, 0.0, 0.5]  # equal averages
    result = oracle(values, variant)
    assert np.isnan(result[:4]).all()
    assert np.isfinite(result[5])
    assert np.isnan(result[4]) if variant == "conservative" else result[4] == pytest.approx(-1)
    assert np.isnan(oracle(np.ones((4, 2)), variant)).all()
    with pytest.raises(ValueError, match="'jackknife' or 'conservative'; got 'mean'"):
        oracle(values, "mean")


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("repeats", "noise"), [(2, 1.0), (4, 2.0), (10, 1.5)])
def test_planted_reliability_is_found(whole: bool, repeats: int, noise: float) -> None:
    values, variance = _repeats(6000, repeats, noise), noise**2
    reached = split_half(values, splits=10, whole_repeats=whole)
    np.testing.assert_allclose(reached, 1 / (1 + 2 * variance / repeats), atol=0.04)
    reached = split_half(values, splits=10, whole_repeats=whole, corrected=True)
    np.testing.assert_allclose(reached, 1 / (1 + variance / repeats), atol=0.04)
    np.testing.assert_allclose(np.sqrt(reached), noise_ceiling(values), atol=0.02)


def test_unequal_repeats_are_dealt_into_equal_halves() -> None:
    values = _repeats(20000, 9, 2.0, units=3)
    count = 2 * np.random.default_rng(3).integers(1, 5, size=(20000, 3, 1))  # 2, 4, 6 or 8 repeats, by unit
    values[np.random.default_rng(4).random(values.shape).argsort(axis=2).argsort(axis=2) >= count] = np.nan
    truth = 1 / (1 + 4 * (2 / count).mean(axis=(0, 2)))
    np.testing.assert_allclose(split_half(values, splits=10), truth, atol=0.025)


def test_two_repeats_have_one_halving_whatever_the_gaps_between_them() -> None:
    values = np.full((30, 2, 6), np.nan)
    pair = _repeats(30, 2, 1.0, units=2)
    places = np.random.default_rng(5).random((30, 2, 6)).argsort(axis=2)[:, :, :2]
    np.put_along_axis(values, places, pair, axis=2)
    values[7] = np.nan
    flipped = np.array([split_half(values, splits=1, seed=seed) for seed in range(300)])
    swaps = np.random.default_rng(6).random((300, 30)) < 0.5  # which half a repeat goes to is the only draw
    shown = np.arange(30) != 7
    first, second = (np.where(s, pair[:, 0, 0], pair[:, 0, 1])[:, shown] for s in (swaps, ~swaps))
    expected = [pearsonr(a, b)[0] for a, b in zip(first, second, strict=True)]
    assert flipped[:, 0].mean() == pytest.approx(np.mean(expected), abs=0.01)
    assert flipped[:, 0].std() == pytest.approx(np.std(expected), rel=0.2)


def test_dealing_is_a_uniform_draw_of_halves() -> None:
    values = np.array([[[1.0, 10.0, 100.0, np.nan, 1000.0]], [[0.0, 0.0, 0.0, 0.0, np.nan]]])
    sums: dict[float, int] = {}
    for seed in range(300):
        first, second = _dealt_halves(values, 4, np.random.default_rng(seed))
        np.testing.assert_allclose(first[0] + second[0], 1111 / 2)
        for average in first[0, 0]:
            sums[round(2 * average)] = sums.get(round(2 * average), 0) + 1
    assert set(sums) == {11, 101, 1001, 110, 1010, 1100}
    assert min(sums.values()) > 150  # of 200 each
    assert max(sums.values()) < 250


def test_an_odd_repeat_goes_to_either_half_and_none_is_lost() -> None:
    values = np.array([[[1.0, 10.0, 100.0]]])
    first, second = _dealt_halves(values, 200, np.random.default_rng(0))
    pairs = {(round(a, 6), round(b, 6)) for a, b in zip(first.ravel(), second.ravel(), strict=True)}
    singles = {(1.0, 55.0), (10.0, 50.5), (100.0, 5.5)}
    assert pairs <= singles | {(b, a) for a, b in singles}
    assert len({a in (1.0, 10.0, 100.0) for a, _ in pairs}) == 2


def test_a_shared_drift_is_noise_when_dealt_and_cancels_in_whole_repeats() -> None:
    drifting = _repeats(2000, 10, 0.5) + np.linspace(-3, 3, 10)
    still = _repeats(2000, 10, 0.5)
    np.testing.assert_allclose(
        split_half(drifting, splits=20, whole_repeats=True), split_half(still, splits=20), atol=0.01
    )
    assert (split_half(drifting, splits=20) < split_half(still, splits=20) - 0.2).all()


def test_split_half_is_spearman_brown_corrected_reproducible_and_seeded() -> None:
    values = _repeats(50, 6, 1.0)
    r = split_half(values, splits=25, seed=3)
    np.testing.assert_allclose(split_half(values, splits=25, seed=3, corrected=True), 2 * r / (1 + r))
    np.testing.assert_array_equal(r, split_half(values, splits=25, seed=3))
    assert (r != split_half(values, splits=25, seed=4)).all()
    np.testing.assert_array_equal(r[[2, 0]], split_half(values[:, [2, 0]], splits=25, seed=3))


@pytest.mark.parametrize("whole", [False, True])
def test_edge_rules_of_split_half(whole: bool) -> None:
    values = _repeats(20, 4, 1.0, units=7)
    values[:, 0, 1:] = np.nan  # one repeat only
    values[:, 1] = 0.1  # constant
    values[:, 2] = np.nan  # nothing
    values[1:, 3] = np.nan  # one stimulus
    values[4, 4, 1] = np.inf
    values[2, 5, 1:] = np.nan  # a stimulus with one repeat is left out
    result = split_half(values, splits=12, whole_repeats=whole)
    assert np.isnan(result[:5]).all()
    assert np.isfinite(result[5:]).all()
    values[2, 5, 0] = 1e6
    np.testing.assert_array_equal(split_half(values, splits=12, whole_repeats=whole), result)
    assert np.isnan(split_half(np.ones((4, 2)), whole_repeats=whole)).all()
    opposite = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert np.isnan(split_half(opposite, 5, corrected=True, whole_repeats=True)).all()  # r = -1
    with pytest.raises(ValueError, match="splits=0"):
        split_half(values, splits=0)


REAL = {
    "macaque-v4-210325": 0.63,
    "macaque-v1-ay3_u002": 0.81,
    "macaque-v1-ay3_u001": 0.77,
    "macaque-v1-ay4_u005": 0.62,
}
"""Median split-half r over units, as stated with the recordings: raw, not Spearman-Brown corrected (that would be
.76, .90, .87, .75), and of whole repeats: the V4 value and its spread are those of even against odd repeats."""


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_have_their_stated_reliability(shared_data: Path, name: str) -> None:
    values = np.load(shared_data / name / "responses.npy").astype(np.float64)
    r = split_half(values, whole_repeats=True)
    assert np.median(r) == pytest.approx(REAL[name], abs=0.025)
    corrected = split_half(values, whole_repeats=True, corrected=True)
    assert np.median(corrected) > REAL[name] + 0.08
    whole, dealt = (split_half(values, splits=20, corrected=True, whole_repeats=each) for each in (True, False))
    complete = ~np.isnan(values).any(axis=(0, 2))  # then what whole repeats share is noise of neither
    ceiling = np.where(complete, whole, dealt)
    np.testing.assert_allclose(noise_ceiling(values), np.sqrt(np.maximum(ceiling, 0)), atol=0.04)
    jackknife, conservative = oracle(values), oracle(values, "conservative")
    assert (jackknife < conservative).all()


def test_even_against_odd_repeats_of_v4_is_the_stated_spread(shared_data: Path) -> None:
    values = np.load(shared_data / "macaque-v4-210325" / "responses.npy").astype(np.float64)
    halves = [np.nanmean(values[:, :, start::2], axis=2) for start in (0, 1)]
    pair = np.stack(halves, axis=2)
    r = split_half(pair, splits=1, whole_repeats=True)
    np.testing.assert_allclose(np.percentile(r, [10, 50, 90]), [0.43, 0.63, 0.79], atol=0.005)
    assert np.median(split_half(values, splits=20)) == pytest.approx(np.median(r), abs=0.025)
