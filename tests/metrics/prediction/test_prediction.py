"""Correlations against scipy, and the edge rules that keep a bad unit from becoming a number."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

import metrics
from metrics import (
    area_feve,
    correlation,
    correlation_to_average,
    explainable_variance,
    feve,
    finite_mean,
    noise_ceiling,
    normalized_correlation,
)


def _pair(seed: int = 0, stimuli: int = 40, units: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(stimuli, units))
    return predicted, predicted + rng.normal(size=(stimuli, units))


def test_correlation_equals_scipy_with_missing_pairs_left_out_per_unit() -> None:
    predicted, observed = _pair()
    predicted[3, 0] = observed[5, 0] = observed[5, 2] = np.nan
    for unit, value in enumerate(correlation(predicted, observed)):
        valid = ~np.isnan(predicted[:, unit] + observed[:, unit])
        assert value == pytest.approx(pearsonr(predicted[valid, unit], observed[valid, unit])[0], abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e12])
def test_constant_unit_is_nan(constant: float) -> None:
    predicted, observed = _pair()
    predicted[:, 1] = constant
    result = correlation(predicted, observed)
    assert np.isnan(result[1])
    assert np.isfinite(np.delete(result, 1)).all()


def test_fewer_than_two_pairs_or_an_infinite_value_is_nan() -> None:
    predicted, observed = _pair(units=3)
    predicted[1:, 0] = np.nan
    predicted[0, 1] = np.inf
    assert np.isnan(correlation(predicted, observed)[:2]).all()
    assert np.isnan(correlation(predicted[:0], observed[:0])).all()


def test_large_offset_and_extreme_scale_do_not_change_r() -> None:
    predicted, observed = _pair()
    expected = correlation(predicted, observed)
    np.testing.assert_allclose(correlation(predicted + 1e6, observed), expected, atol=1e-8)
    np.testing.assert_allclose(correlation(predicted * 1e200, observed * 1e-200), expected, atol=1e-12)


def test_shapes_are_refused_with_both_shapes_named() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\)"):
        correlation(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="two axes"):
        correlation(np.ones(3), np.ones(3))


def test_average_takes_only_the_repeats_that_were_shown() -> None:
    predicted, observed = _pair()
    repeats = np.stack([observed - 1, observed + 1, np.full_like(observed, np.nan)], axis=2)
    np.testing.assert_allclose(correlation_to_average(predicted, repeats), correlation(predicted, observed), atol=1e-12)
    repeats[4] = np.nan
    keep = np.arange(40) != 4
    np.testing.assert_allclose(
        correlation_to_average(predicted, repeats), correlation(predicted[keep], observed[keep]), atol=1e-12
    )


def test_true_rate_has_a_normalized_correlation_of_one() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(4000, 5))
    repeats = truth[:, :, None] + 1.5 * rng.normal(size=(4000, 5, 4))
    np.testing.assert_allclose(normalized_correlation(truth, repeats), 1.0, atol=0.03)
    assert (correlation_to_average(truth, repeats) < 0.85).all()


def test_normalized_correlation_is_the_ratio_and_nan_without_a_ceiling() -> None:
    predicted, observed = _pair()
    rng = np.random.default_rng(2)
    repeats = observed[:, :, None] + 0.3 * rng.normal(size=(*observed.shape, 3))
    expected = correlation_to_average(predicted, repeats) / noise_ceiling(repeats)
    np.testing.assert_allclose(normalized_correlation(predicted, repeats), expected)
    assert np.isnan(normalized_correlation(predicted, observed)).all()
    opposite = np.stack([observed, -observed * np.linspace(0.9, 1.1, 40)[:, None]], axis=2)
    assert (noise_ceiling(opposite) == 0).all()
    assert np.isnan(normalized_correlation(predicted, opposite)).all()


def _planted(noise: float = 1.0, stimuli: int = 3000, units: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """True rates of deviation 1 and repeats of them: one to six per stimulus, the noise differing by unit."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=(stimuli, units)) + np.arange(units)
    spread = noise * np.linspace(0.5, 1.5, units)[:, None]
    repeats = truth[:, :, None] + spread * rng.normal(size=(stimuli, units, 6))
    return truth, np.where(np.arange(6) < rng.integers(1, 7, size=(stimuli, 1, 1)), repeats, np.nan)


def _feve_by_loops(predicted: np.ndarray, repeats: np.ndarray, variant: str) -> list[float]:
    """The formula unit by unit, stimulus by stimulus."""
    found = []
    for unit in range(predicted.shape[1]):
        shown = [row[~np.isnan(row)] for row in repeats[:, unit]]
        pairs = [(p, row) for p, row in zip(predicted[:, unit], shown, strict=True) if len(row) and not np.isnan(p)]
        spread = [np.var(row, ddof=1) if len(row) > 1 else None for _, row in pairs]
        usual = np.mean([s for s in spread if s is not None])
        if variant == "trials":
            error = np.mean(np.concatenate([(row - p) ** 2 for p, row in pairs]))
            total, noise = np.var(np.concatenate([row for _, row in pairs]), ddof=1), usual
        else:
            error = np.mean([(row.mean() - p) ** 2 for p, row in pairs])
            total = np.var([row.mean() for _, row in pairs], ddof=1)
            noise = np.mean([(usual if s is None else s) / len(row) for s, (_, row) in zip(spread, pairs, strict=True)])
        found.append(1 - (error - noise) / (total - noise))
    return found


@pytest.mark.parametrize("variant", ["trials", "average"])
def test_feve_equals_the_formula_in_loops(variant: str) -> None:
    truth, repeats = _planted(stimuli=60)
    predicted = truth + np.random.default_rng(8).normal(size=truth.shape)
    predicted[4, 1] = np.nan
    repeats[9, 2] = np.nan
    repeats[np.random.default_rng(9).random(repeats.shape) < 0.2] = np.nan
    np.testing.assert_allclose(
        feve(predicted, repeats, variant, least=-9), _feve_by_loops(predicted, repeats, variant), rtol=1e-10
    )


@pytest.mark.parametrize("variant", ["trials", "average"])
def test_feve_is_one_for_the_true_rate_and_its_planted_share_otherwise(variant: str) -> None:
    truth, repeats = _planted()
    np.testing.assert_allclose(feve(truth, repeats, variant), 1.0, atol=0.05)
    average = np.tile(truth.mean(axis=0), (len(truth), 1))
    np.testing.assert_allclose(feve(average, repeats, variant), 0.0, atol=0.05)
    np.testing.assert_allclose(feve(average + 2, repeats, variant), -4.0, rtol=0.1)
    shrunk = average + 0.5 * (truth - average)  # leaves a quarter of the variance
    np.testing.assert_allclose(feve(shrunk, repeats, variant), 0.75, atol=0.05)


def test_the_two_variants_of_feve_agree_without_noise_but_for_the_weight_of_ddof() -> None:
    truth, _ = _planted(stimuli=50)
    predicted = truth + np.random.default_rng(1).normal(size=truth.shape)
    trials, average = (1 - feve(predicted, truth[:, :, None].repeat(3, axis=2), v) for v in ("trials", "average"))
    np.testing.assert_allclose(trials / average, (149 / 150) / (49 / 50), rtol=1e-9)


def test_area_feve_is_the_planted_share_where_a_filtered_mean_is_not() -> None:
    found, filtered = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        gain = np.where(np.arange(40) < 20, 0.25, 1.0)  # half of the units have little to explain
        truth = gain * random.standard_normal((80, 40))
        repeats = truth[:, :, None] + random.standard_normal((80, 40, 3))
        share, units = area_feve(0.5 * truth, repeats)
        assert units == 40
        found.append(share)
        filtered.append(finite_mean(feve(0.5 * truth, repeats))[1])
    assert np.mean(found) == pytest.approx(0.75, abs=0.02)
    assert np.mean(filtered) > 10  # units that the field's filter would choose by the scored responses


def test_feve_of_unreliable_units_is_nan_and_can_be_counted() -> None:
    truth, repeats = _planted(noise=2.5)
    explainable = explainable_variance(repeats)
    assert (explainable < 0.15).sum() == 2
    np.testing.assert_array_equal(np.isnan(feve(truth, repeats)), explainable < 0.15)
    mean, left_out = finite_mean(feve(truth, repeats))
    assert left_out == 2
    assert mean == pytest.approx(1.0, abs=0.1)
    assert np.isfinite(feve(truth, repeats, least=0.0)).all()
    assert np.isnan(feve(truth, repeats, least=0.99)).all()


@pytest.mark.parametrize("variant", ["trials", "average"])
def test_feve_of_degenerate_units_is_nan(variant: str) -> None:
    truth, repeats = _planted(stimuli=30, units=7)
    repeats[:, 0, 1:] = np.nan  # one repeat only
    repeats[:, 1] = 0.1  # constant
    repeats[:, 2] = np.nan  # nothing
    repeats[1:, 3] = np.nan  # one stimulus
    repeats[0, 4, 0] = np.inf
    truth[3, 5] = np.inf
    result = feve(truth, repeats, variant)
    assert np.isnan(result[:6]).all()
    assert np.isfinite(result[6])


def test_feve_refuses_what_it_cannot_place() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2, 5\)"):
        feve(np.ones((3, 2)), np.ones((4, 2, 5)))
    with pytest.raises(ValueError, match="'trials' or 'average'; got 'trial'"):
        feve(np.ones((3, 2)), np.ones((3, 2, 5)), variant="trial")


def test_finite_mean_counts_what_it_leaves_out() -> None:
    assert finite_mean(np.array([[1.0, np.nan], [np.inf, 2.0]])) == (1.5, 2)
    mean, left_out = finite_mean(torch.full((3,), torch.nan))
    assert np.isnan(mean)
    assert left_out == 3
    assert np.isnan(finite_mean([])[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-10, 10))
def test_units_may_be_permuted_scaled_and_shifted(seed: int, scale: float, shift: float) -> None:
    predicted, observed = _pair(seed)
    order = np.random.default_rng(seed).permutation(predicted.shape[1])
    expected = correlation(predicted, observed)[order]
    np.testing.assert_allclose(
        correlation(scale * predicted[:, order] + shift, observed[:, order]), expected, atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_torch_in_torch_out(dtype: torch.dtype) -> None:
    predicted, observed = (torch.tensor(values, dtype=dtype) for values in _pair())
    predicted.requires_grad_()
    result = correlation(predicted, observed)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == torch.float64
    expected = correlation(predicted.detach().double().numpy(), observed.double().numpy())
    np.testing.assert_array_equal(result.numpy(), expected)
    repeats = observed[:, :, None].repeat(1, 1, 2)
    for function in (correlation_to_average, normalized_correlation, feve):
        assert isinstance(function(predicted, repeats), torch.Tensor)


def test_public_names_exist_and_an_unknown_one_names_its_neighbour() -> None:
    assert all(getattr(metrics, name) is not None for name in metrics.__all__)
    assert set(metrics.__all__) <= set(dir(metrics))
    with pytest.raises(AttributeError, match="corelation"):
        _ = metrics.corelation


def test_importing_every_file_loads_neither_torch_nor_the_upper_floors() -> None:
    code = (
        "import sys, metrics; assert 'scipy' not in sys.modules;"
        "[getattr(metrics, n) for n in metrics.__all__];"
        "print(sorted({'torch', 'ray', 'sklearn', 'models', 'sweeps'} & set(sys.modules)))"
    )
    root = Path(metrics.__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
