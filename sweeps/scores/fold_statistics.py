"""What a driver needs to score any choice of twins per outer fold: select scores and sums, without predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics import correlation
from sweeps.recordings.splits import Fold
from sweeps.scores.view import CellView

SUMS = 6
"""Sums of a unit over stimuli: count, predicted, observed, both squared, and their product."""

CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding: the unit is constant."""


@dataclass(frozen=True)
class FoldStatistics:
    """Of one cell: `select` (folds,), its prediction on each fold's select set, and `sums` (folds, units, SUMS).

    Sums are over the report set of a fold, predicted and observed each less the mean of the fold's training stimuli
    (see CellView.beyond_mean), so that those of several folds, of the same cell or of others, add up.
    """

    select: np.ndarray
    sums: np.ndarray


def fold_statistics(select: CellView, report: CellView, folds: Sequence[Fold]) -> FoldStatistics:
    """Reduce the held-out predictions of a cell, on both splits, to what a choice per fold needs."""
    chosen = [_score(*(values[np.isin(select.rows, fold.select)] for values in select.beyond_mean())) for fold in folds]
    beyond = report.beyond_mean()
    sums = [_sums(*(values[np.isin(report.rows, fold.report)] for values in beyond)) for fold in folds]
    return FoldStatistics(np.array(chosen), np.array(sums))


def prediction_of(sums: np.ndarray) -> float:
    """Mean over units of the correlation over the stimuli that sums (units, SUMS) are of; NaN where no unit varies.

    r = (S_xy - S_x S_y / n) / sqrt((S_xx - S_x^2 / n) (S_yy - S_y^2 / n)). As in the score `prediction`, a unit that
    is predicted as constant counts as 0, and one whose responses are constant is left out.
    """
    count, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    n = np.maximum(count, 1)
    of_x, of_y = xx - x**2 / n, yy - y**2 / n
    recorded = (count > 1) & (of_y > CONSTANT * yy)
    predicted = of_x > CONSTANT * xx
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (xy - x * y / n) / np.sqrt(of_x * of_y)
    return float(np.where(predicted, r, 0.0)[recorded].mean()) if recorded.any() else float("nan")


def _score(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Mean over units of the correlation within one fold; constant predictions count as 0."""
    if len(predicted) < 2:
        return float("nan")
    raw = np.asarray(correlation(predicted, observed))
    varied = _varies(observed)
    scored = np.where(np.isnan(raw), 0.0, raw)[varied]
    return float(scored.mean()) if len(scored) else float("nan")


def _varies(observed: np.ndarray) -> np.ndarray:
    present = np.isfinite(observed)
    high = np.where(present, observed, -np.inf).max(axis=0)
    return np.asarray(present.any(axis=0) & (high > np.where(present, observed, np.inf).min(axis=0)))


def _sums(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Sums (units, SUMS) over the stimuli with a response."""
    present = np.isfinite(observed) & np.isfinite(predicted)
    x, y = np.where(present, predicted, 0.0), np.where(present, observed, 0.0)
    return np.stack([part.sum(axis=0) for part in (present, x, y, x**2, y**2, x * y)], axis=-1)
