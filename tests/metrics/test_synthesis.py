"""Scores of synthesised pictures, against SciPy and pictures of known spectrum and contrast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

import metrics


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def falling(exponent: float, high: int, wide: int, seed: int = 0) -> np.ndarray:
    """A picture (1, 1, h, w) whose power falls exactly as f ** exponent, with random phases."""
    f = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide)[None])
    phases = np.fft.fft2(random(high, wide, seed=seed))
    amplitude = np.where(f > 0, np.where(f > 0, f, 1.0) ** (exponent / 2), 0.0)
    return np.fft.ifft2(amplitude * phases / np.abs(phases)).real[None, None]


def test_activity_is_a_z_score_of_the_mean_over_predicted_units() -> None:
    predicted, natural = random(5, 4), random(50, 4, seed=1) * 3 + 2
    held = natural[:, [0, 1, 3]].mean(axis=1)
    expected = (predicted[:, [0, 1, 3]].mean(axis=1) - held.mean()) / held.std()
    missing = natural.copy()
    missing[7, 2] = np.nan
    np.testing.assert_allclose(metrics.area_activity(predicted, missing), expected)
    absent = predicted.copy()
    absent[0, 2] = np.inf
    np.testing.assert_allclose(metrics.area_activity(absent, natural), expected)
    assert metrics.area_activity(natural, natural).mean() == pytest.approx(0, abs=1e-12)
    assert metrics.area_activity(natural, natural).std() == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 99))
def test_activity_has_no_unit_of_measure(scale: float, shift: float, seed: int) -> None:
    predicted, natural = random(4, 3, seed=seed), random(20, 3, seed=seed + 100)
    found = metrics.area_activity(predicted * scale + shift, natural * scale + shift)
    np.testing.assert_allclose(found, metrics.area_activity(predicted, natural), rtol=1e-6, atol=1e-6)


def test_activity_without_a_baseline_is_not_a_number() -> None:
    assert np.isnan(metrics.area_activity(random(3, 2), np.full((9, 2), 5.0))).all()
    assert np.isnan(metrics.area_activity(random(3, 2), random(1, 2))).all()
    assert np.isnan(metrics.area_activity(np.full((3, 2), np.nan), random(9, 2))).all()
    with pytest.raises(ValueError, match="must have the same units; got 2 and 3"):
        metrics.area_activity(random(3, 2), random(9, 3))


def test_gains() -> None:
    natural = np.array([0.0, 5.0, 1.0, 4.0, np.nan])
    assert metrics.gain_over_best([6.0, 5.0], natural) == pytest.approx(1.0)
    assert metrics.gain_over_best([6.0, np.nan], natural) == pytest.approx(1.0)  # one picture against the best one
    assert metrics.gain_over_best(natural[:4], natural) == pytest.approx(0.0)  # itself
    assert np.isnan(metrics.gain_over_best(np.ones(5), natural))
    assert np.isnan(metrics.gain_over_best([], natural))
    assert metrics.gain_over_unguided([1.0, np.nan, 3.0], [0.0, 9.0, 0.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match=r"one shape; got \(2,\) and \(3,\)"):
        metrics.gain_over_unguided([1.0, 2.0], [1.0, 2.0, 3.0])
    guided, unguided = random(3, 6) + 2, random(3, 6, seed=1)
    assert metrics.transfer_gain(guided, unguided) == pytest.approx((guided - unguided).mean())
    guided[1] = np.nan
    assert metrics.transfer_gain(guided, unguided) == pytest.approx((guided - unguided)[[0, 2]].mean())
    with pytest.raises(ValueError, match=r"a vector; got shape \(3, 6\)"):
        metrics.gain_over_best(guided, natural)


def test_off_target() -> None:
    target = np.array([2.0, 4.0])
    assert metrics.off_target_ratio(target, np.stack([target, target])) == pytest.approx(1.0)
    assert metrics.off_target_ratio(target, np.stack([-target])) == pytest.approx(-1.0)
    assert np.isnan(metrics.off_target_ratio(target, np.empty((0, 2))))
    assert np.isnan(metrics.off_target_ratio(-target, np.stack([target])))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(1, 6), st.integers(0, 99))
def test_diversity_is_the_mean_pairwise_distance(n: int, features: int, seed: int) -> None:
    rows = random(n, features, seed=seed)
    assert metrics.diversity(rows) == pytest.approx(pdist(rows).mean())


def test_equal_pictures_have_no_diversity() -> None:
    assert metrics.diversity(np.ones((4, 3))) == 0.0
    assert np.isnan(metrics.diversity(np.ones((1, 3))))
    with pytest.raises(ValueError, match="features holds 1 NaN"):
        metrics.diversity([[1.0], [np.nan]])


def test_contrast_of_a_grating() -> None:
    """A sine of amplitude a has an RMS contrast of a / sqrt(2), whatever the mean of its channels."""
    grating = 0.2 * np.sin(2 * np.pi * np.arange(32) * 3 / 32)
    shown = np.broadcast_to(grating, (1, 3, 16, 32)) + np.array([0.3, 0.5, 0.7])[:, None, None]
    assert metrics.rms_contrast(shown)[0] == pytest.approx(0.2 / 2**0.5)
    with pytest.raises(ValueError, match=r"must be \(pictures, channels, height, width\); got shape \(3, 4\)"):
        metrics.rms_contrast(np.ones((3, 4)))


@settings(max_examples=25, deadline=None)
@given(st.floats(-4, 0), st.sampled_from([(64, 64), (48, 64), (33, 32)]), st.integers(0, 99))
def test_the_slope_of_a_planted_spectrum_comes_back(exponent: float, shape: tuple[int, int], seed: int) -> None:
    found = metrics.image_spectrum_slope(falling(exponent, *shape, seed=seed))
    assert found[0] == pytest.approx(exponent, abs=0.06)  # rings of finite width: -4 on 32 pixels is -4.05


def test_the_slope_depends_on_neither_contrast_nor_mean() -> None:
    shown = falling(-2.0, 32, 32)
    np.testing.assert_allclose(metrics.image_spectrum_slope(3 * shown + 5), metrics.image_spectrum_slope(shown))
    both = np.concatenate([shown, np.full_like(shown, 0.5)])
    assert np.isnan(metrics.image_spectrum_slope(both)).tolist() == [False, True]
    assert np.isnan(metrics.image_spectrum_slope(shown[:, :, :7])).all()
