"""The densities that twins are fitted with: against SciPy, and against the ones that twins are scored with."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import models.objectives.likelihoods
from metrics.prediction import likelihood as scored
from models.objectives.likelihoods import (
    fit_gamma_shape,
    poisson_log_density,
    rate_link,
    zero_inflated_gamma_log_density,
    zero_inflated_gamma_mean,
    zero_inflated_gamma_variance,
    zig_links,
)

torch.set_num_threads(1)

SHARES, SCALES, SHAPES = st.floats(0.01, 0.99), st.floats(0.05, 20), st.floats(0.1, 60)


def numbers(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def draws(rows, q, theta, k, rho=0.005, seed=0):
    random = np.random.default_rng(seed)
    above = rho + random.gamma(k, theta, size=rows)
    return np.where(random.random(rows) < q, above, random.uniform(0, rho, size=rows))


def test_examples():
    results = doctest.testmod(models.objectives.likelihoods)
    assert results.attempted >= 8
    assert not results.failed


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 50), SHARES, SCALES, SHAPES, st.sampled_from([0.005, 0.3]))
def test_zero_inflated_gamma_against_scipy(y, q, theta, k, rho):
    found = zero_inflated_gamma_log_density(*numbers(y, q, theta, k), rho=rho)
    if y > rho:
        expected = np.log(q) + stats.gamma.logpdf(y, k, loc=rho, scale=theta)
    else:
        expected = np.log1p(-q) + stats.uniform.logpdf(y, 0, rho)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_both_rooms_agree(seed, constant):
    random = np.random.default_rng(seed)
    q, theta, k = random.uniform(0.05, 0.95, (7, 3)), random.uniform(0.1, 4, (7, 3)), random.uniform(0.3, 9, 3)
    y = draws((7, 3), q, theta, k, seed=seed)
    found = zero_inflated_gamma_log_density(*map(torch.tensor, (y, q, theta, k)), constant=constant)
    expected = scored.zero_inflated_gamma_log_density(y, q, theta, k, threshold=0.005, constant=constant)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    moments = scored.zero_inflated_gamma_moments(q, theta, k)
    for function, moment in zip((zero_inflated_gamma_mean, zero_inflated_gamma_variance), moments, strict=True):
        np.testing.assert_allclose(function(*map(torch.tensor, (q, theta, k))), moment, rtol=1e-10)
    rates = random.uniform(0.1, 5, (7, 3))
    counts = random.poisson(rates).astype(float)
    found = poisson_log_density(torch.tensor(counts), torch.tensor(rates))
    np.testing.assert_allclose(found, stats.poisson.logpmf(counts, rates), rtol=1e-9)
    np.testing.assert_allclose(found, scored.poisson_log_density(counts, rates), rtol=1e-9)


@pytest.mark.parametrize(("q", "theta", "k", "rho"), [(0.3, 1.0, 2.0, 0.005), (0.9, 0.2, 0.7, 0.1), (0.05, 3, 30, 0.5)])
def test_density_integrates_to_one_and_has_its_moments(q, theta, k, rho):
    def density(y):
        return zero_inflated_gamma_log_density(*numbers(y, q, theta, k), rho=rho).exp().item()

    def integral(power):
        parts = [(0.0, rho), (rho * (1 + 1e-12), rho + 0.01), (rho + 0.01, 40 * theta * max(k, 1))]
        return sum(integrate.quad(lambda y: y**power * density(y), *part, limit=400)[0] for part in parts)

    assert integral(0) == pytest.approx(1.0, abs=1e-5)
    mean = zero_inflated_gamma_mean(*numbers(q, theta, k), rho=rho).item()
    assert integral(1) == pytest.approx(mean, rel=1e-4)
    variance = zero_inflated_gamma_variance(*numbers(q, theta, k), rho=rho).item()
    assert integral(2) - mean**2 == pytest.approx(variance, rel=1e-3)


def test_constant_of_the_lower_branch():
    y, q = torch.tensor([0.0, 0.005, 0.006]), torch.tensor(0.4)
    one = torch.tensor(1.0)
    full, released = (zero_inflated_gamma_log_density(y, q, one, one, constant=flag) for flag in (True, False))
    torch.testing.assert_close(full - released, -torch.tensor([0.005, 0.005, 1.0]).log())


@pytest.mark.parametrize("function", ["gamma", "poisson"])
def test_missing_responses_are_missing_and_pass_no_gradient(function):
    y = torch.tensor([0.0, torch.nan, 2.0])
    drives = torch.zeros(3, 2, requires_grad=True)
    if function == "gamma":
        logs = zero_inflated_gamma_log_density(y, *zig_links(drives), torch.tensor(2.0))
    else:
        logs = poisson_log_density(y, rate_link(drives).sum(dim=1))
    assert logs.isnan().tolist() == [False, True, False]
    torch.where(y.isnan(), 0.0, logs).sum().backward()
    assert drives.grad.isfinite().all()
    assert (drives.grad[1] == 0).all()
    assert (drives.grad[2].abs() > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(0, 8))
def test_gradients_against_differences(a, b, y):
    drives = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    observed, k = numbers(y, 3.0)

    def value(held):
        return zero_inflated_gamma_log_density(observed, *zig_links(held), k)

    value(drives).backward()
    for index in (0, 1):
        step = torch.zeros(2, dtype=torch.float64)
        step[index] = 1e-6
        with torch.no_grad():
            slope = (value(drives + step) - value(drives - step)).item() / 2e-6
        assert drives.grad[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_links_stay_inside_for_every_drive():
    q, theta = zig_links(torch.tensor([[-1e4, -1e4], [0.0, 0.0], [1e4, 1e4]]))
    assert (q > 0).all()
    assert (q < 1).all()
    assert (theta > 0).all()
    assert q[1].item() == pytest.approx(0.5, abs=1e-5)
    assert theta.tolist() == [pytest.approx(1e-6, rel=0.1), pytest.approx(1.0, rel=1e-5), pytest.approx(10_001)]
    assert torch.log1p(-q).isfinite().all()


@pytest.mark.parametrize("k", [0.2, 1.0, 3.0, 20.0])
def test_gamma_shape_is_the_maximum_likelihood_one(k):
    y = draws((3000, 2), 0.7, 1.5, k, seed=int(10 * k))
    found = fit_gamma_shape(torch.tensor(y))
    expected = [stats.gamma.fit(column[column > 0.005], floc=0.005)[0] for column in y.T]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, k, rtol=0.1)
    single = fit_gamma_shape(torch.tensor(y, dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, rtol=1e-3 if k >= 1 else 0.1)  # excesses below 1e-9 are rounded off


def test_gamma_shape_at_its_edges():
    y = torch.tensor(draws((2000, 5), 0.8, 1.0, 300.0))
    y[:, 1] = 2.0
    y[:, 2] = 0.001
    y[:, 3] = torch.nan
    y[:, 4] = torch.where(torch.arange(2000) < 1999, 0.0, 3.0)
    assert fit_gamma_shape(y).tolist() == [80.0, 80.0, 1.0, 1.0, 80.0]
    assert fit_gamma_shape(y, cap=1000.0)[0].item() == pytest.approx(300, rel=0.1)
    few = torch.tensor([[1.0, torch.nan], [2.0, 1.0], [torch.nan, 2.0]])
    assert fit_gamma_shape(few)[0] == fit_gamma_shape(few)[1]
