"""How near the twin's invariance comes to the brain's, on the object views that were recorded."""

from __future__ import annotations

import numpy as np

from metrics import noise_variance_of_mean
from sweeps.scores.invariance import brain_invariance, recorded_views
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "invariance_alignment",
    version=2,
    columns=("invariance_alignment",),
    up=True,
    summary="1 - |twin - brain| of object decoding on the recorded object views",
    seconds=0.03,
    absent="the recording holds no responses to object views",
    shown={"invariance_alignment": None},
)


def compute(view: CellView) -> dict[str, float]:
    """1 - |twin - brain| of the decoding of the recorded object views.

    Noise matched to the recording (Gaussian, the variance of each unit's repeat average) is added to the
    twin's noise-free responses, drawn three times by the cell's seed. Without repeats nothing is added.
    """
    if "objects" not in view.recording.sets or "recorded.objects" not in view.shown:
        return SCORE.unavailable()
    views = recorded_views(view)
    spread = view.of_brain("spread of object views", lambda: _spread(view))
    random = view.random("invariance_alignment")
    clean = view.shown["recorded.objects"][views.chosen]
    twins = [views.decode_chosen(clean + spread * random.standard_normal(clean.shape)) for _ in range(3)]
    return {"invariance_alignment": 1.0 - abs(float(np.mean(twins)) - brain_invariance(view))}


def _spread(view: CellView) -> np.ndarray:
    return np.sqrt(np.nan_to_num(np.asarray(noise_variance_of_mean(view.recorded("objects"))), nan=0.0))
