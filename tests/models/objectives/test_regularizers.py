"""Penalties against loops, closed forms, and what they promise about scale and number."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.objectives.regularizers import (
    LAPLACIAN,
    channel_lasso,
    curvature,
    group_lasso,
    l1,
    laplacian_smoothness,
    position_pull,
    roughness,
)

torch.set_num_threads(1)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def twice(weights):
    return torch.cat([weights, weights])


OF_UNITS = {
    "l1": l1,
    "group_lasso": group_lasso,
    "two groups": lambda weights: group_lasso(weights, [2, 4]),
    "channel_lasso": channel_lasso,
    "roughness": lambda weights: roughness(weights.reshape(-1, 2, 3)),
    "curvature": curvature,
    "position_pull": lambda weights: position_pull(weights[:, :2], torch.zeros(2).double()),
}
DEGREES = dict.fromkeys(OF_UNITS, 1) | {"roughness": 2, "curvature": 2, "position_pull": 2}


@pytest.mark.parametrize("name", OF_UNITS)
@settings(max_examples=15, deadline=None)
@given(units=st.integers(1, 7), seed=st.integers(0, 99), factor=st.floats(0.1, 10))
def test_scale_and_number_of_units(name, units, seed, factor):
    """The same for the units twice over; homogeneous of its degree; never negative, zero at zero."""
    penalty, weights = OF_UNITS[name], drawn(units, 6, seed=seed)
    once = float(penalty(weights))
    assert once > 0
    assert float(penalty(twice(weights))) == pytest.approx(once, rel=1e-9)
    assert float(penalty(factor * weights)) == pytest.approx(factor ** DEGREES[name] * once, rel=1e-6)
    assert float(penalty(torch.zeros_like(weights))) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", OF_UNITS)
def test_gradients_are_finite_at_zero_and_right_elsewhere(name):
    zero = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    OF_UNITS[name](zero).backward()
    assert zero.grad.isfinite().all()
    assert torch.autograd.gradcheck(OF_UNITS[name], drawn(3, 6).requires_grad_())


def test_l1_by_hand():
    assert float(l1(torch.tensor([[1.0, -2.0], [0.0, 1.0]]))) == 2.0


def test_group_lasso_by_loops():
    weights, sizes = drawn(5, 9), [4, 1, 4]
    total = 0.0
    for row in weights.numpy():
        for part in np.split(row, np.cumsum(sizes)[:-1]):
            total += np.sqrt(len(part)) * np.linalg.norm(part)
    assert float(group_lasso(weights, sizes)) == pytest.approx(total / 5, rel=1e-6)
    columns = sum(np.sqrt(np.mean(column**2)) for column in weights.numpy().T)
    assert float(channel_lasso(weights)) == pytest.approx(columns, rel=1e-6)
    with pytest.raises(ValueError, match=r"groups of \[4, 4\] channels do not add up to the 9 channels"):
        group_lasso(weights, [4, 4])


def test_group_lasso_switches_groups_off_as_a_whole():
    """Least squares on two groups of which one is idle, by proximal steps of autograd's gradient: it ends at zero."""
    features = drawn(200, 6, seed=1)
    target = features[:, :3] @ torch.tensor([1.0, -1.0, 0.5]).double() + 0.3 * drawn(200, seed=2)
    weights = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        ((features @ weights[0] - target).square().mean() + 0.2 * group_lasso(weights, [3, 3])).backward()
        optimizer.step()
    kept, idle = weights.detach()[0].split(3)
    assert idle.norm() < 0.01
    assert kept.abs().min() > 0.1


def test_roughness_against_scipy():
    masks = drawn(4, 6, 5)
    expected = [
        (scipy.ndimage.convolve(each, np.array(LAPLACIAN), mode="constant") ** 2).sum() for each in masks.numpy()
    ]
    assert float(roughness(masks)) == pytest.approx(np.mean(expected))


def test_curvature_against_numpy():
    courses = drawn(4, 2, 9)
    padded = np.pad(courses.numpy(), [(0, 0), (0, 0), (1, 1)])
    assert float(curvature(courses)) == pytest.approx((np.diff(padded, n=2) ** 2).sum(axis=(1, 2)).mean())
    line = torch.zeros(1, 9).double()
    line[0, 4] = 1.0
    assert float(curvature(line)) == 6.0  # 1, -2, 1


def test_position_pull_by_hand():
    positions = torch.tensor([[0.3, -0.4], [0.0, 1.0]])
    assert float(position_pull(positions, torch.zeros(2))) == pytest.approx((0.25 + 1.0) / 2)
    assert float(position_pull(positions, positions)) == 0.0


def test_laplacian_of_one_pixel():
    """Zeros around it: 4^2 + 4 * 1^2, whatever the scale."""
    kernel = torch.zeros(1, 1, 5, 5)
    kernel[0, 0, 2, 2] = 3.0
    assert float(laplacian_smoothness(kernel)) == pytest.approx(20.0)
    assert float(laplacian_smoothness(torch.zeros(1, 1, 5, 5))) == 0.0
    assert float(roughness(kernel[0])) == pytest.approx(9 * 20.0)


def test_smooth_kernels_pay_less():
    x = torch.linspace(-2, 2, 9)
    bump = torch.exp(-(x[:, None] ** 2) - x**2)[None, None]
    noise = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    assert laplacian_smoothness(bump) < 0.2 * laplacian_smoothness(noise)
    assert laplacian_smoothness(noise) < 64
