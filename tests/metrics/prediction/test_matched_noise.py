"""Noise of averages drawn again: its variance, its correlations and what it depends on, against planted noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.prediction.matched_noise import MatchedNoise, Residuals, shared_share
from metrics.prediction.noise_law import NoiseLaw


def drawn(repeats: np.ndarray, draws: int = 200, **others: np.ndarray) -> np.ndarray:
    """Many draws (draws, stimuli, units)."""
    return MatchedNoise.of(repeats, **others).draw(*(np.random.default_rng(number) for number in range(draws)))


def test_variance_and_correlations_are_those_of_the_average() -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((5, 2))
    repeats = random.standard_normal((400, 5, 1)) + np.einsum(
        "uk,ikr->iur", mixing, random.standard_normal((400, 2, 4))
    )
    noise = drawn(repeats, 50)
    truth = mixing @ mixing.T / 4
    np.testing.assert_allclose(
        np.einsum("diu,div->uv", noise, noise) / noise[..., 0].size, truth, atol=0.08 * truth.max()
    )


def test_every_stimulus_has_its_own_noise() -> None:
    random = np.random.default_rng(1)
    sizes = np.repeat([0.1, 1.0, 5.0], 60)
    noise = drawn(sizes[:, None, None] * random.standard_normal((180, 3, 6)))
    found = np.sqrt((noise**2).mean(axis=(0, 2))).reshape(3, 60).mean(axis=1)
    np.testing.assert_allclose(found, np.array([0.1, 1.0, 5.0]) / np.sqrt(6), rtol=0.12)


def test_one_repeat_has_all_the_noise_of_a_trial_as_its_rate_says() -> None:
    """Poisson counts; a fifth of the stimuli was repeated."""
    random = np.random.default_rng(2)
    rate = random.choice([2.0, 20.0], (500, 4))
    repeats = random.poisson(rate[:, :, None], (500, 4, 8)).astype(float)
    repeats[100:, :, 1:] = np.nan
    noise = drawn(repeats, 100)[:, 100:]
    low, high = ((noise**2).mean(axis=0)[rate[100:] == value].mean() for value in (2.0, 20.0))
    assert (low + high) / 2 == pytest.approx(11, rel=0.1)
    assert low < 0.3 * high  # a trial tells its rate with noise: not quite a tenth


def test_a_unit_without_repeats_is_not_known_and_units_of_other_sessions_keep_their_size() -> None:
    random = np.random.default_rng(3)
    repeats = random.standard_normal((300, 6, 4))
    repeats[:150, :3], repeats[150:, 3:5], repeats[:, 5, 1:] = np.nan, np.nan, np.nan
    noise = drawn(repeats, 40)
    assert np.isnan(noise[:, :, 5]).all()
    assert (noise[:, 150:, :3] ** 2).mean() == pytest.approx(1 / 4, rel=0.1)
    assert (noise[:, :150, 3:5] ** 2).mean() == pytest.approx(1 / 4, rel=0.1)


def test_a_drift_of_whole_repeats_is_no_noise() -> None:
    random = np.random.default_rng(4)
    repeats = random.standard_normal((200, 3, 4))
    moved = Residuals.of(repeats + 100 * random.standard_normal((1, 3, 4)))
    assert np.abs(moved.values.mean(axis=0)).max() < 0.01
    assert moved.variance.mean() == pytest.approx(1, rel=0.1)


def test_frames_of_a_clip_share_their_weights() -> None:
    random = np.random.default_rng(5)
    repeats = np.repeat(random.standard_normal((40, 2, 4)), 5, axis=0)  # noise that lasts over a clip of 5 frames
    noise = drawn(repeats, 5, blocks=np.repeat(np.arange(40), 5)).reshape(5, 40, 5, 2)
    np.testing.assert_allclose(noise, noise[:, :, :1].repeat(5, axis=2), atol=1e-9)


def test_chance_correlations_of_few_residuals_are_taken_out() -> None:
    random = np.random.default_rng(6)
    alone = random.standard_normal((30, 40, 2))
    factor = 3 * random.standard_normal((30, 1, 2))
    assert shared_share(Residuals.of(alone)) < 0.5 < 0.9 < shared_share(Residuals.of(alone + factor))


@settings(max_examples=30, deadline=None)
@given(
    stimuli=st.integers(2, 12),
    units=st.integers(1, 4),
    repeats=st.integers(1, 4),
    seed=st.integers(0, 99),
    missing=st.floats(0, 0.6),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 50.0]),
)
def test_any_pattern_of_repeats(
    stimuli: int, units: int, repeats: int, seed: int, missing: float, scale: float, offset: float
) -> None:
    """Finite wherever a unit was repeated; moves with nothing but the scale of the responses."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((stimuli, units, repeats))
    values[random.random(values.shape) < missing] = np.nan
    noise, other = drawn(values, 2), drawn(scale * (values + offset), 2)
    known = (np.isfinite(values).sum(axis=2) > 1).any(axis=0)
    assert np.isfinite(noise[:, :, known]).all()
    assert np.isnan(noise[:, :, ~known]).all()
    np.testing.assert_allclose(other / scale, noise, rtol=1e-4, atol=1e-6)


def test_noise_that_does_not_grow_has_no_slope() -> None:
    random = np.random.default_rng(7)
    flat = Residuals.of(random.standard_normal((300, 20, 6)) + 3 * random.standard_normal((300, 20, 1)))
    law = NoiseLaw.of(flat.mean, flat.variance, flat.count)
    assert np.abs(law.slope_once).mean() < 0.02
