"""How likely the recorded responses are under the twin's rates."""

from __future__ import annotations

import numpy as np

from metrics import finite_mean, poisson_information
from sweeps.scores import unavailable
from sweeps.scores.view import CellView


def likelihood(view: CellView) -> dict[str, float]:
    """Poisson information of the twin's rates about single trials, bits per observation beyond each unit's mean.

    Responses below zero have no Poisson likelihood: then everything is NaN. A unit that is predicted at or below zero
    somewhere, as a linear readout may do, is NaN and left out; `likelihood_units` counts the others.
    """
    repeats = view.repeats
    if np.nanmin(repeats) < 0:
        return unavailable("likelihood")
    mean, left_out = finite_mean(poisson_information(repeats, view.predicted))
    return {"likelihood": mean, "likelihood_units": float(len(view.units) - left_out)}
