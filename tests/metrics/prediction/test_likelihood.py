"""Likelihoods against scipy's distributions, quadrature, samples and planted latent variables."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import gamma, multinomial, nbinom, poisson

from metrics import (
    finite_mean,
    marginal_log_likelihood,
    poisson_information,
    poisson_log_likelihood,
    zero_inflated_gamma_log_likelihood,
    zero_inflated_gamma_moments,
)

RHO = 0.005


def _counts(seed: int = 0, stimuli: int = 30, units: int = 4, repeats: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Poisson counts with a fifth missing, and the rates behind them."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2.0, 1.5, size=(stimuli, units)) + 0.05
    counts = rng.poisson(rate[:, :, None], size=(stimuli, units, repeats)).astype(float)
    counts[rng.random(counts.shape) < 0.2] = np.nan
    return counts, rate


def _sample(q: float, theta: float, k: float, rho: float, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(size) < q, rho + rng.gamma(k, theta, size), rho * rng.random(size))


def _zero_inflated(seed: int = 0, stimuli: int = 30, units: int = 4) -> tuple[np.ndarray, ...]:
    """Responses (stimuli, units, 3) with gaps, and their q, theta (stimuli, units) and k (units,)."""
    rng = np.random.default_rng(seed)
    q, theta = rng.uniform(0.1, 0.9, (stimuli, units)), rng.gamma(3.0, 0.3, (stimuli, units)) + 0.05
    k = rng.uniform(0.4, 4.0, units)
    active = rng.random((stimuli, units, 3)) < q[:, :, None]
    burst = RHO + rng.gamma(k[:, None], theta[:, :, None], (stimuli, units, 3))
    values = np.where(active, burst, RHO * rng.random((stimuli, units, 3)))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values, q, theta, k


def _zero_inflated_by_scipy(values: np.ndarray, q: np.ndarray, theta: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The mixture with scipy's gamma, elementwise, NaN where a response is missing."""
    q, theta, k = q[:, :, None], theta[:, :, None], k[:, None]
    high = np.log(q) + gamma.logpdf(values, k, loc=RHO, scale=theta)
    return np.where(values > RHO, high, np.where(np.isnan(values), np.nan, np.log((1 - q) / RHO)))


def test_poisson_equals_scipy_per_unit_and_joint() -> None:
    counts, rate = _counts()
    expected = np.where(np.isnan(counts), np.nan, poisson.logpmf(np.nan_to_num(counts), rate[:, :, None]))
    np.testing.assert_allclose(poisson_log_likelihood(counts, rate), np.nanmean(expected, axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        poisson_log_likelihood(counts, rate, joint=True), np.nansum(expected, axis=1), rtol=1e-12
    )
    first, shown = counts[:, :, 0], ~np.isnan(counts[:, :, 0])
    joint = poisson_log_likelihood(first, rate, joint=True)
    assert joint.shape == (30,)
    np.testing.assert_allclose(joint, np.nansum(expected[:, :, 0], axis=1), rtol=1e-12)
    means = [expected[shown[:, unit], unit, 0].mean() for unit in range(4)]
    np.testing.assert_allclose(poisson_log_likelihood(first, rate, bits=True), np.array(means) / np.log(2), rtol=1e-12)


def test_responses_that_are_not_whole_use_the_gamma_function() -> None:
    value = 2.5 * np.log(1.5) - 1.5 - np.log(1.5 * 2.5 * np.sqrt(np.pi) / 2)  # Gamma(3.5)
    assert poisson_log_likelihood([[2.5]], [[1.5]])[0] == pytest.approx(value, rel=1e-12)


def test_true_rate_is_more_probable_than_a_wrong_one() -> None:
    counts, rate = _counts(stimuli=2000)
    true = poisson_log_likelihood(counts, rate)
    for wrong in (rate * 1.2, rate / 1.2, rate[::-1]):
        assert (poisson_log_likelihood(counts, wrong) < true).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_rate_is_nan_for_its_unit_or_stimulus_and_is_counted(bad: float) -> None:
    counts, rate = _counts()
    counts[3, 1] = 0.0
    rate[3, 1] = bad
    per_unit, joint = poisson_log_likelihood(counts, rate), poisson_log_likelihood(counts, rate, joint=True)
    np.testing.assert_array_equal(np.isnan(per_unit), [False, True, False, False])
    assert finite_mean(per_unit)[1] == 1
    assert np.isnan(joint[3]).all()
    assert np.isfinite(np.delete(joint, 3, axis=0)).all()
    np.testing.assert_array_equal(np.isnan(poisson_information(counts, rate)), np.isnan(per_unit))
    counts[3, 1] = np.nan  # nothing was recorded there, so the rate is not asked for
    assert np.isfinite(poisson_log_likelihood(counts, rate)).all()


def test_without_a_response_there_is_no_likelihood() -> None:
    counts, rate = _counts()
    counts[:, 2] = np.nan
    counts[5, :, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(poisson_log_likelihood(counts, rate)), [False, False, True, False])
    joint = poisson_log_likelihood(counts, rate, joint=True)
    assert np.isnan(joint[5, 1])
    assert np.isnan(joint).sum() == np.isnan(counts).all(axis=1).sum()
    assert poisson_log_likelihood(np.empty((0, 2)), np.empty((0, 2))).tolist() == pytest.approx(
        [np.nan] * 2, nan_ok=True
    )


def test_what_has_no_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0 and finite, or NaN where missing; 2 entries"):
        poisson_log_likelihood([[-1.0, np.inf]], [[1.0, 1.0]])
    with pytest.raises(ValueError, match=r"\(stimuli, units\) = \(4, 2\).*got \(3, 2\)"):
        poisson_log_likelihood(np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"got \(4, 2, 5\)"):
        poisson_log_likelihood(np.ones((4, 2, 5)), np.ones((4, 2, 5)))
    with pytest.raises(ValueError, match=r"not empty; got \(0, 4, 2\)"):
        poisson_log_likelihood(np.ones((4, 2)), np.ones((0, 4, 2)))
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(4, 2\) and \(3,\)"):
        zero_inflated_gamma_log_likelihood(np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 2)), np.ones(3))
    for threshold in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="threshold must be positive"):
            zero_inflated_gamma_log_likelihood([[1.0]], 0.5, 1.0, 1.0, threshold)
    with pytest.raises(ValueError, match="'observation' or 'spike'; got 'second'"):
        poisson_information([[1.0]], [[1.0]], per="second")
    with pytest.raises(ValueError, match="samples"):
        marginal_log_likelihood(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="samples"):
        marginal_log_likelihood(np.zeros(3), joint=True)


def test_information_is_the_gain_over_the_mean_by_scipy() -> None:
    counts, rate = _counts()
    gain = []
    for unit in range(4):
        row, column = np.nonzero(~np.isnan(counts[:, unit]))
        y = counts[row, unit, column]
        gain.append((poisson.logpmf(y, rate[row, unit]) - poisson.logpmf(y, y.mean())).mean() / np.log(2))
    np.testing.assert_allclose(poisson_information(counts, rate), gain, rtol=1e-10)
    spikes = np.nanmean(counts, axis=(0, 2))
    np.testing.assert_allclose(poisson_information(counts, rate, per="spike"), gain / spikes, rtol=1e-10)
    mean = np.tile(spikes, (30, 1))
    np.testing.assert_allclose(poisson_information(counts, mean), 0.0, atol=1e-12)
    assert (poisson_information(counts, mean * 1.1) < 0).all()
    counts[:, 1] = np.where(np.isnan(counts[:, 1]), np.nan, 0.0)
    np.testing.assert_array_equal(np.isnan(poisson_information(counts, rate)), [False, True, False, False])


@pytest.mark.parametrize(("q", "theta", "k"), [(0.3, 0.8, 1.0), (0.9, 0.1, 3.5), (0.05, 2.0, 0.7)])
@pytest.mark.parametrize("rho", [RHO, 0.5])
def test_zero_inflated_gamma_integrates_to_one(q: float, theta: float, k: float, rho: float) -> None:
    def density(y: float, constant: bool = True) -> float:
        return float(np.exp(zero_inflated_gamma_log_likelihood([[y]], q, theta, k, rho, constant))[0])

    low = quad(density, 0, rho)[0]
    above = quad(lambda root: density(rho + root**4) * 4 * root**3, 0, (80 * theta * max(k, 1)) ** 0.25)[0]
    assert low == pytest.approx(1 - q, rel=1e-9)
    assert low + above == pytest.approx(1.0, abs=1e-6)
    assert quad(density, 0, rho, args=(False,))[0] == pytest.approx((1 - q) * rho, rel=1e-9)  # no density


def test_zero_inflated_gamma_equals_scipy_per_unit_and_joint() -> None:
    values, q, theta, k = _zero_inflated()
    expected = _zero_inflated_by_scipy(values, q, theta, k)
    assert 0.2 < (values <= RHO).mean() < 0.8
    np.testing.assert_allclose(
        zero_inflated_gamma_log_likelihood(values, q, theta, k), np.nanmean(expected, axis=(0, 2)), rtol=1e-10
    )
    np.testing.assert_allclose(
        zero_inflated_gamma_log_likelihood(values, q, theta, k, joint=True), np.nansum(expected, axis=1), rtol=1e-10
    )
    wide = np.tile(k, (30, 1))
    np.testing.assert_array_equal(
        zero_inflated_gamma_log_likelihood(values, q, theta, wide),
        zero_inflated_gamma_log_likelihood(values, q, theta, k),
    )


def test_the_constant_is_the_log_threshold_of_the_responses_up_to_it() -> None:
    values, q, theta, k = _zero_inflated()
    both = [zero_inflated_gamma_log_likelihood(values, q, theta, k, constant=c) for c in (True, False)]
    share = (values <= RHO).sum(axis=(0, 2)) / (~np.isnan(values)).sum(axis=(0, 2))
    np.testing.assert_allclose(both[0] - both[1], -np.log(RHO) * share, rtol=1e-10)


def test_a_response_at_the_threshold_belongs_to_the_lower_branch() -> None:
    at, above = (zero_inflated_gamma_log_likelihood([[y]], 0.25, 1.0, 2.0, 0.5)[0] for y in (0.5, 0.5 + 1e-6))
    assert at == pytest.approx(np.log(0.75 / 0.5))
    assert above == pytest.approx(np.log(0.25) + gamma.logpdf(1e-6, 2.0))


def test_certain_branches_and_parameters_out_of_range() -> None:
    values = np.array([[0.0, 1.0]])
    np.testing.assert_array_equal(zero_inflated_gamma_log_likelihood(values, 1.0, 1.0, 1.0)[0], -np.inf)
    np.testing.assert_array_equal(zero_inflated_gamma_log_likelihood(values, 0.0, 1.0, 1.0)[1], -np.inf)
    assert zero_inflated_gamma_log_likelihood(values, 1.0, 1.0, 1.0)[1] == pytest.approx(-(1 - RHO))
    for q, theta, k in ((1.1, 1, 1), (-0.1, 1, 1), (np.nan, 1, 1), (0.5, 0, 1), (0.5, np.inf, 1), (0.5, 1, -1)):
        assert np.isnan(zero_inflated_gamma_log_likelihood(values, q, theta, k)).all()
        assert np.isnan(zero_inflated_gamma_moments(q, theta, k)).all()


@pytest.mark.parametrize(("q", "theta", "k"), [(0.3, 0.8, 1.0), (0.9, 0.1, 3.5), (0.5, 1.5, 0.7)])
@pytest.mark.parametrize("rho", [RHO, 2.0])
def test_moments_match_a_million_samples(q: float, theta: float, k: float, rho: float) -> None:
    sample = _sample(q, theta, k, rho, 1_000_000)
    mean, variance = zero_inflated_gamma_moments(q, theta, k, rho)
    deviation = (sample - sample.mean()) ** 2
    assert abs(sample.mean() - mean) < 4 * sample.std() / 1e3
    assert abs(deviation.mean() - variance) < 4 * deviation.std() / 1e3


def test_moments_match_the_density() -> None:
    q, theta, k, rho = 0.4, 0.5, 2.0, 0.7

    def moment(power: int) -> float:
        def integrand(y: float) -> float:
            return y**power * float(np.exp(zero_inflated_gamma_log_likelihood([[y]], q, theta, k, rho))[0])

        return quad(integrand, 0, rho)[0] + quad(integrand, rho, 40)[0]

    mean, variance = zero_inflated_gamma_moments(q, theta, k, rho)
    assert mean == pytest.approx(moment(1), rel=1e-7)
    assert variance == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-7)


@pytest.mark.parametrize("joint", [False, True])
def test_samples_of_latent_variables_are_averaged_as_likelihoods(joint: bool) -> None:
    counts, _ = _counts()
    rates = np.random.default_rng(1).gamma(2.0, 1.5, size=(7, 30, 4)) + 0.05
    elements = poisson.logpmf(np.nan_to_num(counts), rates[:, :, :, None])
    elements = np.where(np.isnan(counts), 0.0 if joint else np.nan, elements)
    if joint:
        expected = logsumexp(elements.sum(axis=2), axis=0) - np.log(7)
    else:
        expected = np.nanmean(logsumexp(elements, axis=0) - np.log(7), axis=(0, 2))
    np.testing.assert_allclose(poisson_log_likelihood(counts, rates, joint=joint), expected, rtol=1e-10)
    np.testing.assert_allclose(
        poisson_log_likelihood(counts, rates[:1], joint=joint), poisson_log_likelihood(counts, rates[0], joint=joint)
    )
    values, q, theta, k = _zero_inflated()
    np.testing.assert_allclose(
        zero_inflated_gamma_log_likelihood(values, np.stack([q] * 3), theta, k, joint=joint),
        zero_inflated_gamma_log_likelihood(values, q, theta, k, joint=joint),
    )


def test_marginal_over_gamma_rates_is_the_negative_binomial() -> None:
    rates = np.random.default_rng(2).gamma(3.0, 1.0, size=(200_000, 1, 1))
    counts = np.array([[0.0, 2.0, 7.0]])
    logs = poisson.logpmf(counts, rates)
    np.testing.assert_allclose(marginal_log_likelihood(logs)[0], nbinom.logpmf(counts[0], 3, 0.5), atol=0.02)
    total = nbinom.logpmf(9, 3, 1 / 4) + multinomial.logpmf(counts[0], 9, [1 / 3] * 3)
    assert marginal_log_likelihood(logs, joint=True)[0] == pytest.approx(total, abs=0.05)


def test_only_the_joint_likelihood_credits_shared_variability() -> None:
    rng = np.random.default_rng(3)
    shared = np.exp(rng.normal(size=(400, 1)))
    counts = rng.poisson(3.0 * shared, size=(400, 6)).astype(float)
    common = np.exp(rng.normal(size=(300, 1, 1))) * np.full((1, 1, 6), 3.0)
    own = np.exp(rng.normal(size=(300, 1, 6))) * 3.0
    common, own = (np.broadcast_to(rates, (300, 400, 6)) for rates in (common, own))
    per_unit = [poisson_log_likelihood(counts, rates).mean() for rates in (common, own)]
    joint = [poisson_log_likelihood(counts, rates, joint=True).mean() for rates in (common, own)]
    assert per_unit[0] == pytest.approx(per_unit[1], abs=0.05)
    assert joint[0] > joint[1] + 1.0


def test_marginal_equals_logsumexp_on_any_axis_and_keeps_extremes() -> None:
    logs = np.random.default_rng(4).normal(-900, 50, size=(5, 8, 3))
    np.testing.assert_allclose(marginal_log_likelihood(logs), logsumexp(logs, axis=0) - np.log(5), rtol=1e-13)
    np.testing.assert_allclose(
        marginal_log_likelihood(np.moveaxis(logs, 0, 1), axis=1, joint=True),
        logsumexp(logs.sum(axis=2), axis=0) - np.log(5),
        rtol=1e-13,
    )
    logs[:, 0, 0], logs[2, 1, 1] = -np.inf, np.nan
    result = marginal_log_likelihood(logs)
    assert result[0, 0] == -np.inf
    assert np.isnan(result[1, 1])
    assert np.isfinite(np.delete(result.ravel(), [0, 4])).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_units_stimuli_and_repeats_may_be_permuted(seed: int) -> None:
    values, q, theta, k = _zero_inflated(seed)
    rng = np.random.default_rng(seed)
    rows, units = rng.permutation(30), rng.permutation(4)
    changed = values[rows][:, units][:, :, ::-1], q[rows][:, units], theta[rows][:, units], k[units]
    np.testing.assert_allclose(
        zero_inflated_gamma_log_likelihood(*changed), zero_inflated_gamma_log_likelihood(values, q, theta, k)[units]
    )
    np.testing.assert_allclose(
        zero_inflated_gamma_log_likelihood(*changed, joint=True)[:, ::-1],
        zero_inflated_gamma_log_likelihood(values, q, theta, k, joint=True)[rows],
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_a_change_of_unit_changes_the_density_by_its_logarithm(seed: int, scale: float) -> None:
    values, q, theta, k = _zero_inflated(seed)
    values = np.where(np.abs(values - RHO) < 1e-9, 0.0, values)  # not at the edge, where rounding decides
    changed = zero_inflated_gamma_log_likelihood(scale * values, q, scale * theta, k, threshold=scale * RHO)
    np.testing.assert_allclose(
        changed, zero_inflated_gamma_log_likelihood(values, q, theta, k) - np.log(scale), rtol=1e-7
    )


@pytest.mark.parametrize("joint", [False, True])
def test_torch_in_torch_out(joint: bool) -> None:
    counts, rate = _counts()
    values, q, theta, k = _zero_inflated()
    calls: list[tuple[Callable[..., object], tuple[np.ndarray, ...]]] = [
        (lambda *a: poisson_log_likelihood(*a, joint=joint), (counts, rate)),
        (lambda *a: zero_inflated_gamma_log_likelihood(*a, joint=joint), (values, q, theta, k)),
        (lambda a: marginal_log_likelihood(a, joint=joint), (np.random.default_rng(0).normal(size=(3, 4, 2)),)),
        (poisson_information, (counts, rate)),
        (lambda *a: zero_inflated_gamma_moments(*a)[1], (q, theta, k)),
    ]
    for function, arguments in calls:
        result = function(*(torch.tensor(part, requires_grad=True) for part in arguments))
        assert isinstance(result, torch.Tensor)
        np.testing.assert_array_equal(result.numpy(), function(*arguments))
