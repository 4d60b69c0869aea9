"""How sure the prediction of a cell is: a bootstrap interval over stimulus groups, and its replicates for contrasts."""

from __future__ import annotations

import numpy as np

from metrics import bootstrap_correlation, bootstrap_interval, group_weights
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "interval",
    version=1,
    columns=("prediction_low", "prediction_high"),
    up=False,
    summary="95 % bootstrap interval of prediction over stimulus groups; taken where there are contrasts",
    seconds=0.01,
    on_request=True,
)

REPLICATES = 1000
"""Bootstrap replicates of the prediction, on resamples shared by all cells of a recording and split."""


def compute(view: CellView) -> dict[str, float]:
    """95 % bootstrap interval (percentiles) of `prediction` over stimulus groups."""
    low, high = bootstrap_interval(replicates(view))
    return {"prediction_low": low, "prediction_high": high}


def replicates(view: CellView) -> np.ndarray:
    """Replicates of `prediction` (REPLICATES,) float32: units that are predicted as constant count as 0 here too."""
    values: np.ndarray = view.remember(("replicates", view.cell_id, view.split), lambda: _drawn(view))
    return values


def _drawn(view: CellView) -> np.ndarray:
    groups = view.recording.groups[view.rows]
    key = ("weights", view.recording.fingerprint, view.split_seed, groups.tobytes())
    weights = view.remember(key, lambda: group_weights(groups, REPLICATES, seed=view.split_seed))
    varied = view.deviation > 0
    predicted = np.nanstd(view.predicted, axis=0) > 0
    draws = np.asarray(bootstrap_correlation(*view.beyond_mean(), groups, weights), dtype=np.float32)
    return draws * np.float32((varied & predicted).sum() / max(1, varied.sum()))
