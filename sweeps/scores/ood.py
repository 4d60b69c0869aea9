"""How well the twin predicts stimuli of another kind than those that it was fitted to: the role `ood`."""

from __future__ import annotations

import numpy as np

from metrics import correlation, noise_ceiling
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "ood",
    version=1,
    columns=("ood_prediction", "ood_prediction_ceiled", "ood_brain_ceiling"),
    up=False,
    summary="prediction of stimuli of the role `ood`, which are never fitted or selected on",
    absent="the recording holds no stimuli of the role `ood`, or the twin is shown no pictures",
    seconds=0.01,
    on_request=True,
    shown={"ood_prediction": "ood_brain_ceiling"},
)

LEAST_CEILING = 0.1


def compute(view: CellView) -> dict[str, float]:
    """Mean over units of the correlation to the repeat average of the stimuli of the role `ood`.

    Predicted by the twin of the report, of outer folds by the mean of their twins; NaN on select, since nothing may be
    chosen by it. A unit that is predicted as constant counts as 0, one whose responses are constant is left out. The
    ceiled version is the sum of the correlations over the sum of the ceilings, of the units whose ceiling is at least
    0.1 on the stimuli of the fit: no response to an `ood` stimulus decides which units count. NaN without repeats.
    """
    predicted = view.shown.get("recorded.ood")
    if predicted is None or view.split == "select" or "ood" not in view.recording.sets:
        return SCORE.unavailable()
    observed = view.recording.sets["ood"].average[:, view.units]
    raw = np.asarray(correlation(predicted, observed))
    varied = np.nanmax(observed, axis=0, initial=-np.inf) > np.nanmin(observed, axis=0, initial=np.inf)
    scored = np.where(np.isnan(raw), 0.0, raw)
    ceiling = np.asarray(view.of_brain("ood ceiling", lambda: noise_ceiling(view.presentations("ood"))))
    usable = varied & np.isfinite(ceiling) & (_fit_ceiling(view) >= LEAST_CEILING)
    total = ceiling[usable].sum()
    return {
        "ood_prediction": float(scored[varied].mean()) if varied.any() else float("nan"),
        "ood_prediction_ceiled": float(scored[usable].sum() / total) if total > 0 else float("nan"),
        "ood_brain_ceiling": float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else float("nan"),
    }


def _fit_ceiling(view: CellView) -> np.ndarray:
    """Ceilings (units,) on all stimuli of the fit."""
    key = "ood units"
    return np.asarray(view.of_brain(key, lambda: noise_ceiling(view.recording.fit.responses[:, view.units])))
