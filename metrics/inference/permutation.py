"""Chance level of a correlation over time, by moving blocks of the prediction within runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, same_shape, to_labels, to_matrix
from metrics.timing import run_slices

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BUDGET = 2**18
"""Floats held at once for the products of blocks and for the null; few enough to stay in a cache."""

TIE = 1e-9
"""A permuted correlation this close below the observed one counts as equal: sums differ in their last digits."""


def _unit_length(values: Floats) -> Floats:
    """Columns centred and scaled to length 1; NaN throughout where one is constant or holds a NaN."""
    deviation = values - values.mean(axis=0)
    constant = np.abs(deviation).max(axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    return deviation / np.where(constant, np.nan, np.sqrt((deviation**2).sum(axis=0)))


def block_grids(runs: Array | None, times: int, block: int) -> list[NDArray[np.intp]]:
    """Sample indices of the whole blocks of each run, (blocks, block), for runs of at least two.

    Samples of a run must be consecutive only where blocks are longer than one sample. Edge rule: no run with two
    blocks is a ValueError.

    >>> [grid.tolist() for grid in block_grids([0, 0, 0, 0, 0, 1, 1], times=7, block=2)]
    [[[0, 1], [2, 3]]]
    """
    labels: NDArray[Any] = np.zeros(times, dtype=np.intp) if runs is None else to_labels(runs, "runs")
    if len(labels) != times:
        raise ValueError(f"runs must label every sample; got {len(labels)} labels for {times} samples")
    if block > 1:
        members = [np.arange(piece.start, piece.stop) for piece in run_slices(labels)]
    else:
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    grids = [one[: len(one) // block * block].reshape(-1, block) for one in members]
    grids = [grid for grid in grids if len(grid) > 1]
    if not grids:
        raise ValueError(f"none of {len(members)} runs ({times} samples) holds two blocks of {block} samples")
    return grids


def _orders(blocks: int, permutations: int, rng: np.random.Generator) -> csr_matrix:
    """A row per permutation with a 1 for each pair (block moved here, block here), (permutations, blocks^2)."""
    from scipy.sparse import csr_matrix

    moved = rng.permuted(np.tile(np.arange(blocks), (permutations, 1)), axis=1)
    columns = (moved * blocks + np.arange(blocks)).ravel()
    ends = np.arange(permutations + 1) * blocks
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(permutations, blocks**2))


def _products(predicted: Floats, observed: Floats) -> Floats:
    """Inner products of every predicted with every observed block, (blocks, block, units) -> (blocks^2, units)."""
    products = predicted.transpose(2, 0, 1) @ observed.transpose(2, 1, 0)
    return np.ascontiguousarray(products.reshape(len(products), -1).T)


def _null(predicted: Floats, observed: Floats, grids: list[NDArray[np.intp]], orders: list[csr_matrix]) -> Floats:
    """Correlations under every order of the blocks, (permutations, units), for columns of unit length."""
    fixed = np.ones(len(predicted), dtype=bool)
    fixed[np.concatenate([grid.ravel() for grid in grids])] = False
    null: Floats = np.tile((predicted[fixed] * observed[fixed]).sum(axis=0), (orders[0].shape[0], 1))
    for grid, order in zip(grids, orders, strict=True):
        null += order @ _products(predicted[grid], observed[grid])
    return null


def block_permutation_p(
    predicted: Array,
    observed: Array,
    block: int = 10,
    permutations: int = 1000,
    runs: Array | None = None,
    seed: int = 0,
    widen: float = 1.0,
) -> Array:
    """One-sided p-value of each unit's correlation against predictions whose blocks were shuffled in time.

    p = (1 + #{widen r_k >= r}) / (1 + permutations), r_k the Pearson correlation after the k-th random order of
    the prediction's blocks of ``block`` consecutive samples. Blocks stay within their run and all units share
    the orders; a rest shorter than a block stays in place, which errs towards a larger p.
    Shapes: predicted, observed (times, units), runs (times,) labels or None for one run -> (units,) in (0, 1].
    Blocks must be much longer than the autocorrelation, or p is too small: with one of rho^lag on both sides the
    null has (1 + 2 sum_k rho^2k (1 - k / block)) / (1 + 2 sum_k rho^2k) of the true variance. A block of 1 is for
    independent samples, whose runs need not be consecutive.
    ``widen`` is 1 for a prediction made without the observed responses. For leave-one-run-out take sqrt 2: each
    pair of runs is used twice, once in either role, and the two products are nearly the same, so without any
    relation the variance of r is up to twice that of r_k. Measured without a signal, 8 to 10 of 100 such units
    have p <= 0.05 when it is left at 1, and 2 to 3 with sqrt 2.
    Edge rule: a unit with a NaN or without spread is NaN; no run with two blocks, and numbers below 1, are
    ValueErrors.
    Source: block permutation as in fMRI encoding, p never 0 as in Phipson and Smyth 2010. Ours: blocks change
    order rather than being drawn with replacement, and ``widen``.

    >>> x = np.random.default_rng(0).normal(size=(200, 1))
    >>> block_permutation_p(x, x, permutations=199).tolist()
    [0.005]
    """
    first, second = to_matrix(predicted, "predicted"), to_matrix(observed, "observed")
    same_shape(first, second, "predicted and observed")
    if min(block, permutations, widen) < 1:
        raise ValueError(f"block, permutations and widen must be at least 1; got {block}, {permutations} and {widen}")
    grids, rng = block_grids(runs, len(first), block), np.random.default_rng(seed)
    orders = [_orders(len(grid), permutations, rng) for grid in grids]
    p = np.full(first.shape[1], np.nan)
    entries = max(permutations, len(first), *(len(grid) ** 2 for grid in grids))
    width = max(1, BUDGET // entries)
    for start in range(0, len(p), width):
        part = slice(start, start + width)
        x, y = _unit_length(first[:, part]), _unit_length(second[:, part])
        reached = (x * y).sum(axis=0)
        above = (widen * _null(x, y, grids, orders) >= reached - TIE).sum(axis=0)
        p[part] = np.where(np.isnan(reached), np.nan, (1 + above) / (1 + permutations))
    return like(p, predicted, observed)
