"""How likely the recorded responses are under the twin's rates."""

from __future__ import annotations

import numpy as np

from metrics import finite_mean, poisson_information
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "likelihood",
    version=1,
    columns=("likelihood", "likelihood_units"),
    up=True,
    summary="Poisson information about single trials, bits per observation beyond the unit's mean",
    seconds=0.01,
    absent="responses below zero have no Poisson likelihood, nor have predicted rates at or below zero",
    on_request=True,
)


def compute(view: CellView) -> dict[str, float]:
    """Poisson information of the twin's rates about single trials, bits per observation beyond each unit's mean.

    Responses below zero have no Poisson likelihood: then everything is NaN. A unit that is predicted at or below zero
    somewhere, as a linear readout may do, is NaN and left out; `likelihood_units` counts the others.
    """
    repeats = view.repeats
    if np.nanmin(repeats) < 0:
        return SCORE.unavailable()
    mean, left_out = finite_mean(poisson_information(repeats, view.predicted))
    return {"likelihood": mean, "likelihood_units": float(len(view.units) - left_out)}
