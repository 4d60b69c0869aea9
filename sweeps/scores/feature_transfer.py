"""Transfer between two feature sets of one recording: trained on one, tested on the other."""

from __future__ import annotations

import numpy as np

from sweeps.scores.prediction import compute as prediction
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "feature_transfer",
    version=2,
    columns=("feature_transfer", "feature_transfer_direct", "feature_transfer_other", "feature_transfer_null"),
    up=False,
    summary="trained on one feature set, tested on another through an alignment",
    seconds=0.1,
    absent="the recording brings no second feature set, or the twin is of pictures",
    shown={
        "feature_transfer": None,
        "feature_transfer_direct": None,
        "feature_transfer_other": None,
        "feature_transfer_null": None,
    },
)


def compute(view: CellView) -> dict[str, float]:
    """Prediction of a readout of one feature set from another set, aligned on training stimuli only.

    `direct` is the readout tested on its own set, `other` a readout trained and tested on the other set, and
    the null pairs the two sets at random before the alignment is fitted. With more than two sets the others
    are averaged.
    """
    transferred = view.transferred() if view.transferred else {}
    if not transferred:
        return SCORE.unavailable()
    scores = {name: _prediction(view, predicted) for name, predicted in transferred.items()}
    return {
        "feature_transfer": scores["transfer"],
        "feature_transfer_direct": _prediction(view, view.predicted[None]),
        "feature_transfer_other": scores["other"],
        "feature_transfer_null": scores["null"],
    }


def _prediction(view: CellView, predictions: np.ndarray) -> float:
    replaced = [CellView(**{**view.__dict__, "predicted": predicted}) for predicted in predictions]
    return float(np.mean([prediction(variant)["prediction"] for variant in replaced]))
