"""How nonlinear the twin's readout is: the dispersion of its Jacobian over stimuli (JNE)."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics import finite_mean, jne_streaming
from sweeps.scores.score import Score
from sweeps.scores.unit_error import mean_error
from sweeps.scores.view import CellView

SCORE = Score(
    "nonlinearity",
    version=2,
    columns=(
        "nonlinearity",
        "nonlinearity_deviation",
        "nonlinearity_scale_free",
        "nonlinearity_units",
        "nonlinearity_se",
    ),
    up=False,
    summary="dispersion of the readout's Jacobian over stimuli (JNE)",
    seconds=4.0,
    absent="a linear readout has the same Jacobian everywhere, by construction",
    on_request=True,
    ordered=("nonlinearity",),
)

SAMPLES = 200
"""Stimuli, drawn by what was recorded, at which the Jacobian is taken."""


def compute(view: CellView) -> dict[str, float]:
    """Mean over units of JNE of the readout with respect to the maps it reads, at the split's stimuli.

    Beside it the mean deviation (JNE is blind to a fair switch between two states) and their ratio, which no gain
    changes; means over the readouts of the folds. A linear readout has none by construction: NaN. Gradient readouts
    are fitted again for it.
    """
    if view.predictor is None or view.linear:
        return SCORE.unavailable()
    predictor = view.predictor()
    rows = np.sort(view.random("nonlinearity").permutation(view.rows)[:SAMPLES])
    measures = [jne_streaming(readout, _maps(view, predictor, maps, rows)) for maps, readout in predictor.parts]
    columns = {name: np.mean([getattr(part, name) for part in measures], axis=0) for name in MEASURES}
    means = {column: finite_mean(columns[name])[0] for name, column in MEASURES.items()}
    counted = float(np.isfinite(columns["jne"]).sum())
    return means | {"nonlinearity_units": counted, "nonlinearity_se": mean_error(columns["jne"])}


MEASURES = {"jne": "nonlinearity", "mean_deviation": "nonlinearity_deviation", "scale_free": "nonlinearity_scale_free"}


def _maps(view: CellView, predictor: Any, maps: Any, rows: np.ndarray) -> Any:
    """What a readout reads of some of the recording's pictures, (rows, channels, h, w)."""
    import torch

    from models.inputs.tensors import BATCH, as_images

    images = view.recording.fit.images
    assert images is not None, "predictors are asked of recordings with pictures"
    pictures = np.concatenate([images(slice(row, row + 1)) for row in rows])
    with torch.no_grad():
        return torch.cat(
            [maps(as_images(part, predictor.device)) for part in np.array_split(pictures, -(-len(rows) // BATCH))]
        )
