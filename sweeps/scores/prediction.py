"""How well the twin predicts the repeat average of held-out stimuli."""

from __future__ import annotations

import numpy as np

from metrics import correlation, noise_ceiling
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "prediction",
    version=2,
    columns=("prediction", "prediction_ceiled", "prediction_constant_units", "brain_ceiling"),
    up=True,
    also_up=("prediction_ceiled",),
    summary="mean over units of the correlation to the repeat average",
    seconds=0.01,
    shown={"prediction": "brain_ceiling", "prediction_ceiled": None},
)


def compute(view: CellView) -> dict[str, float]:
    """Mean over units of the correlation to the repeat average; the ceiled version in its own column.

    A unit that is predicted as constant has no correlation and counts as 0 (it predicts nothing), so that a twin
    cannot gain by failing on its bad units; `prediction_constant_units` counts them. The ceiled mean takes units whose
    ceiling is at least 0.1. Without repeats ceiling and ceiled version are NaN. Over concatenated folds both sides are
    taken beyond the mean of the fold's training stimuli (see CellView.beyond_mean).
    """
    raw = np.asarray(correlation(*view.beyond_mean()))
    varied = view.deviation > 0
    scored = np.where(np.isnan(raw) & varied, 0.0, raw)
    ceiling = np.asarray(view.of_brain("ceiling", lambda: noise_ceiling(view.repeats)))
    usable = ceiling >= 0.1
    return {
        "prediction": float(np.nanmean(scored)) if varied.any() else float("nan"),
        "prediction_ceiled": float(np.mean(scored[usable] / ceiling[usable])) if usable.any() else float("nan"),
        "prediction_constant_units": float((np.isnan(raw) & varied).sum()),
        "brain_ceiling": float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else float("nan"),
    }
