"""The ratio of an area to its ceiling: 1 for a twin that is exact, whatever the noise and the number of repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import ceiled_correlation, correlation_to_average, noise_ceiling
from metrics.prediction.ceiled import _correlations, _squared_ceilings, area_ceiling, ratio_to_ceiling


def recorded(
    ratio: float, repeats: int, seed: int, stimuli: int = 100, units: int = 60, missing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noisy trials of units of one signal-to-noise ratio, a share of the trials missing."""
    random = np.random.default_rng(seed)
    signal = ratio * random.normal(size=(stimuli, units))
    trials = signal[:, :, None] + random.normal(size=(stimuli, units, repeats))
    return signal, np.where(random.random(trials.shape) < missing, np.nan, trials)


@pytest.mark.parametrize("missing", [0.0, 0.25])
@pytest.mark.parametrize(("ratio", "repeats"), [(0.4, 2), (1.0, 2), (0.3, 3), (0.6, 3), (0.2, 10), (1.0, 10)])
def test_an_exact_twin_reaches_one_and_half_a_twin_its_correlation(ratio: float, repeats: int, missing: float) -> None:
    """Over 10 recordings, within four standard errors of their mean, which the jackknife gives to a factor of 2."""
    exact, half = [], []
    for seed in range(10):
        signal, trials = recorded(ratio, repeats, seed, missing=missing)
        other = ratio * np.random.default_rng(seed + 99).normal(size=signal.shape)
        exact.append(ceiled_correlation(signal, trials))
        half.append(ceiled_correlation(signal + other, trials))
    for found, truth in ((exact, 1.0), (half, 0.5**0.5)):
        values, errors = np.array([one.value for one in found]), np.array([one.se for one in found])
        assert np.isfinite(values).sum() >= 9
        assert np.nanmean(values) == pytest.approx(truth, abs=4 * np.nanstd(values) / 10**0.5 + 0.01)
        assert 0.5 < np.nanmean(errors) / np.nanstd(values) < 2.2


@pytest.mark.parametrize("ratio", [0.0, 0.05])
def test_without_a_ceiling_there_is_no_ratio(ratio: float) -> None:
    """Units of noise: the interval of the mean squared ceiling leaves 0 out one time in forty."""
    results = [ceiled_correlation(*recorded(ratio, 3, seed)) for seed in range(25)]
    assert sum(np.isfinite(one.value) for one in results) <= 3
    assert np.mean([one.squared_ceiling for one in results]) == pytest.approx(3 * ratio**2, abs=0.01)
    assert all(np.isnan(one.se) == np.isnan(one.value) for one in results)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), repeats=st.integers(2, 5), missing=st.sampled_from([0.0, 0.3]), units=st.integers(1, 5)
)
def test_sums_without_a_block_are_those_of_the_other_stimuli(
    seed: int, repeats: int, missing: float, units: int
) -> None:
    """Against the public ceiling and correlation, taken anew without each group."""
    signal, trials = recorded(1.0, repeats, seed, stimuli=24, units=units, missing=missing)
    predicted = signal + np.random.default_rng(seed).normal(size=signal.shape)
    group = np.random.default_rng(seed).permutation(24) % 6
    squares, average = _squared_ceilings(trials, group), np.full(signal.shape, np.nan)
    for at in np.argwhere(~np.isnan(trials).all(axis=2)):
        average[tuple(at)] = np.nanmean(trials[tuple(at)])
    correlations = _correlations(predicted, average, group)
    for block in range(6):
        kept = group != block
        expected = np.asarray(noise_ceiling(trials[kept])) ** 2
        np.testing.assert_allclose(np.maximum(squares[block + 1], 0), expected, atol=1e-9)
        np.testing.assert_allclose(
            correlations[block], correlation_to_average(predicted[kept], trials[kept]), atol=1e-9
        )
    np.testing.assert_allclose(np.maximum(squares[0], 0), np.asarray(noise_ceiling(trials)) ** 2, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_order_scale_and_shift_change_nothing(seed: int, scale: float, shift: float) -> None:
    signal, trials = recorded(1.0, 3, seed, stimuli=30, units=6)
    groups = np.random.default_rng(seed).integers(0, 10, 30)
    wanted = ceiled_correlation(signal, trials, groups)
    random = np.random.default_rng(seed)
    rows, units = random.permutation(30), random.permutation(6)
    moved = trials[rows][:, units] * scale + shift
    found = ceiled_correlation(2 * signal[rows][:, units], moved, groups[rows])
    for one, other in zip(vars(found).values(), vars(wanted).values(), strict=True):
        assert one == pytest.approx(other, abs=1e-8)


def test_edge_rules() -> None:
    signal, trials = recorded(1.0, 3, 0, units=8)
    flat = signal.copy()
    flat[:, :4] = 0.3  # predicts nothing of half the units
    whole, part = ceiled_correlation(signal, trials), ceiled_correlation(flat, trials)
    assert part.value == pytest.approx(0.5, abs=0.06)
    assert part.squared_ceiling == whole.squared_ceiling
    dead = trials.copy()
    dead[:, :2] = 0.1
    dead[3, 2, 1] = np.inf
    assert ceiled_correlation(signal, dead).units == 5
    assert ceiled_correlation(signal, dead).value == pytest.approx(
        ceiled_correlation(signal[:, 3:], trials[:, 3:]).value
    )
    assert np.isnan(ceiled_correlation(signal, trials[:, :, :1]).value)
    assert np.isnan(ceiled_correlation(signal, trials, np.zeros(100)).value)
    assert np.isnan(ceiled_correlation(signal[:0], trials[:0]).value)
    with pytest.raises(ValueError, match="groups must label the 100 stimuli; got 3"):
        ceiled_correlation(signal, trials, [1, 2, 3])
    with pytest.raises(ValueError, match=r"predicted and observed must be \(stimuli, 8\)"):
        ratio_to_ceiling(signal[:, :3], signal[:, :3], area_ceiling(trials))
    with pytest.raises(ValueError, match="level"):
        area_ceiling(trials, level=1.0)
