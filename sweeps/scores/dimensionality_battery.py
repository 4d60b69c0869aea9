"""Dimensionality at every scale, with nulls and controls, for chosen trials."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metrics import (
    cross_validated_participation_ratio,
    gride,
    levina_bickel,
    participation_ratio,
    pooled,
    shuffled_dimension,
    spectrum_slope,
    two_nn,
)
from sweeps.scores.dimensionality import standardised
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "dimensionality-battery",
    version=2,
    columns=(
        "levina_bickel",
        "brain_levina_bickel",
        *(f"{who}gride_{scale}" for scale in (2, 8, 32) for who in ("", "brain_")),
        "spectrum_slope",
        "brain_spectrum_slope",
        "clean_participation_ratio",
        "brain_cross_validated_participation_ratio",
        "shuffled_participation_ratio",
        *(f"features_{how}_{name}" for how in ("pooled", "flat") for name in ("participation_ratio", "two_nn")),
    ),
    up=False,
    summary="dimension by scale, local and cross-validated, with nulls, of twin, brain and features",
    seconds=0.1,
    on_request=True,
    ordered=("levina_bickel", "clean_participation_ratio"),
)

SCALES = (2, 8, 32)


def compute(view: CellView) -> dict[str, float]:
    """Estimators beyond the headline score, of the twin's noise-free responses and of the brain's repeat averages.

    GRIDE at ranks 2, 8 and 32, Levina-Bickel (the local dimension, averaged), the slope of the eigenspectrum, the
    participation ratio of the twin beside the brain's cross-validated one (from halves of the repeats, which noise
    does not inflate), the shuffled null, and the participation ratio and TwoNN of the features that the twin reads,
    pooled over space and flattened. Units are z-scored and cut to equal numbers over areas.
    """
    complete = np.isfinite(view.observed).all(axis=1)
    varied = np.flatnonzero((view.predicted[complete].std(axis=0) > 0) & (view.observed[complete].std(axis=0) > 0))
    if complete.sum() < 5 or not len(varied):
        return SCORE.unavailable()
    units = np.sort(view.random("dimensionality-battery").permutation(varied)[: view.common_units])
    twin = standardised(view.predicted[complete][:, units])
    brain = standardised(view.observed[complete][:, units])
    values = _estimates(twin) | {f"brain_{name}": value for name, value in _estimates(brain).items()}
    values["clean_participation_ratio"] = participation_ratio(twin)
    values["brain_cross_validated_participation_ratio"] = _cross_validated(view, complete, units)
    values["shuffled_participation_ratio"] = float(
        np.mean(shuffled_dimension(twin, participation_ratio, draws=10, seed=view.brain_seed))
    )
    return values | _features(view)


def _estimates(responses: np.ndarray) -> dict[str, float]:
    by_scale = gride(responses, SCALES)
    return {
        "levina_bickel": levina_bickel(responses, neighbors=min(20, len(responses) - 1)),
        **{f"gride_{scale}": by_scale[scale] for scale in SCALES},
        "spectrum_slope": spectrum_slope(responses),
    }


def _cross_validated(view: CellView, complete: np.ndarray, units: np.ndarray) -> float:
    """The brain's participation ratio from two halves of its repeats; NaN without two repeats of every stimulus."""
    if (np.isfinite(view.repeats[complete][:, units]).sum(axis=2) < 2).any():
        return float("nan")
    return cross_validated_participation_ratio(*_halves(view, complete, units))


def _halves(view: CellView, complete: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages of every other repeat (stimuli, units), scaled to unit variance of the whole average."""
    repeats = view.repeats[complete][:, units].astype(np.float64)
    order = np.argsort(np.isnan(repeats), axis=2, kind="stable")  # repeats that are there come first
    there = np.take_along_axis(repeats, order, axis=2)
    spread = np.nanmean(repeats, axis=2).std(axis=0)
    return np.nanmean(there[:, :, 0::2], axis=2) / spread, np.nanmean(there[:, :, 1::2], axis=2) / spread


def _features(view: CellView) -> dict[str, float]:
    measures: dict[str, Callable[[np.ndarray], float]] = {"participation_ratio": participation_ratio, "two_nn": two_nn}
    if view.maps is None:
        return {f"features_{how}_{name}": float("nan") for how in ("pooled", "flat") for name in measures}
    maps = view.maps()
    kinds = {"pooled": pooled(maps, how="mean"), "flat": maps.reshape(len(maps), -1)}
    return {f"features_{how}_{name}": get(kind) for how, kind in kinds.items() for name, get in measures.items()}
