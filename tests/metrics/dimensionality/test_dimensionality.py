"""Linear dimensionality against eigenvalues, planted spectra and planted signals in noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from metrics import (
    components_for_variance,
    cross_validated_participation_ratio,
    cross_validated_spectrum,
    participation_ratio,
    power_law_exponent,
    spectrum_slope,
)

LINEAR = (participation_ratio, spectrum_slope, components_for_variance)


def _planted(alpha: float, stimuli: int, units: int, rank: int) -> np.ndarray:
    """Data whose covariance has exactly the eigenvalues k^-alpha up to a rank, on random axes."""
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(stimuli, rank))
    scores = np.linalg.qr(raw - raw.mean(axis=0))[0] * np.arange(1.0, rank + 1) ** (-alpha / 2)
    return scores @ np.linalg.qr(rng.normal(size=(units, rank)))[0].T + 3


def _noisy_halves(ratio: float, stimuli: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A 5-D Gaussian signal in 500 channels, and two halves with white noise at a ratio of variances."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(stimuli, 5)) @ rng.normal(size=(5, 500))
    noise = rng.normal(size=(2, *signal.shape)) * np.sqrt(signal.var(axis=0).mean() / ratio)
    return signal, signal + noise[0], signal + noise[1]


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (40, 40), (50, 1)])
def test_participation_ratio_equals_its_definition(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1]) + 7
    values = np.linalg.eigvalsh(np.cov(data.T).reshape(shape[1], shape[1]))
    assert participation_ratio(data) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)


@pytest.mark.parametrize(("stimuli", "units"), [(500, 1000), (1000, 100)])
def test_participation_ratio_has_the_known_sampling_bias(stimuli: int, units: int) -> None:
    data = np.random.default_rng(1).normal(size=(stimuli, units))
    assert participation_ratio(data) == pytest.approx(stimuli * units / (stimuli + units), rel=0.01)


@pytest.mark.parametrize("data", [np.full((9, 4), 0.1), np.ones((1, 3)), np.zeros((5, 2)), np.empty((0, 3))])
def test_constant_or_single_data_have_no_dimension(data: np.ndarray) -> None:
    for function in LINEAR:
        assert np.isnan(function(data))
    assert np.isnan(cross_validated_participation_ratio(data, data))
    assert not np.abs(cross_validated_spectrum(data, data)).any()


def test_missing_responses_are_refused() -> None:
    data = np.ones((5, 3))
    data[2, 1] = np.nan
    for function in LINEAR:
        with pytest.raises(ValueError, match="1 NaN or infinite entries of 15"):
            function(data)
    for function in (cross_validated_participation_ratio, cross_validated_spectrum):
        with pytest.raises(ValueError, match="half_b holds 1 NaN"):
            function(np.ones((5, 3)), data)
        with pytest.raises(ValueError, match=r"half_a and half_b must have one shape; got \(5, 3\) and \(4, 3\)"):
            function(np.ones((5, 3)), np.ones((4, 3)))


@pytest.mark.parametrize(("ratio", "plain"), [(10.0, 5.9), (1.0, 19.0), (0.1, 242.0)])
def test_noise_raises_the_participation_ratio_but_not_the_cross_validated_one(ratio: float, plain: float) -> None:
    """The plain values are one published simulation; ours differ by its draw of axes and noise, some 2 %."""
    signal, first, second = _noisy_halves(ratio, stimuli=2000, seed=0)
    truth = participation_ratio(signal)
    assert truth == pytest.approx(4.9, abs=0.1)
    assert participation_ratio(first) == pytest.approx(plain, rel=0.03)
    assert cross_validated_participation_ratio(first, second) == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("stimuli", [100, 700])  # fewer and more stimuli than channels: both ways of computing it
def test_the_cross_validated_ratio_has_little_bias_where_the_plain_norm_has_much(stimuli: int) -> None:
    draws = [_noisy_halves(0.2, stimuli, seed) for seed in range(12)]
    truth = np.mean([participation_ratio(signal) for signal, _, _ in draws])
    values = np.array([cross_validated_participation_ratio(first, second) for _, first, second in draws])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - truth) < 4 * error
    assert error < 0.1
    naive = [_ratio_of_the_plain_norm(first, second) for _, first, second in draws]
    assert np.mean(naive) < 0.92 * truth


def _ratio_of_the_plain_norm(first: np.ndarray, second: np.ndarray) -> float:
    """trace^2 / squared norm of the symmetric cross-covariance: its norm holds chance correlations of the noise."""
    product = (first - first.mean(axis=0)).T @ (second - second.mean(axis=0))
    return float(np.trace(product) ** 2 / (((product + product.T) / 2) ** 2).sum())


def test_the_cross_validated_ratio_holds_for_counts_whose_noise_grows_with_the_response() -> None:
    truth, plain, validated = [], [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        rate = 0.5 * np.exp(0.4 * rng.normal(size=(200, 4)) @ rng.normal(size=(4, 100)))
        first, second = rng.poisson(rate), rng.poisson(rate)
        truth.append(participation_ratio(rate))
        plain.append(participation_ratio(first))
        validated.append(cross_validated_participation_ratio(first, second))
    assert np.mean(validated) == pytest.approx(np.mean(truth), rel=0.05)
    assert np.mean(plain) > 1.5 * np.mean(truth)


@pytest.mark.parametrize("shape", [(30, 80), (80, 30)])
def test_equal_halves_give_the_plain_ratio(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1]) + 7
    assert cross_validated_participation_ratio(data, data) == pytest.approx(participation_ratio(data), rel=1e-9)


def test_halves_without_a_common_signal_have_no_ratio() -> None:
    data = np.random.default_rng(0).normal(size=(50, 20))
    assert np.isnan(cross_validated_participation_ratio(data, -data))
    assert np.isnan(cross_validated_participation_ratio(data[:2], data[:2]))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_the_cross_validated_spectrum_is_the_covariance_along_the_axes_of_one_half(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=shape) * np.linspace(0.5, 3, shape[1])
    first, second = signal + rng.normal(size=shape), signal + rng.normal(size=shape) + 5
    pca = PCA(n_components=min(shape[0] - 1, shape[1])).fit(first)
    along, other = pca.transform(first), (second - second.mean(axis=0)) @ pca.components_.T
    expected = (along * other).sum(axis=0) / (shape[0] - 1)
    spectrum = cross_validated_spectrum(first, second)
    np.testing.assert_allclose(spectrum, expected, rtol=1e-8, atol=1e-10)
    centred = first - first.mean(axis=0)
    assert spectrum.sum() == pytest.approx((centred * (second - second.mean(axis=0))).sum() / (shape[0] - 1))
    np.testing.assert_allclose(cross_validated_spectrum(first, first), pca.explained_variance_, rtol=1e-8)


def test_the_cross_validated_spectrum_has_no_noise_floor() -> None:
    signal, first, second = _noisy_halves(1.0, stimuli=400, seed=0)
    spectrum = cross_validated_spectrum(first, second)
    floor = PCA().fit(first).explained_variance_[5:395]
    assert abs(spectrum[5:].mean()) < 0.05 * floor.mean()
    assert spectrum[:5].sum() == pytest.approx(signal.var(axis=0, ddof=1).sum(), rel=0.1)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("shape", [(700, 900), (900, 700), (200, 60)])
def test_the_slope_of_a_planted_power_law(alpha: float, shape: tuple[int, int]) -> None:
    rank = min(shape) - 1
    data = _planted(alpha, *shape, rank=rank)
    assert spectrum_slope(data) == pytest.approx(alpha, rel=1e-6)
    assert spectrum_slope(data, low=1, high=30) == pytest.approx(alpha, rel=1e-6)


def test_the_slope_is_taken_between_the_ranks_and_weighted_by_octave() -> None:
    rank = np.arange(1.0, 201.0)
    bent = np.where(rank < 20, 1.0, (rank / 20) ** -2)
    assert power_law_exponent(bent, low=1, high=19) == pytest.approx(0.0, abs=1e-12)
    assert power_law_exponent(bent, low=20, high=200) == pytest.approx(2.0)
    spectrum = np.random.default_rng(0).exponential(size=200) * rank**-1
    chosen = slice(10, 150)
    design = np.stack([-np.log(rank[chosen]), np.ones(140)], axis=1)
    weight = 1 / rank[chosen, None]
    expected = np.linalg.solve(design.T @ (weight * design), design.T @ (weight[:, 0] * np.log(spectrum[chosen])))
    assert power_law_exponent(spectrum, low=11, high=150) == pytest.approx(expected[0])


def test_slope_edge_rules() -> None:
    assert np.isnan(spectrum_slope(_planted(1.0, 40, 40, rank=12)))  # two ranks from 11 on
    assert spectrum_slope(_planted(1.0, 40, 40, rank=13)) == pytest.approx(1.0, rel=1e-6)
    assert np.isnan(power_law_exponent([1.0, 0.5, -0.1, 0.2], low=1, high=4))
    for low, high in ((0, 5), (5, 5), (6, 5)):
        with pytest.raises(ValueError, match="1 <= low < high"):
            spectrum_slope(np.eye(9), low, high)


@pytest.mark.parametrize("shape", [(30, 80), (80, 30)])
@pytest.mark.parametrize("share", [0.2, 0.8, 0.95])
def test_components_for_variance_equals_scikit_learn(shape: tuple[int, int], share: float) -> None:
    data = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1]) + 7
    assert components_for_variance(data, share) == PCA(n_components=share, svd_solver="full").fit(data).n_components_


def test_components_for_variance_of_equal_axes_and_of_everything() -> None:
    cross = np.concatenate([np.eye(10), -np.eye(10)])
    assert components_for_variance(cross, 0.8) == 8.0
    assert components_for_variance(cross, 1.0) == 10.0
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="share"):
            components_for_variance(cross, share)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_rotation_scale_shift_and_order_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(60, 6)) * np.linspace(0.3, 2, 6)
    noise = rng.normal(size=(2, 60, 6))
    turn, shift, order = ortho_group.rvs(6, random_state=seed), rng.normal(size=6), rng.permutation(60)

    def turned(responses: np.ndarray) -> np.ndarray:
        return scale * (responses @ turn + shift)[order]

    assert participation_ratio(turned(data)) == pytest.approx(participation_ratio(data), rel=1e-8)
    assert components_for_variance(turned(data)) == components_for_variance(data)
    assert spectrum_slope(turned(data), 1, 6) == pytest.approx(spectrum_slope(data, 1, 6), rel=1e-8)
    halves = data + noise
    expected = cross_validated_participation_ratio(*halves)
    assert cross_validated_participation_ratio(*map(turned, halves)) == pytest.approx(expected, rel=1e-7)
    assert cross_validated_participation_ratio(*halves[::-1]) == pytest.approx(expected, rel=1e-9)


def test_torch_in_torch_out() -> None:
    data = np.random.default_rng(0).normal(size=(80, 25))
    for function in LINEAR:
        result = function(torch.tensor(data))
        assert type(result) is float
        assert result == function(data)
    result = cross_validated_participation_ratio(torch.tensor(data), torch.tensor(data))
    assert type(result) is float
    assert isinstance(cross_validated_spectrum(torch.tensor(data), torch.tensor(data)), torch.Tensor)
    assert type(power_law_exponent(torch.arange(20, 1, -1), 1, 9)) is float
