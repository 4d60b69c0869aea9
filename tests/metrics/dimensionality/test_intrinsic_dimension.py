"""Neighbour estimators against scikit-dimension, planted manifolds and the published tables of their bias."""

import numpy as np
import pytest
import skdim
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from metrics import count_duplicates, gride, levina_bickel, local_dimension, two_nn
from metrics.dimensionality._neighbors import ROWS, nearest_distances
from metrics.dimensionality.intrinsic import _most_likely


def _coarse(responses: np.ndarray) -> float:
    """GRIDE at one scale, as the other estimators are: a number."""
    return gride(responses, (4,))[4]


ESTIMATORS = (two_nn, _coarse, levina_bickel)


def _nearest(points: np.ndarray, count: int) -> np.ndarray:
    return np.sort(cdist(points, points), axis=1)[:, 1 : count + 1]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("stimuli", [90, ROWS, 2 * ROWS + 77])
def test_neighbour_distances_equal_all_distances_sorted(count: int, stimuli: int) -> None:
    points = np.random.default_rng(count).normal(size=(stimuli, 20)) * np.geomspace(1, 1e-3, 20)
    np.testing.assert_allclose(nearest_distances(points, count), _nearest(points, count), rtol=1e-10)


def test_neighbour_distances_are_exact_far_from_the_origin() -> None:
    points = np.random.default_rng(2).normal(size=(400, 30)) * 1e-3 + 1.0
    np.testing.assert_allclose(nearest_distances(points, 5), _nearest(points, 5), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-14, 1.0), st.integers(1, 15))
def test_neighbour_distances_are_exact_within_tight_clusters(seed: int, spread: float, count: int) -> None:
    """Below about 1e-3 the points of a cluster are one in float32 products, below 1e-8 in float64 ones."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(9, 12))[rng.integers(9, size=150)] + spread * rng.normal(size=(150, 12))
    np.testing.assert_allclose(nearest_distances(points, count), _nearest(points, count), rtol=1e-12)


def test_neighbour_distances_hold_with_ties_and_outliers() -> None:
    counts = np.random.default_rng(0).poisson(1.0, size=(700, 6)).astype(float)
    np.testing.assert_array_equal(nearest_distances(counts, 9), _nearest(counts, 9))
    ordered = np.cumsum(np.random.default_rng(1).normal(size=(1200, 3)), axis=0)  # a path: neighbours come in order
    np.testing.assert_allclose(nearest_distances(ordered, 9), _nearest(ordered, 9), rtol=1e-12)
    ordered[5] = 1e7
    np.testing.assert_allclose(nearest_distances(ordered, 9), _nearest(ordered, 9), rtol=1e-12)


@pytest.mark.parametrize(("units", "stimuli"), [(3, 200), (40, 300), (60, 1500)])
@pytest.mark.parametrize("discard", [0.1, 0.35])
def test_two_nn_equals_scikit_dimension(units: int, stimuli: int, discard: float) -> None:
    data = np.random.default_rng(units).normal(size=(stimuli, units)) + 50
    expected = skdim.id.TwoNN(discard_fraction=discard).fit(data).dimension_
    assert two_nn(data, discard) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("units", "stimuli"), [(3, 200), (40, 300), (12, 1500)])
def test_gride_equals_scikit_dimension(units: int, stimuli: int) -> None:
    data = np.random.default_rng(units).normal(size=(stimuli, units)) + 50
    theirs = skdim.id.GRIDE(multiscale=True, range_max=128).fit(data)
    ours = gride(data)
    assert tuple(ours) == (1, 2, 4, 8, 16, 32, 64)
    np.testing.assert_allclose(list(ours.values()), theirs.dimension_scales_, rtol=1e-8)


@pytest.mark.parametrize("scale", [1, 3, 16])
def test_gride_maximises_the_likelihood_of_its_density(scale: int) -> None:
    """Ratios drawn from the model itself: d-th powers of distances are sums of exponential gaps."""
    truth, points = 7.0, 1000
    gaps = np.random.default_rng(scale).exponential(size=(points, 2 * scale))
    mu = (gaps.sum(axis=1) / gaps[:, :scale].sum(axis=1)) ** (1 / truth)

    def loss(d: float) -> float:
        density = np.log(d) + (scale - 1) * np.log(mu**d - 1) - ((2 * scale - 1) * d + 1) * np.log(mu)
        return float(-density.sum())

    expected = minimize_scalar(loss, bounds=(1, 30), method="bounded", options={"xatol": 1e-9}).x
    found = _most_likely(np.log(mu), scale)
    assert found == pytest.approx(expected, rel=1.5 / points)  # (N - 1) ln d in place of N ln d
    assert found == pytest.approx(truth, rel=4 / np.sqrt(points))


@pytest.mark.parametrize(("units", "neighbors"), [(3, 20), (12, 5), (12, 50)])
def test_levina_bickel_and_the_local_dimension_equal_scikit_dimension(units: int, neighbors: int) -> None:
    data = np.random.default_rng(units).normal(size=(300, units)) + 50
    theirs = skdim.id.MLE()
    assert levina_bickel(data, neighbors) == pytest.approx(theirs.fit_predict(data, n_neighbors=neighbors), rel=1e-9)
    np.testing.assert_allclose(local_dimension(data, neighbors), theirs.dimension_pw_, rtol=1e-9)


DEVIATION = {1: 0.03, 2: 0.02, 8: 0.01, 32: 0.006}
"""Relative deviation over random draws of 2,000 points, for GRIDE at these scales; at 1, of TwoNN. From 20 draws."""


def _close_to_table(draws: list[list[float]], scales: tuple[int, ...], published: list[float], rounding: float) -> None:
    """Published values are one draw each, rounded; two of ours have to lie within 4 deviations of a difference."""
    limit = 4 * np.sqrt(1 + 1 / 2) * np.array([DEVIATION[scale] for scale in scales]) * published + rounding
    np.testing.assert_array_less(np.abs(np.mean(draws, axis=0) - published), limit, f"{draws} for {published}")


@pytest.mark.parametrize(
    ("dimension", "published"),
    [
        (5, [5.1, 4.8, 4.5, 4.2]),
        (10, [8.2, 8.2, 8.0, 7.7]),
        (20, [15.1, 14.9, 14.4, 13.0]),
        (50, [31.6, 30.2, 27.4, 24.4]),
    ],
)
def test_the_bias_on_cubes_is_the_published_one(dimension: int, published: list[float]) -> None:
    """TwoNN and GRIDE at k = 2, 8, 32 of 2,000 points in a uniform cube."""
    data = [np.random.default_rng(seed).random((2000, dimension)) for seed in range(2)]
    draws = [[two_nn(points), *gride(points, (2, 8, 32)).values()] for points in data]
    _close_to_table(draws, (1, 2, 8, 32), published, rounding=0.05)


def _noisy(ratio: float, seed: int) -> np.ndarray:
    """A 5-D Gaussian signal in 500 channels, and white noise at a ratio of variances."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(2000, 5)) @ rng.normal(size=(5, 500))
    return signal + rng.normal(size=signal.shape) * np.sqrt(signal.var(axis=0).mean() / ratio)


@pytest.mark.parametrize(
    ("ratio", "published"),
    [(np.inf, [5.0, 5.0, 4.8]), (10.0, [18.2, 9.8, 7.5]), (1.0, [64.6, 39.6, 27.2]), (0.1, [112.0, 86.7, 71.6])],
)
def test_the_rise_with_noise_is_the_published_one(ratio: float, published: list[float]) -> None:
    """TwoNN and GRIDE at k = 8 and 32."""
    data = [_noisy(ratio, seed) for seed in range(2)]
    draws = [[two_nn(points), *gride(points, (8, 32)).values()] for points in data]
    _close_to_table(draws, (1, 8, 32), published, rounding=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_duplicates_are_merged_and_counted(dtype: type) -> None:
    data = (np.random.default_rng(3).normal(size=(600, 100)) + 30).astype(dtype)
    copied = np.concatenate([data, data[:20], data[:5]])[np.random.default_rng(0).permutation(625)]
    assert count_duplicates(data) == 0
    assert count_duplicates(copied) == 25
    for estimator in ESTIMATORS:
        assert estimator(copied) == pytest.approx(estimator(data), rel=1e-9)
    local = local_dimension(np.concatenate([data, data[:20]]))
    np.testing.assert_array_equal(local[600:], local[:20])
    np.testing.assert_allclose(local[:600], local_dimension(data), rtol=1e-9)


def test_a_first_unit_that_is_constant_or_signed_zero_hides_no_duplicates() -> None:
    data = np.random.default_rng(0).normal(size=(50, 4)) * [0, 1, 1, 1]
    assert count_duplicates(data) == 0
    assert count_duplicates(np.concatenate([data, data[::5]])) == 10
    signed = np.zeros((4, 2))
    signed[1] = -0.0
    assert count_duplicates(signed) == 3
    assert count_duplicates(np.empty((0, 3))) == 0
    for estimator in ESTIMATORS:
        assert np.isnan(estimator(signed))


@pytest.mark.parametrize("data", [np.full((9, 4), 0.1), np.ones((1, 3)), np.zeros((5, 2)), np.empty((0, 3)), np.eye(2)])
def test_constant_or_too_few_data_have_no_dimension(data: np.ndarray) -> None:
    for estimator in ESTIMATORS:
        assert np.isnan(estimator(data))
    assert np.isnan(list(gride(data).values())).all()
    assert np.isnan(local_dimension(data)).all()
    assert local_dimension(data).shape == (len(data),)


def test_data_whose_neighbours_are_all_equally_far_have_no_dimension() -> None:
    assert np.isnan(two_nn(np.arange(10.0)[:, None] @ np.ones((1, 2)), discard=0.5))  # a lattice
    for estimator in ESTIMATORS:
        assert np.isnan(estimator(np.eye(30) / 3))
    assert np.isnan(local_dimension(np.eye(30) / 3)).all()


def test_missing_responses_and_impossible_arguments_are_refused() -> None:
    data = np.ones((5, 3))
    data[2, 1] = np.nan
    for function in (*ESTIMATORS, count_duplicates, local_dimension):
        with pytest.raises(ValueError, match="1 NaN or infinite entries of 15"):
            function(data)
    with pytest.raises(ValueError, match="discard"):
        two_nn(np.eye(5), discard=1.0)
    with pytest.raises(ValueError, match=r"scales must be whole.*\[0, 1.5\]"):
        gride(np.eye(5), scales=(0, 1, 1.5))  # type: ignore[arg-type]
    for function in (levina_bickel, local_dimension):
        with pytest.raises(ValueError, match="neighbors must be 2 or more; got 1"):
            function(np.eye(5), 1)


def test_a_scale_needs_more_points_than_neighbours() -> None:
    data = np.random.default_rng(0).normal(size=(17, 3))
    assert [np.isnan(value) for value in gride(data, (4, 8, 9, 64)).values()] == [False, False, True, True]
    assert not np.isnan(levina_bickel(data, 16))
    assert np.isnan(levina_bickel(data, 17))
    assert two_nn(np.random.default_rng(0).normal(size=(50, 3)), discard=0.0) > 0


def test_the_local_dimension_tells_the_parts_of_a_union() -> None:
    rng = np.random.default_rng(0)
    line, ball = np.zeros((400, 10)), np.zeros((400, 10))
    line[:, 0], ball[:, :6] = rng.normal(size=400), rng.normal(size=(400, 6)) + 100
    local = local_dimension(np.concatenate([line, ball]))
    assert np.median(local[:400]) == pytest.approx(1.0, abs=0.15)
    assert np.median(local[400:]) == pytest.approx(levina_bickel(ball), rel=0.1)
    assert np.median(local[400:]) > 4
    np.testing.assert_allclose(local[:400], local_dimension(line), rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(10, 1000))
def test_the_union_of_two_clouds_of_one_dimension_has_that_dimension(seed: int, dimension: int, apart: float) -> None:
    rng = np.random.default_rng(seed)
    clouds = np.zeros((2, 500, 8))
    clouds[:, :, :dimension] = rng.random((2, 500, dimension))
    clouds[1] = clouds[1] @ ortho_group.rvs(8, random_state=seed) + apart
    union = np.concatenate(clouds)
    assert two_nn(union) == pytest.approx(dimension, rel=0.25)  # 4 deviations of about 1.3 / sqrt(1000), and its bias
    for estimator in ESTIMATORS:
        parts = [estimator(cloud) for cloud in clouds]
        assert min(parts) * (1 - 0.02) < estimator(union) < max(parts) * (1 + 0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_rotation_scale_shift_and_order_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(60, 6)) * np.linspace(0.3, 2, 6)
    order = rng.permutation(60)
    turned = scale * (data @ ortho_group.rvs(6, random_state=seed) + rng.normal(size=6))[order]
    for estimator in ESTIMATORS:
        assert estimator(turned) == pytest.approx(estimator(data), rel=1e-6)
        assert estimator(data[:, rng.permutation(6)]) == pytest.approx(estimator(data), rel=1e-9)
    np.testing.assert_allclose(local_dimension(turned), local_dimension(data)[order], rtol=1e-6)


def test_torch_in_torch_out() -> None:
    data = np.random.default_rng(0).normal(size=(80, 5))
    for estimator in ESTIMATORS:
        result = estimator(torch.tensor(data))
        assert type(result) is float
        assert result == estimator(data)
    assert isinstance(local_dimension(torch.tensor(data)), torch.Tensor)
    assert type(count_duplicates(torch.tensor(data))) is int
