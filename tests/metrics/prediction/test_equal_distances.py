"""Patterns that are collinear or equal are at distance 0, exactly: no ranks or correlations are made of rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from metrics import rdm, rsa

KINDS = st.sampled_from([np.float32, np.float64])


def contrasts(stimuli: int, units: int, seed: int, kind: type, offset: float = 0.0) -> np.ndarray:
    """One pattern at many contrasts and over many levels, rounded to a type."""
    random = np.random.default_rng(seed)
    scale = np.abs(random.normal(size=stimuli)) + 0.1
    return (np.outer(scale, random.normal(size=units) + offset) + random.normal(size=(stimuli, 1))).astype(kind)


@given(seed=st.integers(0, 10**6), units=st.integers(3, 200), kind=KINDS, offset=st.sampled_from([0.0, 3.0, 50.0]))
@settings(max_examples=50, deadline=None)
def test_one_pattern_at_many_contrasts_has_no_similarity(seed: int, units: int, kind: type, offset: float) -> None:
    responses = contrasts(30, units, seed, kind, offset)
    other = rdm(np.random.default_rng(seed + 1).normal(size=(30, 8)))
    found = np.asarray(rdm(responses))
    assert not found.any()
    for compare in ("pearson", "spearman"):
        assert np.isnan(rsa(found, other, compare))
    mirrored = responses * np.where(np.arange(30) < 15, 1, -1)[:, None].astype(kind)
    assert set(np.asarray(rdm(mirrored)).ravel().tolist()) == {0.0, 2.0}


@given(seed=st.integers(0, 10**6), units=st.integers(4, 80), kind=KINDS)
@settings(max_examples=40, deadline=None)
def test_where_some_patterns_are_collinear_they_tie_and_the_order_of_units_is_nothing(
    seed: int, units: int, kind: type
) -> None:
    """Spearman against scipy on the distances with the planted ones set to 0 by hand."""
    random = np.random.default_rng(seed)
    responses = np.concatenate([contrasts(12, units, seed, kind), random.normal(size=(12, units)).astype(kind)])
    brain = np.asarray(rdm(random.normal(size=(24, 9))))
    order, upper = random.permutation(units), np.triu_indices(24, 1)
    by_hand = 1 - np.corrcoef(responses.astype(float))
    by_hand[:12, :12] = 0
    expected = spearmanr(np.round(by_hand[upper], 10), brain[upper]).statistic
    near = 1e-9 if kind is np.float64 else 2e-3  # distances to a third pattern differ by float32's rounding: no ties
    assert rsa(rdm(responses), brain, "spearman") == pytest.approx(expected, abs=near)
    assert rsa(rdm(responses[:, order]), brain, "spearman") == pytest.approx(expected, abs=near)
    assert not np.asarray(rdm(responses))[:12, :12].any()


@given(seed=st.integers(0, 10**6), units=st.integers(1, 60), kind=KINDS, offset=st.sampled_from([0.0, 1.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_squared_distances_of_equal_patterns_are_zero_and_small_ones_exact(
    seed: int, units: int, kind: type, offset: float
) -> None:
    """Against exact fractions, also far from the origin, where the product of the patterns loses every digit."""
    random = np.random.default_rng(seed)
    responses: np.ndarray = (random.normal(size=(6, units)) + offset).astype(kind)
    responses[1] = responses[0]
    responses[2] = responses[0] * (1 + 64 * np.finfo(kind).eps)
    found = np.asarray(rdm(responses, "euclidean"))
    assert found[0, 1] == found[1, 0] == 0.0
    numbers = [[Fraction(float(value)) for value in row] for row in responses]
    near = float(sum((a - b) ** 2 for a, b in zip(numbers[0], numbers[2], strict=True)) / units)
    assert found[0, 2] == pytest.approx(near, rel=1e-6)
    assert np.isnan(rsa(rdm(np.repeat(responses[:1], 6, axis=0), "euclidean"), rdm(random.normal(size=(6, 5)))))


@pytest.mark.parametrize("compare", ["pearson", "spearman"])
def test_patterns_that_are_all_equally_far_give_no_number(compare: str) -> None:
    """One unit each: all distances are equal, but for rounding that depends on the pair."""
    far = np.asarray(rdm(np.eye(25) * np.linspace(0.1, 0.7, 25)[:, None] + 0.3))
    assert len(np.unique(far[np.triu_indices(25, 1)])) > 1
    assert np.isnan(rsa(far, rdm(np.random.default_rng(0).normal(size=(25, 9))), compare))


def test_patterns_that_differ_a_little_are_not_equal() -> None:
    """A thousandth of the pattern is no rounding, in either type."""
    random = np.random.default_rng(3)
    pattern = random.normal(size=50)
    responses = pattern + 1e-3 * random.normal(size=(10, 50))
    for kind in (np.float32, np.float64):
        for distance in ("correlation", "euclidean"):
            found = np.asarray(rdm(responses.astype(kind), distance))
            assert (found[np.triu_indices(10, 1)] > 0).all()
