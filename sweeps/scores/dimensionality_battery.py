"""Dimensionality at every scale, with nulls and controls, for chosen trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metrics import (
    cross_validated_participation_ratio,
    dimension_at_size,
    gride,
    levina_bickel,
    participation_ratio,
    pooled,
    shuffled_dimension,
    spectrum_slope,
    two_nn,
)
from sweeps.hashing import digest_bytes
from sweeps.scores.dimensionality import standardised
from sweeps.scores.score import Score
from sweeps.scores.unit_error import jackknife_error
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
        "levina_bickel_se",
        "clean_participation_ratio_se",
        *(
            f"features_{how}_{name}{suffix}"
            for how in ("pooled", "flat")
            for name in ("participation_ratio", "two_nn")
            for suffix in ("", "_spread", "_raw")
        ),
        "features_pooled_channels",
        "features_flat_features",
    ),
    up=False,
    summary="dimension by scale, local and cross-validated, with nulls, of twin, brain and features",
    seconds=1.0,
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

    A dimension rises with the number of features alone, and deeper blocks have more. So features are cut, by random
    draws, to the channels (flattened: the features) of the narrowest block of the backbone, whichever blocks a sweep
    reads; the numbers stand beside. The mean over draws is settled to `_spread`, its standard error over the mean;
    `_raw` is of all features, which does not compare over depths.
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
    return values | _errors(view, twin) | _features(view)


def _errors(view: CellView, twin: np.ndarray) -> dict[str, float]:
    """Standard errors over units, of the measures that are compared between areas."""
    units = twin.shape[1]
    return {
        "levina_bickel_se": jackknife_error(units, lambda kept: _local(twin[:, kept]), view.brain_seed),
        "clean_participation_ratio_se": jackknife_error(
            units, lambda kept: participation_ratio(twin[:, kept]), view.brain_seed
        ),
    }


def _local(responses: np.ndarray) -> float:
    return levina_bickel(responses, neighbors=min(20, len(responses) - 1))


def _estimates(responses: np.ndarray) -> dict[str, float]:
    by_scale = gride(responses, SCALES)
    return {
        "levina_bickel": _local(responses),
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
    if view.maps is None:
        return {column: float("nan") for column in SCORE.columns if column.startswith("features_")}
    maps = view.maps()
    kinds = {"pooled": pooled(maps, how="mean"), "flat": maps.reshape(len(maps), -1)}
    channels, features = view.narrowest() if view.narrowest else (part.shape[1] for part in kinds.values())
    sizes = {"pooled": int(channels), "flat": int(features)}
    seed = _draw_seed(view)
    key = ("dimensions of features", digest_bytes([repr(maps.shape).encode(), maps.tobytes()]), *sizes.values(), seed)
    return dict(view.remember(key, lambda: _dimensions(kinds, sizes, seed)))


def _dimensions(kinds: Mapping[str, np.ndarray], sizes: Mapping[str, int], seed: int) -> dict[str, float]:
    """What areas, readouts and seeds that read the same features share."""
    values = {"features_pooled_channels": float(sizes["pooled"]), "features_flat_features": float(sizes["flat"])}
    for how, features in kinds.items():
        for name, measure in MEASURES.items():
            values |= _at_equal_size(f"features_{how}_{name}", features, measure, sizes[how], seed)
    return values


def _at_equal_size(
    column: str, features: np.ndarray, measure: Callable[[np.ndarray], float], size: int, seed: int
) -> dict[str, float]:
    """A dimension at a number of features, how settled it is, and that of all features."""
    equal = dimension_at_size(features, measure, size, seed=seed)
    raw = measure(features) if size < features.shape[1] else equal.mean
    return {column: equal.mean, f"{column}_spread": equal.spread, f"{column}_raw": raw}


def _draw_seed(view: CellView) -> int:
    """Seed of the draws of features: the same for every backbone, area and readout shown the same stimuli."""
    return int(digest_bytes([view.recording.fingerprint.encode(), view.rows.tobytes()])[:12], 16)


MEASURES: dict[str, Callable[[np.ndarray], float]] = {"participation_ratio": participation_ratio, "two_nn": two_nn}
