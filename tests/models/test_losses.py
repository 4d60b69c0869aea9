import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from models.losses import LOSSES, gaussian_loss, poisson_loss
from models.regularizers import l1, laplacian_smoothness


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    rate = torch.rand(40, 7, generator=generator, dtype=torch.float64) * 5 + 0.1
    return rate, torch.poisson(rate, generator=generator)


def with_gaps(observed):
    gaps = torch.rand(observed.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    return torch.where(gaps, torch.nan, observed), ~gaps


def test_poisson_against_torch(pair):
    expected = F.poisson_nll_loss(*pair, log_input=False, eps=1e-8)
    torch.testing.assert_close(poisson_loss(*pair), expected)


def test_poisson_against_scipy(pair):
    """It differs from the log-likelihood by a term of the data alone."""
    rate, observed = pair
    other = rate * 1.3
    likelihood = [scipy.stats.poisson.logpmf(observed.numpy(), r.numpy()).mean() for r in (rate, other)]
    losses = [float(poisson_loss(r, observed)) for r in (rate, other)]
    np.testing.assert_allclose(losses[0] - losses[1], likelihood[1] - likelihood[0], rtol=1e-6)


def test_gaussian_against_torch(pair):
    torch.testing.assert_close(gaussian_loss(*pair), F.mse_loss(*pair))


@pytest.mark.parametrize("name", LOSSES)
def test_gaps_are_left_out(name, pair):
    rate, observed = pair
    gappy, seen = with_gaps(observed)
    torch.testing.assert_close(LOSSES[name](rate, gappy), LOSSES[name](rate[seen], observed[seen]))


@pytest.mark.parametrize("name", LOSSES)
def test_gaps_pass_no_gradient(name, pair):
    gappy, seen = with_gaps(pair[1])
    rate = pair[0].clone().requires_grad_()
    LOSSES[name](rate, gappy).backward()
    assert rate.grad.isfinite().all()
    assert (rate.grad[~seen] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_observed(name, pair):
    rate = pair[0].clone().requires_grad_()
    loss = LOSSES[name](rate, torch.full_like(pair[1], torch.nan))
    loss.backward()
    assert loss.item() == 0
    assert (rate.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_lowest_at_the_truth(name, pair):
    observed = pair[1] + 0.5
    losses = [float(LOSSES[name](observed * factor, observed)) for factor in (0.8, 1.0, 1.2)]
    assert losses[1] == min(losses)


def test_l1_does_not_depend_on_the_number_of_units():
    weights = torch.randn(5, 3)
    torch.testing.assert_close(l1(weights), l1(torch.cat([weights, weights])))
    assert float(l1(torch.tensor([[1.0, -2.0], [0.0, 1.0]]))) == 2.0


def test_laplacian_of_one_pixel():
    """Zeros around it: 4^2 + 4 * 1^2, whatever the scale."""
    kernel = torch.zeros(1, 1, 5, 5)
    kernel[0, 0, 2, 2] = 3.0
    assert float(laplacian_smoothness(kernel)) == pytest.approx(20.0)
    assert float(laplacian_smoothness(torch.zeros(1, 1, 5, 5))) == 0.0


def test_smooth_kernels_pay_less():
    x = torch.linspace(-2, 2, 9)
    bump = torch.exp(-(x[:, None] ** 2) - x**2)[None, None]
    noise = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    assert laplacian_smoothness(bump) < 0.2 * laplacian_smoothness(noise)
    assert laplacian_smoothness(noise) < 64
