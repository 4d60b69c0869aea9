"""How sure the prediction of a cell is: an interval over stimulus groups, and what chance gives; with the draws."""

from __future__ import annotations

import math

import numpy as np

from metrics import (
    bootstrap_correlation,
    bootstrap_interval,
    group_orders,
    group_weights,
    permutation_p,
    permuted_correlation,
)
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "interval",
    version=2,
    columns=("prediction_low", "prediction_high", "prediction_p", "prediction_groups"),
    up=False,
    summary="95 % bootstrap interval of prediction over stimulus groups, and its p against chance",
    seconds=0.03,
)

REPLICATES = 1000
"""Bootstrap replicates of the prediction, on resamples shared by all cells of a recording and split."""

PERMUTATIONS = 500
"""Orders of the stimulus groups that give the prediction by chance, shared likewise."""

FOLDED = math.sqrt(2)
"""Out-of-fold predictions of noise spread more than their permutations: every pair of folds counts in either role.

Measured on ridge fits of noise in five folds: p <= .05 in 6 to 10 of 100 without it, in 2 to 3 with it.
"""


def compute(view: CellView) -> dict[str, float]:
    """95 % bootstrap interval (percentiles) of `prediction` over stimulus groups, and how often chance reaches it.

    p = (1 + #{null >= prediction}) / (1 + PERMUTATIONS), the null of predictions whose groups stand in another order.
    """
    low, high = bootstrap_interval(replicates(view))
    reached, null = _chances(view)[0], chance(view)
    columns = {"prediction_low": low, "prediction_high": high}
    return {**columns, "prediction_p": permutation_p(float(reached), null), "prediction_groups": _group_count(view)}


def draws(view: CellView) -> dict[str, np.ndarray]:
    """What is stored of a cell beside its scores: replicates of the prediction, and what chance gives."""
    return {"replicates": replicates(view), "chance": chance(view)}


def replicates(view: CellView) -> np.ndarray:
    """Replicates of `prediction` (REPLICATES,) float32: units that are predicted as constant count as 0 here too."""
    values: np.ndarray = view.remember(("replicates", view.cell_id, view.split), lambda: _drawn(view))
    return values


def chance(view: CellView) -> np.ndarray:
    """`prediction` once the groups of the predictions stand in other orders, (PERMUTATIONS,) float32.

    Of recordings that are predicted fold by fold it is FOLDED times as wide.
    """
    return _chances(view)[1:]


def _chances(view: CellView) -> np.ndarray:
    values: np.ndarray = view.remember(("chance", view.cell_id, view.split), lambda: _permuted(view))
    return values


def _groups(view: CellView) -> np.ndarray:
    return np.asarray(view.recording.groups[view.rows])


def _group_count(view: CellView) -> float:
    return float(len(np.unique(_groups(view))))


def _drawn(view: CellView) -> np.ndarray:
    groups = _groups(view)
    key = ("weights", view.recording.fingerprint, view.split_seed, groups.tobytes())
    weights = view.remember(key, lambda: group_weights(groups, REPLICATES, seed=view.split_seed))
    varied = view.deviation > 0
    predicted = np.nanstd(view.predicted, axis=0) > 0
    drawn = np.asarray(bootstrap_correlation(*view.beyond_mean(), groups, weights), dtype=np.float32)
    return drawn * np.float32((varied & predicted).sum() / max(1, varied.sum()))


def _permuted(view: CellView) -> np.ndarray:
    """The prediction in the given order of the groups, then in all others, (1 + PERMUTATIONS,)."""
    groups = _groups(view)
    key = ("orders", view.recording.fingerprint, view.split_seed, groups.tobytes())
    orders = view.remember(key, lambda: group_orders(groups, PERMUTATIONS, seed=view.split_seed))
    as_given = np.arange(orders.shape[1])[None]
    permuted = permuted_correlation(*view.beyond_mean(), groups, np.concatenate([as_given, orders]))
    width = np.where(np.arange(len(permuted)) > 0, FOLDED if _folded(view) else 1.0, 1.0)
    return np.asarray(permuted * width, dtype=np.float32)


def _folded(view: CellView) -> bool:
    """Whether the stimuli were predicted from more than one training set."""
    return bool((view.baseline != view.baseline[:1]).any())
