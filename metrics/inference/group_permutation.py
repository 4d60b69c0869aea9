"""Chance level of a prediction of grouped stimuli: the groups of the prediction in another order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, same_shape, to_labels, to_matrix

CHUNK = 512
"""Groups whose inner products with all groups are held at once; bounds memory at groups x CHUNK floats."""


def group_orders(groups: Array, permutations: int = 500, seed: int = 0) -> Array:
    """Random orders of the distinct groups: column g says which group's prediction stands in the place of group g.

    Every order of the G distinct groups has the probability 1 / G!.

    Shapes: groups (stimuli,) labels -> (permutations, G) indices of the groups in sorted order, each row all of them.
    Edge rule: no group is a ValueError. Source: random permutations, Good 2005; where all cells of a recording take the
    same orders, their nulls are paired.

    >>> np.sort(group_orders(["a", "b", "b"], permutations=2), axis=1).tolist()
    [[0, 1], [0, 1]]
    """
    distinct = len(np.unique(to_labels(groups, "groups")))
    if not distinct:
        raise ValueError("group_orders needs at least one group; got none")
    rows = np.tile(np.arange(distinct), (permutations, 1))
    return like(np.random.default_rng(seed).permuted(rows, axis=1), groups)


def permuted_correlation(predicted: Array, observed: Array, groups: Array, orders: Array) -> Array:
    """Mean over units of the correlation, once the prediction's groups stand in another order: what chance gives.

    With x, y of zero mean and unit length per unit, r_k = mean_u sum_g sum_j y_u[g, j] x_u[order_k(g), j mod n], n the
    size of group order_k(g): a group keeps the order of its own stimuli, and one that is shorter than its place is
    repeated, a longer one cut. For groups of one size that is the correlation itself. Compare with ``permutation_p``.
    Shapes: predicted, observed (stimuli, units), groups (stimuli,) labels, orders (permutations, groups) from
    ``group_orders`` -> (permutations,).
    Edge rule: pairs with a NaN are left out, and units without spread in what was observed; a unit that is predicted as
    constant counts as 0; no unit left, or a single group, gives NaN. Two groups have one other order, so that p is
    about a half at least; with G groups p is 1 / G! at least.
    Source: exchangeable groups, Good 2005. A prediction made without the observed responses has this null; where folds
    predict each other its variance is up to twice as large (see ``block_permutation_p``, ``widen``).

    >>> x = np.arange(6.0)[:, None]
    >>> permuted_correlation(x, x, [0, 0, 1, 1, 2, 2], [[0, 1, 2], [2, 1, 0]]).round(3).tolist()
    [1.0, -0.829]
    """
    first, second = to_matrix(predicted, "predicted"), to_matrix(observed, "observed")
    same_shape(first, second, "predicted and observed")
    names, group = np.unique(to_labels(groups, "groups"), return_inverse=True)
    order = np.asarray(to_matrix(orders, "orders"), dtype=np.intp)
    if len(group) != len(first) or order.shape[1] != len(names):
        raise ValueError(
            f"groups must label {len(first)} stimuli and orders have a column per distinct group; "
            f"got {len(group)} labels, {len(names)} groups, orders {order.shape}"
        )
    x, y = _paired(first, second)
    if len(names) < 2 or not y.shape[1]:
        return like(np.full(len(order), np.nan), predicted, observed)
    members = [np.flatnonzero(group == number) for number in range(len(names))]
    total = np.zeros(len(order))
    for start in range(0, len(names), CHUNK):
        places = np.arange(start, min(start + CHUNK, len(names)))
        products = _products(x, y, members, places)
        total += products[order[:, places], places - start].sum(axis=1)
    return like(total / y.shape[1], predicted, observed)


def _paired(predicted: Floats, observed: Floats) -> tuple[Floats, Floats]:
    """Both as columns of zero mean and unit length over the pairs that are there; observed is 0 where one lacks."""
    valid = ~(np.isnan(predicted) | np.isnan(observed))
    y = _unit_length(observed, valid)
    varied = (y != 0).any(axis=0)
    x = _unit_length(predicted[:, varied], valid[:, varied])
    return np.nan_to_num(x), np.where(valid, y, 0.0)[:, varied]


def _unit_length(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Columns less their mean, over their length, both over valid entries; 0 throughout where one is constant."""
    count = np.maximum(valid.sum(axis=0), 1)
    deviation = values - np.where(valid, values, 0.0).sum(axis=0) / count
    length = np.sqrt((np.where(valid, deviation, 0.0) ** 2).sum(axis=0))
    largest = np.where(valid, np.abs(values), 0.0).max(axis=0, initial=0.0)
    constant = length <= 1e-12 * np.sqrt(count) * largest
    return np.where(constant, 0.0, deviation / np.where(constant, 1.0, length))


def _products(x: Floats, y: Floats, members: list[NDArray[np.intp]], places: NDArray[np.intp]) -> Floats:
    """Inner products of every group's prediction, in the place of each of these groups, (groups, places)."""
    products = np.zeros((len(members), len(places)))
    for step in range(max(len(members[place]) for place in places)):
        longer = np.flatnonzero([len(members[place]) > step for place in places])
        moved = np.array([rows[step % len(rows)] for rows in members])
        there = np.array([members[places[number]][step] for number in longer])
        products[:, longer] += x[moved] @ y[there].T
    return products
