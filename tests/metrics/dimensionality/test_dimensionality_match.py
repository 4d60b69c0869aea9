"""Closeness, alignment and depth curves against closed forms and numerical integrals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from metrics import (
    closeness,
    collapse_index,
    depth_curve_similarity,
    depth_profile,
    dimensionality_alignment,
)

CURVES = st.lists(st.integers(1, 1000).map(lambda tenth: tenth / 10), min_size=3, max_size=12)
"""Numbers that are equal or clearly apart: those that differ in the last bit become equal in a profile."""


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


def test_the_profile_of_a_rise_and_of_a_late_collapse() -> None:
    rise = depth_profile(np.arange(1.0, 10.0))
    assert (rise.tau, rise.collapse) == (1.0, 1.0)
    assert rise.late_slope == pytest.approx(8 / 9)  # one ninth of the peak per eighth of the depth
    fall = depth_profile([1.0, 2, 3, 4, 5, 6, 5, 4, 3])
    assert fall.late_slope == pytest.approx(-8 / 6)
    assert fall.collapse == 0.5
    assert depth_profile([4.0, 4.0, 2.0]).late_slope == pytest.approx(-1.0)  # the last two of three depths


@settings(max_examples=40, deadline=None)
@given(CURVES, st.floats(0.01, 100))
def test_a_profile_has_no_unit_and_turns_with_the_curve(values: list[float], scale: float) -> None:
    profile, scaled = depth_profile(values), depth_profile(scale * np.array(values))
    np.testing.assert_allclose(profile.tau, kendalltau(values, np.arange(len(values))).statistic, atol=1e-12)
    np.testing.assert_allclose(scaled.late_slope, profile.late_slope, atol=1e-9)
    np.testing.assert_allclose(scaled.collapse, profile.collapse, rtol=1e-9)
    np.testing.assert_allclose(depth_profile(values[::-1]).tau, -profile.tau, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(CURVES, CURVES, st.floats(0.01, 100))
def test_curve_similarity_is_the_area_between_the_curves(twin: list[float], brain: list[float], scale: float) -> None:
    x = np.linspace(0, 1, 20001)
    first, second = (np.interp(x, np.linspace(0, 1, len(c)), np.array(c) / max(c)) for c in (twin, brain))
    expected = 1 - np.trapezoid(np.abs(first - second), x)
    assert depth_curve_similarity(twin, brain) == pytest.approx(expected, abs=1e-4)
    assert depth_curve_similarity(brain, twin) == pytest.approx(depth_curve_similarity(twin, brain), abs=1e-12)
    assert depth_curve_similarity(scale * np.array(twin), brain) == pytest.approx(expected, abs=1e-4)
    assert depth_curve_similarity(twin, twin) == 1.0


def test_curves_that_cross_between_their_depths_are_integrated_exactly() -> None:
    """The gap runs from -1/2 to 1/2 over the first half of the depth, and stays there over the second."""
    assert depth_curve_similarity([1.0, 2.0, 2.0], [2.0, 1.0, 1.0]) == pytest.approx(1 - 0.125 - 0.25)
    assert depth_curve_similarity([1.0, 1.5, 2.0], [2.0, 1.75, 1.5, 1.25, 1.0]) == pytest.approx(0.75)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [1.0, 0.0, 2.0], [1.0, float("nan"), 2.0], []])
def test_short_or_impossible_curves_have_no_profile_or_similarity(bad: list[float]) -> None:
    profile = depth_profile(bad)
    assert np.isnan([profile.tau, profile.late_slope, profile.collapse]).all()
    assert np.isnan(depth_curve_similarity(bad, [1.0, 2.0, 3.0]))
    assert np.isnan(depth_curve_similarity([1.0, 2.0, 3.0], bad))


def test_a_matrix_is_no_curve() -> None:
    for function in (depth_profile, lambda curve: depth_curve_similarity(curve, [1.0, 2.0, 3.0])):
        with pytest.raises(ValueError, match=r"a vector; got shape \(2, 3\)"):
            function(np.ones((2, 3)))
    assert np.isnan(depth_profile(np.ones(4)).tau)


def test_torch_in_torch_out() -> None:
    assert isinstance(dimensionality_alignment(torch.ones(3), torch.ones(3)).closeness, torch.Tensor)
    curve = torch.tensor([1.0, 2.0, 1.5])
    assert type(depth_profile(curve).late_slope) is float
    assert type(depth_curve_similarity(curve, [1.0, 2.0, 3.0])) is float
