"""Objectives and Fourier-space ascent, against closed forms and optima that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.guidance.fourier import FourierSettings, ascend, colour, moved, picture_of, spectrum, start_of
from models.guidance.objective import AreaMean, Objective, gradient_of, unit_norm
from models.guidance.pictures import capped, in_batches, presented, resized

torch.set_num_threads(1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(n: int = 3, high: int = 12, wide: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, high, wide, generator=torch.Generator().manual_seed(seed))


WEIGHTS = noise(5, 3 * 12 * 16, seed=1)


def responses(shown: torch.Tensor) -> torch.Tensor:
    """Five units, each a linear filter of the picture."""
    return shown.flatten(1) @ WEIGHTS.T


def some(shown: torch.Tensor) -> torch.Tensor:
    """The same, with units 1 and 3 not predicted."""
    found = responses(shown)
    missing = torch.full_like(found[:, :1], torch.nan)
    return torch.cat([found[:, :1], missing, found[:, 2:3], missing, found[:, 4:]], dim=1)


# -- objectives -------------------------------------------------------------------------------------


def test_units_without_a_prediction_count_in_neither_sum() -> None:
    shown = pictures()
    found = AreaMean(some)(shown)
    expected = responses(shown)[:, [0, 2, 4]].mean(dim=1)
    torch.testing.assert_close(found, expected)
    diluted = torch.nan_to_num(some(shown)).mean(dim=1)  # the others counted as 0
    torch.testing.assert_close(diluted, 0.6 * expected)


def test_the_gradient_passes_by_units_without_a_prediction() -> None:
    shown = pictures().requires_grad_(True)
    gradient = gradient_of(AreaMean(some)(shown), shown)
    expected = WEIGHTS[[0, 2, 4]].mean(dim=0).reshape(3, 12, 16).expand(3, -1, -1, -1)
    torch.testing.assert_close(gradient, expected)


def test_weights_and_units_of_natural_activity() -> None:
    weights, shown = torch.tensor([1.0, 5.0, 2.0, 5.0, 0.0]), pictures()
    held = responses(shown)
    expected = ((held[:, 0] + 2 * held[:, 2]) / 3 - 0.5) / 4
    torch.testing.assert_close(AreaMean(some, weights, centre=0.5, scale=4.0)(shown), expected)


def test_a_contrast_is_a_weighted_difference() -> None:
    shown = pictures().requires_grad_(True)
    first, second = AreaMean(responses), AreaMean(lambda x: responses(x) ** 2, scale=2.0)
    value = Objective(first, second, 0.3)(shown)
    torch.testing.assert_close(value, responses(shown).mean(dim=1) - 0.15 * (responses(shown) ** 2).mean(dim=1))
    assert torch.equal(Objective(first)(shown), first(shown))


def test_what_cannot_be_an_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="no unit of 5 has a weight and a finite prediction"):
        AreaMean(lambda x: responses(x) * torch.nan)(pictures())
    with pytest.raises(ValueError, match="no unit of 5"):
        AreaMean(some, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))(pictures())
    with pytest.raises(ValueError, match="weights of units must be numbers from 0 up; the lowest is -1"):
        AreaMean(responses, torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"scale above 0, not 0.0 and 0.0"):
        AreaMean(responses, scale=0.0)


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    shown = pictures().requires_grad_(True)
    broken = WEIGHTS.clone()
    broken[1] = torch.nan  # 0 times NaN is NaN on the way back
    with pytest.raises(FloatingPointError, match="the gradient of 3 of 3 pictures is not finite"):
        gradient_of(AreaMean(lambda x: x.flatten(1) @ broken.T)(shown), shown)
    with pytest.raises(FloatingPointError, match="the gradient of 1 of 1 pictures is not finite"):
        ascend(Objective(AreaMean(lambda x: x.flatten(1) @ broken.T)), [0], (12, 16), FourierSettings(steps=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_normalised_gradients_have_norm_one_and_their_direction(n: int, scale: float, seed: int) -> None:
    gradient = scale * noise(n, 3, 4, 5, seed=seed)
    found = unit_norm(gradient)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(n))
    torch.testing.assert_close((found * gradient).flatten(1).sum(dim=1), gradient.flatten(1).norm(dim=1))


def test_no_gradient_stays_none() -> None:
    gradient = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    assert not unit_norm(gradient)[0].any()
    assert unit_norm(gradient)[1].norm() == pytest.approx(1.0)


# -- pictures ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.4), st.integers(0, 99))
def test_contrast_is_capped_around_the_mean_colour(cap: float, seed: int) -> None:
    shown = pictures(seed=seed).double()
    found = capped(shown, cap)
    before, after = (each.numpy().reshape(3, 3, -1).var(axis=2).mean(axis=1) ** 0.5 for each in (shown, found))
    np.testing.assert_allclose(after, np.minimum(before, cap), rtol=1e-9)
    torch.testing.assert_close(found.mean(dim=(2, 3)), shown.mean(dim=(2, 3)))
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found[before < cap], shown[before < cap])


def test_the_cap_can_be_differentiated_also_where_there_is_no_contrast() -> None:
    shown = torch.cat([pictures(1), torch.full((1, 3, 12, 16), 0.5)]).double().requires_grad_(True)
    weights = noise(3, 12, 16).double()
    assert torch.autograd.gradcheck(lambda x: (capped(x, 16 / 255) * weights).sum((1, 2, 3)), shown, nondet_tol=1e-9)
    assert capped(shown, None) is shown


def test_pictures_without_colour() -> None:
    found = ascend(Objective(AreaMean(responses)), [0], (12, 16), FourierSettings(steps=3, grey=True)).pictures
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])
    shown = pictures()
    torch.testing.assert_close(presented(shown, None, True)[:, 1], shown.mean(dim=1))
    assert presented(shown, None, False) is shown


def test_another_size() -> None:
    shown = pictures()
    assert resized(shown, (12, 16)) is shown
    torch.testing.assert_close(resized(shown, (6, 8)), torch.nn.functional.avg_pool2d(shown, 2))
    found = in_batches(lambda part: part.mean(dim=(1, 2, 3)), shown.requires_grad_(True), 2)
    torch.testing.assert_close(found, shown.detach().mean(dim=(1, 2, 3)))
    assert not found.requires_grad


# -- Fourier-space ascent ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (12, 17), (15, 8)])
def test_the_spectrum_falls_as_one_over_f_and_starts_have_unit_variance(shape: tuple[int, int]) -> None:
    amplitude = spectrum(shape).double().numpy()
    f = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    high = f >= 1 / max(shape)
    products = (amplitude * f)[high]
    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    assert amplitude[0, 0] == pytest.approx(amplitude.max())
    draws = torch.stack([start_of(torch.Generator().manual_seed(seed), shape) for seed in range(400)])
    values = torch.fft.irfft2(torch.view_as_complex(draws) * spectrum(shape), s=shape, norm="ortho")
    assert float(values.square().mean()) == pytest.approx(1.0, abs=0.08)


def test_colour_axes_are_the_square_root_of_a_covariance_with_luminance_first() -> None:
    matrix = colour().double().numpy()
    assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1.0)
    covariance = matrix @ matrix.T
    axis = np.linalg.eigh(covariance)[1][:, -1]
    assert abs(axis @ np.ones(3)) / 3**0.5 > 0.99  # red, green and blue go together in natural pictures


@pytest.mark.parametrize("decorrelated", [True, False])
def test_it_finds_the_best_picture_of_a_linear_unit(decorrelated: bool) -> None:
    """The mean of p . w over [0, 1] is highest at p = (w > 0), and its value there is the sum of positive weights."""
    weights = noise(3, 12, 16)
    objective = Objective(AreaMean(lambda x: (x * weights).sum(dim=(1, 2, 3))[:, None]))
    state = torch.random.get_rng_state()
    tried = FourierSettings(steps=200, learning_rate=0.5, decorrelated=decorrelated)
    found = ascend(objective, [0, 1], (12, 16), tried)
    assert torch.equal(torch.random.get_rng_state(), state)
    best = float(weights.clamp(min=0).sum())
    assert found.pictures.shape == (2, 3, 12, 16)
    assert ((found.pictures >= 0) & (found.pictures <= 1)).all()
    assert found.trace.shape == (201, 2)
    assert (found.trace[-1] > 0.85 * best).all()
    assert (found.trace[-1] <= best).all()
    torch.testing.assert_close(found.trace[-1], objective(found.pictures))


def test_without_steps_the_starts_are_given() -> None:
    held = FourierSettings(steps=0)
    found = ascend(Objective(AreaMean(responses)), [3, 4], (12, 16), held)
    starts = torch.stack([start_of(torch.Generator().manual_seed(seed), (12, 16)) for seed in (3, 4)])
    assert torch.equal(found.pictures, picture_of(starts, (12, 16), held))
    assert found.trace.shape == (1, 2)


def test_a_picture_depends_on_its_own_seed_alone() -> None:
    objective = Objective(AreaMean(lambda x: torch.tanh(responses(x))))
    held = FourierSettings(steps=5, jitter=3)
    both = ascend(objective, [7, 9], (12, 16), held)
    again, alone = ascend(objective, [7, 9], (12, 16), held), ascend(objective, [9], (12, 16), held)
    assert torch.equal(both.pictures, again.pictures)
    torch.testing.assert_close(both.pictures[1:], alone.pictures, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both.pictures[0], both.pictures[1])


def test_the_cap_holds_while_the_objective_rises() -> None:
    objective = Objective(AreaMean(lambda x: x.var(dim=(2, 3), correction=0).mean(dim=1, keepdim=True)))
    free = ascend(objective, [0], (12, 16), FourierSettings(steps=30, learning_rate=0.3))
    held = ascend(objective, [0], (12, 16), FourierSettings(steps=30, learning_rate=0.3, contrast_cap=16 / 255))
    assert float(free.trace[-1]) > 0.1  # contrast drives this unit
    assert float(held.trace[-1]) == pytest.approx((16 / 255) ** 2, rel=1e-4)


def test_jitter_moves_a_picture_around_its_edges() -> None:
    shown = pictures(2)
    random = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    assert moved(shown, 0, random) is shown
    rolled = moved(shown, 2, random)
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    for before, after in zip(shown, rolled, strict=True):
        assert sum(torch.equal(torch.roll(before, shift, (1, 2)), after) for shift in shifts) == 1
