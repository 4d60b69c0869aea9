"""Representational similarity against rsatoolbox, SciPy and scikit-learn, and the sign that is easily lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold

from metrics import rdm, rsa, rsr


def population(stimuli: int = 20, units: int = 9, seed: int = 0) -> np.ndarray:
    """Responses with a mean pattern, so that correlations are not around zero."""
    random = np.random.default_rng(seed)
    return random.standard_normal((stimuli, units)) + 2 * random.standard_normal(units)


@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_an_rdm_equals_rsatoolbox_and_scipy(distance: str) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    responses = population()
    found = np.asarray(rdm(responses, distance))
    peer = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(responses), method=distance)
    np.testing.assert_allclose(found, peer.get_matrices()[0], atol=1e-10)
    scale = 1 if distance == "correlation" else responses.shape[1]
    spread = pdist(responses, "correlation" if distance == "correlation" else "sqeuclidean")
    np.testing.assert_allclose(found, squareform(spread) / scale, atol=1e-10)


@pytest.mark.parametrize(("compare", "method"), [("pearson", "corr"), ("spearman", "spearman")])
def test_a_comparison_equals_rsatoolbox_and_scipy(compare: str, method: str) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    first, second = population(seed=1), population(seed=1) + population(seed=2)
    found = rsa(rdm(first), rdm(second), compare)
    pair = [rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(each), method="correlation") for each in (first, second)]
    assert found == pytest.approx(float(rsatoolbox.rdm.compare(*pair, method=method)[0, 0]), abs=1e-10)
    upper = np.triu_indices(20, 1)
    peer = (pearsonr if compare == "pearson" else spearmanr)(*(np.asarray(rdm(x))[upper] for x in (first, second)))
    assert found == pytest.approx(float(peer.statistic), abs=1e-10)
    assert 0.2 < found < 1


def test_a_correlation_matrix_in_the_place_of_an_rdm_turns_the_sign_round() -> None:
    first, second = np.asarray(rdm(population(seed=1))), np.asarray(rdm(population(seed=1) + population(seed=2)))
    assert rsa(1 - first, second) == pytest.approx(-rsa(first, second))
    assert rsa(1 - first, 1 - second) == pytest.approx(rsa(first, second))


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_shift_scale_and_order_of_a_pattern_change_nothing(shift: float, scale: float, seed: int) -> None:
    responses = population(8, 6, seed)
    order = np.random.default_rng(seed).permutation(6)
    changed = scale * responses[:, order] + shift
    np.testing.assert_allclose(rdm(changed), rdm(responses), atol=1e-9)
    np.testing.assert_allclose(rdm(changed, "euclidean"), scale**2 * np.asarray(rdm(responses, "euclidean")), atol=1e-8)


def test_patterns_that_are_constant_or_of_one_unit_have_no_correlation() -> None:
    responses = population(6, 5)
    responses[2] = 3.0
    found = np.asarray(rdm(responses))
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    kept = np.delete(np.arange(6), 2)
    assert np.isfinite(found[np.ix_(kept, kept)]).all()
    assert (found.diagonal()[kept] == 0).all()
    assert np.isnan(rdm(population(6, 1))).all()
    assert rsa(found, rdm(population(6, 5, seed=1))) == pytest.approx(
        rsa(found[np.ix_(kept, kept)], np.asarray(rdm(population(6, 5, seed=1)))[np.ix_(kept, kept)])
    )


def test_too_few_pairs_and_equal_entries_are_nan() -> None:
    small = rdm(population(2))
    assert np.isnan(rsa(small, small))
    assert np.isnan(rsa(np.ones((5, 5)), rdm(population(5))))
    assert np.isnan(rsa(np.full((5, 5), np.nan), rdm(population(5))))


def regression(target: np.ndarray, layers: list[np.ndarray], folds: int) -> float:
    """The released procedure in scikit-learn: a cell is tested if either image is, predictions are averaged."""
    stimuli = len(target)
    upper = np.triu_indices(stimuli, 1)
    x, y = np.stack([layer[upper] for layer in layers], axis=1), target[upper]
    predictions = np.full((folds, len(y)), np.nan)
    for fold, (_, test) in enumerate(KFold(folds).split(np.arange(stimuli))):
        out = np.isin(upper[0], test) | np.isin(upper[1], test)
        model = LinearRegression(positive=True).fit(x[~out], y[~out])
        predictions[fold, out] = model.predict(x[out])
    return float(pearsonr(np.nanmean(predictions, axis=0), y).statistic)


@pytest.mark.parametrize("folds", [6, 4])
def test_a_regression_on_rdms_equals_scikit_learn(folds: int) -> None:
    layers = [np.asarray(rdm(population(23, 8, seed))) for seed in range(4)]
    noise = np.random.default_rng(9).standard_normal((23, 23)) / 5
    target = 0.5 * layers[0] - 0.7 * layers[1] + 2 * layers[3] + noise + noise.T
    assert rsr(target, np.stack(layers), folds) == pytest.approx(regression(target, layers, folds), abs=1e-8)


def test_a_planted_sum_is_recovered_and_unlike_layers_predict_nothing() -> None:
    layers = np.stack([rdm(population(18, 8, seed)) for seed in range(3)])
    assert rsr(1 + 3 * layers[1] + 0.5 * layers[2], layers) == pytest.approx(1, abs=1e-9)
    found = [rsr(rdm(population(18, 8, seed)), layers) for seed in range(100, 130)]
    assert -0.3 < np.mean(found) < 0


def test_regression_leaves_missing_pairs_out_and_is_nan_without_a_fit() -> None:
    layers = np.stack([rdm(population(12, 8, seed)) for seed in range(2)])
    target = layers[0] + 2 * layers[1]
    target[3, 5] = np.nan
    assert rsr(target, layers) == pytest.approx(1, abs=1e-9)
    assert np.isnan(rsr(rdm(population(3)), layers[:, :3, :3], folds=2))


def test_other_shapes_and_words_are_refused() -> None:
    one = rdm(population(5))
    with pytest.raises(ValueError, match="'correlation' or 'euclidean'; got 'cosine'"):
        rdm(population(), "cosine")
    with pytest.raises(ValueError, match=r"first must be \(stimuli, stimuli\); got shape \(20, 9\)"):
        rsa(population(), one)
    with pytest.raises(ValueError, match="same stimuli; got 10 and 6 pairs"):
        rsa(one, rdm(population(4)))
    with pytest.raises(ValueError, match="'pearson' or 'spearman'"):
        rsa(one, one, "kendall")
    with pytest.raises(ValueError, match=r"predictors must be \(layers, stimuli, stimuli\)"):
        rsr(one, one)
    with pytest.raises(ValueError, match="from 2 up to the 5 stimuli; got 6"):
        rsr(one, np.asarray(one)[None])
