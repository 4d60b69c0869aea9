"""Dimensionality of the twin's population beside the brain's, linear and nonlinear."""

from __future__ import annotations

import numpy as np

from metrics import closeness, noise_variance_of_mean, participation_ratio, two_nn
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "dimensionality",
    version=2,
    columns=(
        "dimensionality",
        "participation_ratio",
        "brain_participation_ratio",
        "participation_ratio_closeness",
        "two_nn",
        "brain_two_nn",
        "two_nn_closeness",
        "noise_matched",
    ),
    up=True,
    also_up=("participation_ratio_closeness", "two_nn_closeness"),
    summary="closeness of the twin's dimensionality to the brain's, linear and nonlinear",
    seconds=0.02,
    curves=tuple(
        f"{measure}_{what}"
        for measure in ("participation_ratio", "two_nn")
        for what in ("tau", "curve_distance", "collapse")
    ),
    shown={"dimensionality": None, "participation_ratio": "brain_participation_ratio", "two_nn": "brain_two_nn"},
)

FLAT = 1e-12
"""Units that vary less than this, in the twin or in the brain, are left out of both."""

DRAWS = 3
"""Random draws of units and of matched noise whose mean is taken."""


def compute(view: CellView) -> dict[str, float]:
    """Mean of exp(-|ln(twin / brain)|) of participation ratio and TwoNN, on the split's stimuli.

    Units are z-scored; every area of a recording is cut to the same number of units (drawn by the cell's
    seed). The brain's responses are repeat averages, so Gaussian noise of the variance of each unit's
    average is added to the twin's noise-free responses. Without repeats the noise is unknown: the twin is
    compared noise-free with the raw responses and `noise_matched` is 0.
    """
    observed = view.observed
    spread = view.of_brain("spread", lambda: np.sqrt(np.asarray(noise_variance_of_mean(view.repeats))))
    matched = bool(np.isfinite(spread).all())
    spread = spread if matched else np.zeros(len(view.units))
    complete = np.isfinite(observed).all(axis=1)
    observed, predicted = observed[complete], view.predicted[complete]
    random = view.random("dimensionality")
    draws = np.array([_draw(view, observed, predicted, spread, random) for _ in range(DRAWS)])
    twin_linear, brain_linear, twin_curved, brain_curved = draws.mean(axis=0)
    linear, curved = closeness(twin_linear, brain_linear), closeness(twin_curved, brain_curved)
    return {
        "dimensionality": (linear + curved) / 2,
        "participation_ratio": float(twin_linear),
        "brain_participation_ratio": float(brain_linear),
        "participation_ratio_closeness": linear,
        "two_nn": float(twin_curved),
        "brain_two_nn": float(brain_curved),
        "two_nn_closeness": curved,
        "noise_matched": float(matched),
    }


def _draw(
    view: CellView,
    observed: np.ndarray,
    predicted: np.ndarray,
    spread: np.ndarray,
    random: np.random.Generator,
) -> tuple[float, float, float, float]:
    noisy = predicted + spread * random.standard_normal(predicted.shape)
    varied = np.flatnonzero((noisy.std(axis=0) > FLAT) & (observed.std(axis=0) > FLAT))
    units = np.sort(random.permutation(varied)[: view.common_units])
    twin = standardised(noisy[:, units])
    brain = _of_brain(view, observed, units, drawn=len(varied) > view.common_units)
    return participation_ratio(twin), brain[0], two_nn(twin), brain[1]


def _of_brain(view: CellView, observed: np.ndarray, units: np.ndarray, drawn: bool) -> tuple[float, float]:
    """Participation ratio and TwoNN of the recorded responses; kept for other cells unless the units were drawn."""

    def compute() -> tuple[float, float]:
        brain = standardised(observed[:, units])
        return participation_ratio(brain), two_nn(brain)

    dimensions: tuple[float, float] = compute() if drawn else view.of_brain(("dimensions", units.tobytes()), compute)
    return dimensions


def standardised(responses: np.ndarray) -> np.ndarray:
    """Units z-scored."""
    return np.asarray((responses - responses.mean(axis=0)) / responses.std(axis=0))
