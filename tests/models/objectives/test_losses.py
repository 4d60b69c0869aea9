import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from models.objectives.correlation import correlation_loss
from models.objectives.gaussian import gaussian_loss
from models.objectives.likelihoods import RHO
from models.objectives.losses import LOSSES
from models.objectives.poisson import poisson_loss
from models.objectives.zero_inflated_gamma import zero_inflated_gamma_loss


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


@pytest.mark.parametrize("missing", [False, True])
def test_correlation_against_scipy(pair, missing):
    """1 - Pearson's r of each unit over its observed rows, then the mean over units."""
    rate, observed = pair
    observed = with_gaps(observed)[0] if missing else observed
    found = correlation_loss(rate, observed)
    each = []
    for a, b in zip(rate.numpy().T, observed.numpy().T, strict=True):
        seen = ~np.isnan(b)
        each.append(1 - scipy.stats.pearsonr(a[seen], b[seen]).statistic)
    assert float(found) == pytest.approx(np.mean(each), rel=1e-6)


def test_correlation_edges(pair):
    """Constant and once observed units are left out; a constant prediction has r = 0; gain and level mean nothing."""
    rate, observed = pair
    plain = correlation_loss(rate[:, :5], observed[:, :5])
    observed = observed.clone()
    observed[:, 5], observed[1:, 6] = 0.3, torch.nan
    torch.testing.assert_close(correlation_loss(rate, observed), plain)
    torch.testing.assert_close(correlation_loss(7 * rate - 3, observed), plain, rtol=1e-6, atol=1e-6)
    flat = torch.full_like(rate, 2.0).requires_grad_()
    loss = correlation_loss(flat, observed)
    loss.backward()
    assert loss.item() == 1.0
    assert flat.grad.isfinite().all()
    nothing = rate.clone().requires_grad_()
    correlation_loss(nothing, observed[:, 5:6].expand(-1, 7)).backward()
    assert (nothing.grad == 0).all()


def test_correlation_gradient(pair):
    """Against finite differences."""
    observed, _ = with_gaps(pair[1][:8, :3])
    assert torch.autograd.gradcheck(lambda rate: correlation_loss(rate, observed), pair[0][:8, :3].requires_grad_())


def zero_inflated(stimuli=3000, q=0.6, theta=0.8, k=2.0):
    random = np.random.default_rng(0)
    low = random.uniform(0, RHO, (stimuli, 2))
    values = np.where(random.random((stimuli, 2)) < q, RHO + random.gamma(k, theta, (stimuli, 2)), low)
    return torch.from_numpy(values), torch.full((2,), k, dtype=torch.float64)


def test_zero_inflated_gamma_against_scipy():
    """The mean over all entries of -ln p, by SciPy's uniform and gamma."""
    observed, k = zero_inflated(50)
    q, theta = torch.rand(2, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    total = 0.0
    for y, a, b, c in zip(*(each.flatten().tolist() for each in (observed, q, theta, k.expand(50, 2))), strict=True):
        high = np.log(a) + scipy.stats.gamma.logpdf(y, c, loc=RHO, scale=b)
        total -= high if y > RHO else np.log(1 - a) + scipy.stats.uniform.logpdf(y, 0, RHO)
    assert float(zero_inflated_gamma_loss(q, theta, observed, k)) == pytest.approx(total / 100, rel=1e-9)


def test_zero_inflated_gamma_is_lowest_at_the_truth():
    observed, k = zero_inflated()
    best = float(zero_inflated_gamma_loss(*torch.tensor([0.6, 0.8]).double(), observed, k))
    for q, theta in ((0.5, 0.8), (0.7, 0.8), (0.6, 0.7), (0.6, 0.92)):
        assert float(zero_inflated_gamma_loss(*torch.tensor([q, theta]).double(), observed, k)) > best


def said(name, rate):
    """An outcome of a loss: the rate, or for two outputs q and theta from it."""
    return (rate,) if LOSSES[name].outputs == 1 else (torch.sigmoid(rate - 2), rate)


GAMMA = torch.full((7,), 1.7, dtype=torch.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_links_means_and_starts(name):
    """At the drives of `start`, the link's outcome has the mean that was asked for; outcomes are in their range."""
    loss, level = LOSSES[name], torch.tensor([0.05, 0.4, 1.0, 3.0])
    drives = loss.start(level, torch.tensor([0.0, 0.2, 0.7, 1.0]), torch.full((4,), 1.7))
    assert drives.shape == (4, loss.outputs)
    outcome = loss.link(drives)
    assert len(outcome) == loss.outputs
    torch.testing.assert_close(loss.mean(outcome, torch.full((4,), 1.7)), level, rtol=1e-3, atol=1e-3)
    wild = loss.link(torch.tensor([[-90.0] * loss.outputs, [90.0] * loss.outputs]))
    assert all(each.isfinite().all() and (not loss.positive or (each >= 0).all()) for each in wild)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if not loss.scaleless])
def test_gaps_are_left_out(name, pair):
    gappy, seen = with_gaps(pair[1])
    outcome, gamma = said(name, pair[0]), GAMMA.expand(40, 7)
    alone = LOSSES[name].measure(tuple(each[seen] for each in outcome), pair[1][seen], gamma[seen])
    torch.testing.assert_close(LOSSES[name].measure(outcome, gappy, gamma), alone)


@pytest.mark.parametrize("name", LOSSES)
def test_gaps_pass_no_gradient(name, pair):
    gappy, seen = with_gaps(pair[1])
    rate = pair[0].clone().requires_grad_()
    LOSSES[name].measure(said(name, rate), gappy, GAMMA).backward()
    assert rate.grad.isfinite().all()
    assert (rate.grad[~seen] == 0).all()
    assert (rate.grad[seen] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_observed(name, pair):
    rate = pair[0].clone().requires_grad_()
    loss = LOSSES[name].measure(said(name, rate), torch.full_like(pair[1], torch.nan), GAMMA)
    loss.backward()
    assert loss.item() == 0
    assert (rate.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_size_does_not_depend_on_the_number_of_units_or_rows(name, pair):
    rate, observed, gamma = pair[0], pair[1], GAMMA
    once = LOSSES[name].measure(said(name, rate), observed, gamma)
    for axis in (0, 1):
        twice = [torch.cat([each, each], dim=axis) for each in (rate, observed)]
        wide = torch.cat([gamma, gamma]) if axis else gamma
        torch.testing.assert_close(LOSSES[name].measure(said(name, twice[0]), twice[1], wide), once)


@pytest.mark.parametrize("name", ["poisson", "gaussian"])
def test_lowest_at_the_truth(name, pair):
    observed = pair[1] + 0.5
    losses = [float(LOSSES[name].measure((observed * factor,), observed, GAMMA)) for factor in (0.8, 1.0, 1.2)]
    assert losses[1] == min(losses)
