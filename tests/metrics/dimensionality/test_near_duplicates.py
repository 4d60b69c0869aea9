"""Stimuli that differ by rounding alone are one point, whatever their number, order, offset or scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from metrics import count_duplicates, gride, levina_bickel, local_dimension, two_nn
from metrics.dimensionality._duplicates import groups_within, merged
from metrics.dimensionality._neighbors import distinct
from metrics.dimensionality.linear import centred


def estimates(responses: np.ndarray) -> list[float]:
    """Every estimator of this folder that looks at neighbours."""
    return [two_nn(responses), *gride(responses, (1, 4)).values(), levina_bickel(responses, 10)]


def jittered(clean: np.ndarray, copies: np.ndarray, seed: int, single: bool, offset: float) -> np.ndarray:
    """Rows repeated, with the rounding of one type: 1e-9 of the data's size, or float32's own."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(clean + offset, copies, axis=0)
    if single:
        return np.asarray(rows * (1 + 1e-7 * rng.standard_normal(rows.shape)), dtype=np.float32)
    return np.asarray(rows + 1e-9 * rng.standard_normal(rows.shape))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    single=st.booleans(),
    offset=st.sampled_from([0.0, 0.5, -3.0]),
    units=st.integers(3, 30),
    most=st.integers(2, 9),
)
def test_rows_equal_but_for_rounding_count_as_one_point(
    seed: int, single: bool, offset: float, units: int, most: int
) -> None:
    rng = np.random.default_rng(seed)
    clean = rng.random((80, units))
    copies = rng.integers(1, most + 1, size=80)
    rows = jittered(clean, copies, seed, single, offset)
    assert count_duplicates(rows) == copies.sum() - 80
    np.testing.assert_allclose(estimates(rows), estimates(clean), rtol=1e-4)
    shuffled = rng.permutation(len(rows))
    np.testing.assert_allclose(estimates(rows[shuffled]), estimates(rows), rtol=1e-9)
    np.testing.assert_allclose(estimates(rows[:, rng.permutation(units)]), estimates(rows), rtol=1e-9)
    if not single:  # of float32, a factor that is no power of two rounds anew
        np.testing.assert_allclose(estimates(1e4 * rows), estimates(rows), rtol=1e-9)
    local = local_dimension(rows)
    np.testing.assert_array_equal(local, np.repeat(local[np.cumsum(copies) - 1], copies))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), units=st.integers(1, 6), distance=st.floats(0.001, 0.5))
def test_groups_are_those_of_single_linkage(seed: int, units: int, distance: float) -> None:
    """Against scipy's hierarchical clustering, chains included; in any order of the rows."""
    rng = np.random.default_rng(seed)
    rows = rng.random((60, units))
    leader = groups_within(rows, distance)
    expected = fcluster(linkage(rows, "single"), distance, "distance")
    first = np.array([np.flatnonzero(expected == label)[0] for label in expected])
    np.testing.assert_array_equal(leader, first)
    order = rng.permutation(60)
    assert len(np.unique(groups_within(rows[order], distance))) == len(np.unique(leader))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), units=st.integers(2, 20), single=st.booleans(), outlier=st.booleans())
def test_ordinary_data_are_left_as_they_are_to_the_bit(seed: int, units: int, single: bool, outlier: bool) -> None:
    data = np.random.default_rng(seed).normal(size=(150, units)) * np.geomspace(1, 1e-3, units)
    data[3] *= 1e7 if outlier else 1
    data = data.astype(np.float32 if single else np.float64)
    points, values = centred(data), data.astype(np.float64)
    kept, index = merged(points, values)
    exact, same = distinct(points)
    assert kept.tobytes() == exact.tobytes()
    np.testing.assert_array_equal(index, same)


def test_a_chain_of_small_steps_is_one_point_and_a_larger_step_is_not() -> None:
    """a near b near c: one group, though a is far from c; a pair at a hundred times the distance stays two."""
    rng = np.random.default_rng(0)
    clean = rng.random((100, 4))
    step = np.array([8e-9, 0, 0, 0])
    chain = clean[:1] + np.arange(6)[:, None] * step * 0.5
    assert count_duplicates(np.concatenate([clean, chain])) == 6
    assert count_duplicates(np.concatenate([clean, clean[:1] + 100 * step])) == 0
    assert count_duplicates(np.concatenate([clean, clean[:1] + 100 * step]).astype(np.float32)) == 1


@pytest.mark.parametrize(("single", "pictures"), [(False, 2), (True, 2), (True, 1)])
def test_many_copies_of_few_pictures_have_no_dimension(single: bool, pictures: int) -> None:
    """One or two pictures, 300 times each: no number is made of rounding."""
    clean = np.random.default_rng(1).random((pictures, 8))
    rows = jittered(clean, np.full(pictures, 300), 2, single, 0.0)
    assert count_duplicates(rows) == 299 * pictures
    assert np.isnan(estimates(rows)).all()
