"""Sparse random projections against scikit-learn's, by size, moments and distances; delays against copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.metrics import pairwise_distances
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

from metrics import delayed
from models.linear.delays import Lags
from models.linear.projection import SparseProjection, johnson_lindenstrauss_size

pytestmark = pytest.mark.filterwarnings(f"ignore::{DataDimensionalityWarning.__module__}.DataDimensionalityWarning")


@pytest.mark.parametrize(
    ("stimuli", "eps", "size"),
    [
        (118, 0.1, 4089),
        (119, 0.1, 4096),
        (500, 0.1, 5326),
        (1000, 0.1, 5920),
        (119, 0.2, 1102),
        (119, 0.5, 229),
    ],
)
def test_sizes_are_those_of_the_published_table_and_of_scikit_learn(stimuli: int, eps: float, size: int) -> None:
    assert johnson_lindenstrauss_size(stimuli, eps) == size == johnson_lindenstrauss_min_dim(stimuli, eps=eps)


@pytest.mark.parametrize(("stimuli", "eps"), [(1, 0.1), (10, 0.0), (10, 1.0)])
def test_a_size_needs_two_stimuli_and_a_tolerance_between_0_and_1(stimuli: int, eps: float) -> None:
    with pytest.raises(ValueError, match=r"at least 2 stimuli|between 0 and 1"):
        johnson_lindenstrauss_size(stimuli, eps)


@pytest.mark.parametrize(("features", "size"), [(900, 400), (900, 2000), (1, 50)])
def test_entries_have_the_values_and_the_density_of_scikit_learn(features: int, size: int) -> None:
    """Projection to fewer columns, to more (up), and of a single feature, whose density is 1."""
    ours = SparseProjection(features, size, seed=3).matrix(torch.zeros(0, dtype=torch.float64)).to_dense().numpy()
    theirs = SparseRandomProjection(n_components=size, random_state=0)
    peer = np.asarray(theirs.fit(np.zeros((2, features))).components_ @ np.eye(features))
    assert ours.shape == peer.shape
    np.testing.assert_allclose(np.unique(np.abs(ours)), np.unique(np.abs(peer)), rtol=1e-12)
    cells, density = features * size, 1 / np.sqrt(features)
    spread = np.sqrt(cells * density * (1 - density))
    for matrix in (ours, peer):
        assert abs((matrix != 0).sum() - cells * density) <= 4 * spread
        assert abs(np.sign(matrix).sum()) <= 4 * np.sqrt(cells * density)
        assert abs((matrix**2).sum() / features - 1) <= 4 * spread / (cells * density) + 1e-9


def test_entries_are_independent_in_rows_and_columns() -> None:
    """Counts of entries vary over rows and columns as binomials do, and neighbours are not alike."""
    matrix = SparseProjection(400, 3000, seed=1).matrix(torch.zeros(0, dtype=torch.float64)).to_dense().numpy() != 0
    density = 1 / 20
    for axis, trials in ((0, 3000), (1, 400)):
        counts = matrix.sum(axis=axis)
        assert counts.var() == pytest.approx(trials * density * (1 - density), rel=0.25)
    both = (matrix[:, 1:] & matrix[:, :-1]).mean()
    assert both == pytest.approx(density**2, rel=0.1)


@pytest.mark.parametrize("features", [2000, 100])
def test_distances_are_kept_as_well_as_by_scikit_learn(features: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((40, features))
    size = johnson_lindenstrauss_size(40, 0.3)
    apart = np.triu_indices(40, 1)

    def distortion(projected: np.ndarray) -> np.ndarray:
        return pairwise_distances(projected)[apart] ** 2 / pairwise_distances(x)[apart] ** 2

    ours = distortion(SparseProjection(features, size, seed=0)(torch.from_numpy(x)).numpy())
    peer = distortion(SparseRandomProjection(n_components=size, random_state=0).fit_transform(x))
    for found in (ours, peer):
        assert 1 - 1.2 * 0.3 < found.min() < found.max() < 1 + 1.2 * 0.3
    assert ours.mean() == pytest.approx(1, abs=0.05)
    assert ours.std() == pytest.approx(peer.std(), rel=0.35)


def test_squared_lengths_are_right_on_average_over_seeds() -> None:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 60)))
    ratios = [(SparseProjection(60, 30, seed)(x) ** 2).sum(1) / (x**2).sum(1) for seed in range(200)]
    found = torch.stack(ratios)
    error = found.std(dim=0) / 200**0.5
    assert ((found.mean(dim=0) - 1).abs() < 4 * error).all()


def test_a_seed_decides_alone_and_weights_come_back_through_the_transpose() -> None:
    state = torch.get_rng_state()
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((7, 50)))
    one, again, other = (SparseProjection(50, 90, seed) for seed in (4, 4, 5))
    assert torch.equal(one(x), again(x))
    assert not torch.equal(one(x), other(x))
    weights = torch.from_numpy(np.random.default_rng(3).standard_normal((90, 3)))
    torch.testing.assert_close(x @ one.back(weights), one(x) @ weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one(x.float()), one(x).float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_numbers_of_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes 50 features; got \(2, 49\)"):
        SparseProjection(50, 10, 0)(torch.zeros(2, 49))
    with pytest.raises(ValueError, match="at least 1 feature"):
        SparseProjection(0, 10, 0)


RUNS = np.repeat(["a", "b", "c"], [5, 1, 6])


@pytest.mark.parametrize("delays", [1, 3, 7])
def test_kernels_with_delays_are_those_of_delayed_copies_within_runs(delays: int) -> None:
    """`metrics.delayed` makes the copies; 7 is beyond every run."""
    x = np.random.default_rng(0).standard_normal((12, 4))
    copies = torch.from_numpy(np.asarray(delayed(x, range(1, delays + 1), RUNS)))
    lags, held = Lags.within(RUNS, delays), torch.from_numpy(x)
    torch.testing.assert_close(lags.of_features(held), copies, rtol=0, atol=0)
    torch.testing.assert_close(lags.of_kernel(held @ held.T), copies @ copies.T)


def test_what_is_shown_is_held_for_as_long_as_the_readout_looks_back() -> None:
    random = np.random.default_rng(1)
    x, shown = (torch.from_numpy(random.standard_normal((rows, 4))) for rows in (12, 3))
    dual = torch.from_numpy(random.standard_normal((12, 2)))
    lags = Lags.within(RUNS, 3)
    copies = lags.of_features(x)
    kernel = lags.of_shown(shown @ x.T)
    torch.testing.assert_close(kernel, shown.repeat(1, 3) @ copies.T)
    torch.testing.assert_close(shown @ (x.T @ lags.of_dual(dual)), kernel @ dual)


def test_delays_need_runs_in_one_piece_of_more_than_one_sample() -> None:
    with pytest.raises(ValueError, match="3 stretches of 2 runs"):
        Lags.within(np.array(["a", "b", "a"]), 1)
    with pytest.raises(ValueError, match="longest of 3 runs has one"):
        Lags.within(np.array(["a", "b", "c"]), 1)
