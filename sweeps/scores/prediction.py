"""How well the twin predicts the repeat average of held-out stimuli."""

from __future__ import annotations

import numpy as np

from metrics import correlation, noise_ceiling
from metrics.prediction.ceiled import area_ceiling, ratio_to_ceiling
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "prediction",
    version=3,
    columns=(
        "prediction",
        "prediction_ceiled",
        "prediction_ceiled_se",
        "prediction_constant_units",
        "brain_ceiling",
    ),
    up=True,
    also_up=("prediction_ceiled",),
    summary="mean over units of the correlation to the repeat average",
    seconds=0.02,
    shown={"prediction": "brain_ceiling", "prediction_ceiled": None},
)


def compute(view: CellView) -> dict[str, float]:
    """Mean over units of the correlation to the repeat average; the ceiled version in its own column.

    A unit that is predicted as constant has no correlation and counts as 0 (it predicts nothing), so that a twin
    cannot gain by failing on its bad units; `prediction_constant_units` counts them. `prediction_ceiled` is the area's
    mean correlation over its noise ceiling, sqrt(mean CC_max^2), with a jackknife error over stimulus groups (see
    metrics.ceiled_correlation); NaN without repeats, and where the ceiling cannot be told from 0. `brain_ceiling` is
    the mean over units of CC_max. Over concatenated folds both sides are taken beyond the mean of the fold's training
    stimuli (see CellView.beyond_mean).
    """
    predicted, observed = view.beyond_mean()
    raw = np.asarray(correlation(predicted, observed))
    varied = view.deviation > 0
    scored = np.where(np.isnan(raw) & varied, 0.0, raw)
    ceiling = np.asarray(view.of_brain("ceiling", lambda: noise_ceiling(view.repeats)))
    groups = view.recording.groups[view.rows]
    area = view.of_brain("area ceiling", lambda: area_ceiling(view.repeats, groups))
    ceiled = ratio_to_ceiling(predicted, observed, area, groups)
    return {
        "prediction": float(np.nanmean(scored)) if varied.any() else float("nan"),
        "prediction_ceiled": ceiled.value,
        "prediction_ceiled_se": ceiled.se,
        "prediction_constant_units": float((np.isnan(raw) & varied).sum()),
        "brain_ceiling": float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else float("nan"),
    }
