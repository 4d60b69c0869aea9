"""Participation ratio and TwoNN against eigenvalues, scikit-dimension and planted manifolds."""

import numpy as np
import pytest
import skdim
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from metrics import closeness, collapse_index, dimensionality_alignment, participation_ratio, two_nn
from metrics.dimensionality import _two_nearest


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (40, 40), (50, 1)])
def test_participation_ratio_equals_its_definition(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 3, shape[1]) + 7
    values = np.linalg.eigvalsh(np.cov(data.T).reshape(shape[1], shape[1]))
    assert participation_ratio(data) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)


def test_participation_ratio_has_the_known_sampling_bias() -> None:
    data = np.random.default_rng(1).normal(size=(500, 1000))
    assert participation_ratio(data) == pytest.approx(500 * 1000 / 1500, rel=0.01)


@pytest.mark.parametrize("data", [np.full((9, 4), 0.1), np.ones((1, 3)), np.zeros((5, 2)), np.empty((0, 3))])
def test_constant_or_single_data_have_no_dimension(data: np.ndarray) -> None:
    assert np.isnan(participation_ratio(data))
    assert np.isnan(two_nn(data))


def test_missing_responses_are_refused() -> None:
    data = np.ones((5, 3))
    data[2, 1] = np.nan
    for function in (participation_ratio, two_nn):
        with pytest.raises(ValueError, match="1 NaN or infinite entries of 15"):
            function(data)


@pytest.mark.parametrize(("units", "stimuli"), [(3, 200), (40, 300), (60, 1500)])
@pytest.mark.parametrize("discard", [0.1, 0.35])
def test_two_nn_equals_scikit_dimension(units: int, stimuli: int, discard: float) -> None:
    data = np.random.default_rng(units).normal(size=(stimuli, units)) + 50
    expected = skdim.id.TwoNN(discard_fraction=discard).fit(data).dimension_
    assert two_nn(data, discard) == pytest.approx(expected, rel=1e-9)


def test_two_nn_of_a_cube() -> None:
    data = np.random.default_rng(0).random((2000, 5)) @ np.random.default_rng(1).normal(size=(5, 60))
    assert two_nn(data) == pytest.approx(5.0, abs=0.4)


def test_neighbour_distances_are_exact_far_from_the_origin() -> None:
    data = np.random.default_rng(2).normal(size=(400, 30)) * 1e-3 + 1.0
    expected = np.sort(cdist(data, data), axis=1)[:, 1:3]
    np.testing.assert_allclose(_two_nearest(data), expected, rtol=1e-12)


def test_duplicates_are_merged() -> None:
    data = np.random.default_rng(3).normal(size=(300, 10))
    copied = np.concatenate([data, data[:50], data[:20]])
    assert two_nn(copied) == pytest.approx(two_nn(data), rel=1e-12)
    signed = np.zeros((4, 2))
    signed[1] = -0.0
    assert np.isnan(two_nn(signed))


def test_two_nn_edge_rules() -> None:
    assert np.isnan(two_nn(np.eye(2)))
    assert np.isnan(two_nn(np.arange(10.0)[:, None] @ np.ones((1, 2)), discard=0.5))  # a lattice
    assert np.isnan(two_nn(np.eye(30) / 3))  # all distances equal
    assert two_nn(np.random.default_rng(0).normal(size=(50, 3)), discard=0.0) > 0
    with pytest.raises(ValueError, match="discard"):
        two_nn(np.eye(5), discard=1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_rotation_scale_shift_and_order_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(60, 6)) * np.linspace(0.3, 2, 6)
    rotated = scale * (data @ ortho_group.rvs(6, random_state=seed) + rng.normal(size=6))[rng.permutation(60)]
    assert participation_ratio(rotated) == pytest.approx(participation_ratio(data), rel=1e-8)
    assert two_nn(rotated) == pytest.approx(two_nn(data), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0.1, 10))
def test_closeness_is_a_symmetric_ratio(twin: float, brain: float, scale: float) -> None:
    assert closeness(twin, brain) == pytest.approx(np.exp(-abs(np.log(twin / brain))))
    assert closeness(twin, brain) == closeness(brain, twin)
    assert closeness(scale * twin, scale * brain) == pytest.approx(closeness(twin, brain))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_closeness_of_an_impossible_dimension_is_nan(bad: float) -> None:
    assert np.isnan(closeness(bad, 2.0))
    assert np.isnan(closeness(2.0, bad))


def test_collapse_index() -> None:
    assert collapse_index([2, 5, 10]) == 1.0
    assert collapse_index([2, 10, 5]) == 0.5
    assert np.isnan(collapse_index([2, 10]))
    assert np.isnan(collapse_index([2, float("nan"), 5]))


def test_alignment_of_equal_and_of_reversed_curves() -> None:
    brain = np.array([3.0, 6.0, 9.0, 12.0])
    same = dimensionality_alignment(2 * brain, brain)
    np.testing.assert_allclose(same.closeness, 0.5)
    assert (same.tau, same.curve_distance, same.curve_similarity, same.collapse) == (1.0, 0.0, 1.0, 1.0)
    turned = dimensionality_alignment(brain[::-1], brain)
    assert (turned.tau, turned.collapse) == (-1.0, 0.25)
    assert turned.curve_distance == pytest.approx(np.abs(np.array([-3, -1, 1, 3]) / 4).mean())


def test_alignment_is_nan_below_three_areas_but_closeness_stays() -> None:
    two = dimensionality_alignment([1.0, 2.0], [2.0, 2.0])
    assert two.closeness.tolist() == [0.5, 1.0]
    assert np.isnan([two.tau, two.curve_distance, two.collapse]).all()
    missing = dimensionality_alignment([1.0, float("nan"), 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    assert np.isnan(missing.closeness[1])
    assert (missing.tau, missing.curve_distance) == (1.0, 0.0)
    assert np.isnan(missing.collapse)


def test_torch_in_torch_out() -> None:
    data = np.random.default_rng(0).normal(size=(80, 5))
    for function in (participation_ratio, two_nn):
        result = function(torch.tensor(data))
        assert type(result) is float
        assert result == function(data)
    assert isinstance(dimensionality_alignment(torch.ones(3), torch.ones(3)).closeness, torch.Tensor)
