"""Receptive fields of planted units: known place and size, by noise and by gradients, in numpy and torch."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from metrics import fit_receptive_field, receptive_field_area, receptive_fields
from metrics.invariance.receptive_field import HALF_WIDTH, MAX_SIGMA

SHAPE = (24, 32)
ROW, COLUMN = np.indices(SHAPE)


def _blob(row: float, column: float, tall: float, wide: float, angle: float = 0.0) -> np.ndarray:
    """An elliptic Gaussian of peak 1; the wide axis is turned from the row direction by the angle."""
    x, y = COLUMN - column, ROW - row
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.exp(-((along / wide) ** 2 + (across / tall) ** 2) / 2)


def _gabor(row: float, column: float, sigma: float) -> np.ndarray:
    return _blob(row, column, sigma, sigma) * np.cos(2 * np.pi * (COLUMN - column) / (2.5 * sigma))


PLACES = [(8, 10), (14, 20), (12, 16)]
SIZES = [1.5, 2.5, 4.0]
FILTERS = np.stack([_gabor(*place, sigma) for place, sigma in zip(PLACES, SIZES, strict=True)])
FILTERS /= np.sqrt((FILTERS**2).sum(axis=(1, 2), keepdims=True))
WEIGHTS = FILTERS.reshape(3, -1).T


def _rates(frames: np.ndarray) -> np.ndarray:
    """Three softplus units with planted Gabors on a high resting rate, and a constant one."""
    drive = frames.reshape(len(frames), -1) @ WEIGHTS
    return np.column_stack([np.logaddexp(0, 2 * drive) + 20, np.full(len(frames), 0.1)])


def _torch_rates(frames: torch.Tensor) -> torch.Tensor:
    drive = frames.flatten(1) @ torch.tensor(WEIGHTS, dtype=frames.dtype)
    rates = torch.nn.functional.softplus(2 * drive) + 20
    return torch.cat([rates, torch.full_like(rates[:, :1], 0.1)], dim=1)


class Twin(torch.nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return _torch_rates(frames)


METHODS: list[tuple[Callable, str, int]] = [(_rates, "noise", 40_000), (_torch_rates, "gradient", 400)]


# maps


def test_maps_are_the_covariance_of_rate_and_pixel() -> None:
    seen: list[np.ndarray] = []

    def predict(frames: np.ndarray) -> np.ndarray:
        seen.append(frames)
        return _rates(frames)

    maps = receptive_fields(predict, SHAPE, frames=500, batch=60)
    frames = np.concatenate(seen)
    assert [len(part) for part in seen] == [60] * 8 + [20]
    assert np.abs(frames).max() <= HALF_WIDTH
    assert frames.mean() == pytest.approx(0, abs=0.01)
    assert frames.var() == pytest.approx(1, abs=0.01)
    together = np.cov(_rates(frames)[:, :3].T, frames.reshape(500, -1).T)[:3, 3:]
    np.testing.assert_allclose(maps[:3].reshape(3, -1), together, atol=1e-12)


def test_maps_do_not_depend_on_the_batch_and_do_on_the_seed() -> None:
    one, other = (receptive_fields(_rates, SHAPE, frames=300, batch=batch) for batch in (300, 7))
    np.testing.assert_allclose(one, other, atol=1e-12)
    assert np.abs(receptive_fields(_rates, SHAPE, frames=300, seed=1) - one).max() > 0.01
    np.testing.assert_array_equal(one[3], 0.0)  # the constant unit, exactly


def test_the_resting_rate_adds_no_noise() -> None:
    def high(frames: np.ndarray) -> np.ndarray:
        return _rates(frames) + 1e4

    quiet, loud = (receptive_fields(rates, SHAPE, frames=400) for rates in (_rates, high))
    np.testing.assert_allclose(loud, quiet, atol=1e-8)


def test_gradients_give_the_map_of_noise_without_its_noise() -> None:
    black, smooth = (receptive_fields(rates, SHAPE, frames, method=method) for rates, method, frames in METHODS)
    smooth = smooth.numpy()
    for unit in range(3):
        scale = (black[unit] * smooth[unit]).sum() / (smooth[unit] ** 2).sum()
        assert scale == pytest.approx(1, abs=0.05)
        blind = _blob(*PLACES[unit], SIZES[unit], SIZES[unit]) < 1e-6
        assert np.abs(smooth[unit][blind]).max(initial=0.0) < 1e-5
        assert unit == 2 or np.abs(black[unit][blind]).max() > 1e-3
        assert np.corrcoef(black[unit].ravel(), smooth[unit].ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(smooth[3], 0.0)


def test_gradients_are_exact_for_a_cubic_unit() -> None:
    def cubic(frames: torch.Tensor) -> torch.Tensor:  # E[x x^3] = 9/5 for this noise, E[d x^3 / dx] = 3
        return torch.stack([frames[:, 0, 0] ** 3, frames[:, 0, 1]], dim=1)

    found = receptive_fields(cubic, (1, 2), frames=60_000, method="gradient", batch=20_000).numpy()
    np.testing.assert_allclose(found.reshape(2, 2), [[9 / 5, 0], [0, 1]], atol=0.03)
    by_noise = receptive_fields(lambda x: np.stack([x[:, 0, 0] ** 3, x[:, 0, 1]], 1), (1, 2), 60_000, 20_000)
    np.testing.assert_allclose(by_noise.reshape(2, 2), [[9 / 5, 0], [0, 1]], atol=0.04)


def test_a_torch_module_is_a_black_box_too() -> None:
    maps = receptive_fields(Twin(), SHAPE, frames=200)
    assert isinstance(maps, torch.Tensor)
    assert not maps.requires_grad
    np.testing.assert_allclose(maps.numpy(), receptive_fields(_rates, SHAPE, frames=200), atol=1e-4)


def test_an_even_unit_is_invisible() -> None:
    def energy(frames: np.ndarray) -> np.ndarray:
        return (frames.reshape(len(frames), -1) @ WEIGHTS) ** 2

    even = receptive_fields(energy, SHAPE, frames=20_000)
    odd = receptive_fields(_rates, SHAPE, frames=20_000)
    assert np.abs(even).max() < 0.2 * np.abs(odd).max()
    assert np.isnan(receptive_field_area(energy, SHAPE, frames=2000)).all()


# fits


@settings(max_examples=25, deadline=None)
@given(
    st.floats(8, 15), st.floats(10, 21), st.floats(2, 3.5), st.floats(2, 4.5), st.floats(-0.7, 0.7), st.floats(0.1, 1e6)
)
def test_a_noise_free_gaussian_is_found_exactly(
    row: float, column: float, tall: float, wide: float, angle: float, scale: float
) -> None:
    field = -scale * _blob(row, column, tall, wide, angle)
    found = fit_receptive_field(field, smoothing=0, pixel_area=2.0, max_sigma=(1, 1), subtract_mean=False)
    assert found.reason == ""
    assert found.area == pytest.approx(2 * np.pi * tall * wide, rel=1e-4)
    assert found.centre == pytest.approx((row, column), abs=1e-3)
    assert found.sigmas == pytest.approx((tall, wide), rel=1e-3)
    assert found.explained == pytest.approx(1.0)
    if abs(tall - wide) > 0.5:
        assert found.angle == pytest.approx(angle, abs=0.01)


def test_smoothing_adds_its_variance() -> None:
    found = fit_receptive_field(_blob(12, 16, 2.0, 3.0), smoothing=1.5, subtract_mean=False)
    assert found.sigmas == pytest.approx((np.hypot(2, 1.5), np.hypot(3, 1.5)), rel=0.01)


def test_the_stated_cost_of_subtracting_the_mean() -> None:
    row, column = np.indices((36, 64))
    shares = []
    for sigma in (3, 6, 9):
        blob = np.exp(-((row - 17.5) ** 2 + (column - 31.5) ** 2) / 2 / sigma**2)
        with_mean, without = (
            fit_receptive_field(blob, smoothing=0, subtract_mean=flag, max_sigma=(1, 1)) for flag in (True, False)
        )
        assert without.area == pytest.approx(np.pi * sigma**2, rel=1e-4)
        shares.append(with_mean.area / without.area - 1)
    assert shares == pytest.approx([-0.08, -0.20, -0.27], abs=0.02)


def test_channels_join_by_their_norm() -> None:
    blob = _blob(12, 16, 3, 3)
    opponent = np.stack([blob, -blob])
    one, two = fit_receptive_field(blob), fit_receptive_field(opponent)
    assert two.area == pytest.approx(one.area, rel=1e-4)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (np.zeros(SHAPE), "flat"),
        (np.full(SHAPE, 7.0), "flat"),
        (np.random.default_rng(0).normal(size=SHAPE), "explains|converge"),
        (_blob(12, 16, 9.0, 11.0), "larger than max_sigma"),
        (_blob(12, -4, 3.0, 6.0), "outside the frame"),
    ],
)
def test_what_is_no_field_is_nan_with_its_reason(field: np.ndarray, reason: str) -> None:
    found = fit_receptive_field(field, subtract_mean=False)
    assert np.isnan(found.area)
    assert re.search(reason, found.reason)


def test_a_flat_map_stays_flat_less_its_mean() -> None:
    assert fit_receptive_field(np.full(SHAPE, 0.1)).reason == "the map is flat"


def test_pure_noise_is_not_taken_for_a_field() -> None:
    rng = np.random.default_rng(1)
    fits = [fit_receptive_field(rng.normal(size=SHAPE)) for _ in range(12)]
    assert all(np.isnan(fit.area) and fit.explained < 0.1 for fit in fits)


def test_the_papers_limits_are_shares_of_its_frame() -> None:
    assert (MAX_SIGMA[0] * 36, MAX_SIGMA[1] * 64) == pytest.approx((14, 16))
    blob = _blob(12, 16, 3, 4)
    assert fit_receptive_field(blob, 0, max_sigma=(3.1 / 24, 4.1 / 32), subtract_mean=False).reason == ""
    assert "max_sigma" in fit_receptive_field(blob, 0, max_sigma=(2.9 / 24, 4.1 / 32), subtract_mean=False).reason
    assert "max_sigma" in fit_receptive_field(blob, 0, max_sigma=(3.1 / 24, 3.9 / 32), subtract_mean=False).reason


@pytest.mark.parametrize("field", [np.ones(5), np.full(SHAPE, np.nan), np.ones((2, 2)), np.ones((3, 2, 2))])
def test_what_cannot_be_fitted_is_refused(field: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least 6 pixels"):
        fit_receptive_field(field)


# areas


@pytest.mark.parametrize(("rates", "method", "frames"), METHODS)
def test_planted_sizes_are_found_in_order(rates: Callable, method: str, frames: int) -> None:
    areas = np.asarray(receptive_field_area(rates, SHAPE, frames, method=method))
    expected = np.pi * (np.array(SIZES) ** 2 + 1)  # with the smoothing of 1 px
    assert areas[:3] == pytest.approx(expected, rel=0.15)
    assert areas[0] < areas[1] < areas[2]
    assert np.isnan(areas[3])


def test_areas_are_those_of_the_smoothed_maps_in_the_unit_asked_for() -> None:
    maps = receptive_fields(_torch_rates, SHAPE, 200, method="gradient")
    smoothed = [gaussian_filter(part.numpy(), 2.0) for part in maps[:3]]
    expected = [3.36**2 * fit_receptive_field(part, smoothing=0).area for part in smoothed]
    areas = receptive_field_area(_torch_rates, SHAPE, 200, method="gradient", smoothing=2.0, pixel_area=3.36**2)
    assert isinstance(areas, torch.Tensor)
    assert areas[:3].tolist() == pytest.approx(expected)


def test_unreliable_units_are_left_out() -> None:
    reliable = np.array([True, False, True, True])
    areas = receptive_field_area(_torch_rates, SHAPE, 200, method="gradient", reliable=reliable).numpy()
    assert np.isnan(areas).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="got 2 for 4 units"):
        receptive_field_area(_rates, SHAPE, 50, reliable=[True, False])


def test_colour_frames_have_their_channels_first() -> None:
    def red(frames: np.ndarray) -> np.ndarray:
        assert frames.shape[1:] == (3, *SHAPE)
        return _rates(frames[:, 0])

    maps = receptive_fields(red, (3, *SHAPE), frames=4000)
    assert maps.shape == (4, 3, *SHAPE)
    strength = (maps[2] ** 2).sum(axis=(1, 2))
    assert strength[0] > 1.5 * strength[1:].max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (8,)}, "height, width"),
        ({"shape": (8, 0)}, "height, width"),
        ({"method": "guess"}, "method must be one of"),
        ({"frames": 1}, "at least 2 frames"),
        ({"batch": 0}, "batches of at least 1"),
        ({"predict": lambda frames: np.full((len(frames), 2), np.nan)}, "NaN or infinite"),
        ({"predict": lambda frames: np.ones((3, 2))}, "for 10 frames"),
        ({"predict": lambda frames: np.ones(len(frames))}, "two axes"),
        ({"method": "gradient"}, "torch can differentiate"),
        ({"method": "gradient", "predict": lambda frames: torch.ones(len(frames), 2)}, "torch can differentiate"),
    ],
)
def test_bad_requests_are_refused(change: dict, message: str) -> None:
    arguments = {"predict": lambda frames: np.ones((len(frames), 2)), "shape": (4, 4), "frames": 10}
    with pytest.raises(ValueError, match=message):
        receptive_fields(**{**arguments, **change})
