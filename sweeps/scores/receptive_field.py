"""Sizes of the twin's receptive fields, from noise pictures, for chosen trials."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics import finite_mean, receptive_field_area
from sweeps.scores.score import Score
from sweeps.scores.unit_error import mean_error
from sweeps.scores.view import CellView

SCORE = Score(
    "receptive-field",
    version=2,
    columns=("receptive_field", "receptive_field_units", "receptive_field_se"),
    up=False,
    summary="mean area of the units' receptive fields, as a share of the picture",
    seconds=20.0,
    absent="a twin of features that come without pictures has no receptive field",
    on_request=True,
    ordered=("receptive_field",),
    published={"receptive_field": "receptive_field_area"},
)

FRAMES = 64
"""Noise pictures at which the twin's responses are differentiated."""

GRID = 28
"""Noise pixels across the picture, at most; each covers a square of the picture's own."""

HALF_WIDTH = 3**0.5
"""Noise comes as uniform values of variance 1, between minus and plus this."""


def compute(view: CellView) -> dict[str, float]:
    """Mean area of the units' first-order receptive fields, as a share of the picture, and how many units have one.

    The mean gradient of each unit's response over pictures of coarse grey noise between black and white, which is what
    the paper's noise-weighted average estimates with far more pictures; smoothed, and fitted with a two-dimensional
    Gaussian (metrics.receptive_field_area). A unit whose field no Gaussian describes is left out: readouts that look
    everywhere, and units that see contrast or colour alone, have none. `receptive_field_se` is the mean's standard
    error over units. Select and report are the same, since nothing recorded enters.
    """
    if view.predictor is None:
        return SCORE.unavailable()
    areas = view.remember(("receptive-field", view.cell_id), lambda: _areas(view))
    mean, left_out = finite_mean(areas)
    return {
        "receptive_field": mean,
        "receptive_field_units": float(len(view.units) - left_out),
        "receptive_field_se": mean_error(areas),
    }


def _areas(view: CellView) -> np.ndarray:
    from torch.nn.functional import interpolate

    assert view.predictor is not None
    predictor = view.predictor()
    side = min(GRID, *predictor.shape)

    def rates(noise: Any) -> Any:
        grey = 0.5 + noise[:, None].to(predictor.device) / (2 * HALF_WIDTH)
        pictures = interpolate(grey, size=predictor.shape, mode="nearest")
        return predictor(pictures.expand(-1, 3, -1, -1))

    areas = receptive_field_area(
        rates, (side, side), frames=FRAMES, batch=16, seed=view.brain_seed, method="gradient", pixel_area=1 / side**2
    )
    return np.asarray(areas)
