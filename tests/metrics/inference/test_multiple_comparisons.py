"""Adjusted p-values against SciPy and the definitions, and the error rates they promise on planted effects."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm

from metrics.inference.multiple_comparisons import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(P_VALUES)
def test_benjamini_hochberg_equals_scipy(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(P_VALUES, st.floats(0.001, 0.999))
def test_holm_rejects_as_the_step_down_procedure(p: list[float], level: float) -> None:
    rejected = np.zeros(len(p), dtype=bool)
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) > level:
            break
        rejected[index] = True
    np.testing.assert_array_equal(holm(p) <= level, rejected)


@settings(max_examples=50, deadline=None)
@given(P_VALUES, st.integers(0, 10**6))
def test_order_and_ties_do_not_matter_and_nothing_shrinks(p: list[float], seed: int) -> None:
    values = np.array(p + p[:3])
    order = np.random.default_rng(seed).permutation(len(values))
    for adjust in (benjamini_hochberg, holm):
        np.testing.assert_allclose(adjust(values[order]), adjust(values)[order], rtol=1e-12)
        assert (adjust(values) >= values * (1 - 1e-12)).all()
        assert (adjust(values) <= 1).all()
    assert (holm(values) >= benjamini_hochberg(values) * (1 - 1e-12)).all()


@pytest.mark.parametrize("adjust", [benjamini_hochberg, holm])
def test_missing_p_values_stay_and_do_not_count(adjust: object) -> None:
    found = adjust(np.array([[0.01, np.nan], [0.04, 0.5]]))
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[[0, 1, 1], [0, 0, 1]], adjust([0.01, 0.04, 0.5]))
    assert np.isnan(found[0, 1])
    assert np.isnan(adjust([np.nan, np.nan])).all()
    assert adjust([]).shape == (0,)
    assert adjust([0.3]).tolist() == [0.3]
    for bad in ([1.1], [-0.1, 0.5]):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            adjust(bad)
    assert isinstance(adjust(torch.tensor([0.1, 0.2])), torch.Tensor)


def _planted(seed: int, effects: int = 30, tests: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p of normal scores of which the first ``effects`` are shifted, and which are not."""
    scores = np.random.default_rng(seed).normal(size=(400, tests))
    scores[:, :effects] += 3.0
    return norm.sf(scores), np.arange(tests) >= effects


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_planted_false_discovery_rate_holds_and_is_reached(level: float) -> None:
    p, null = _planted(0)
    found = np.array([benjamini_hochberg(one) <= level for one in p])
    share = (found & null).sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    assert share.mean() == pytest.approx(0.7 * level, abs=4 * share.std() / 20)  # exact: level times the nulls' share
    assert found[:, ~null].mean() > 0.7


def test_the_family_wise_error_holds() -> None:
    p, null = _planted(1)
    wrong = np.array([(holm(one) <= 0.1)[null].any() for one in p])
    assert wrong.mean() < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)
    naive = (p[:, null] <= 0.1).any(axis=1)
    assert naive.mean() > 0.9  # what the adjustment is there to prevent
