"""The two invariance batteries of the hierarchical-twin paper, for chosen trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from metrics import object_discriminability, rotation_decoding, trial_noise_variance
from metrics.invariance.decoding import transform_folds
from sweeps.scores.score import NO_PICTURES, Score
from sweeps.scores.unit_error import at_chance, jackknife_error
from sweeps.scores.view import CellView

SCORE = Score(
    "invariance-battery",
    version=2,
    columns=(
        "rotation_decoding",
        "rotation_decoding_clean",
        "brain_rotation_decoding",
        "object_discriminability",
        "object_discriminability_clean",
        "brain_object_discriminability",
        *(
            f"{name}_{what}"
            for name in ("rotation_decoding", "object_discriminability")
            for what in ("se", "at_chance")
        ),
    ),
    up=False,
    summary="rotation-invariant decoding (accuracy) and object discriminability (bits)",
    seconds=40.0,
    probe="objects",
    absent=f"{NO_PICTURES}; three objects in a half, and repeats for its noise, are needed",
    on_request=True,
    ordered=("rotation_decoding", "object_discriminability"),
    published={"rotation_decoding": "rotation_decoding", "object_discriminability": "object_discriminability"},
)

FEWEST_ROTATIONS = 5
FEWEST_OBJECTS = 3
BLOCKS = 10
"""Neighbouring transformations are cut into at most this many blocks: the static stand-in for clips."""

FEW = 3
"""Repetitions of a battery, of its 50, within every step of the jackknife over units; all steps have the same draws."""

Measure = Callable[..., float]


def compute(view: CellView) -> dict[str, float]:
    """Rotation-invariant object decoding and object discriminability of the probe's objects.

    `_clean` values are of the twin's noise-free responses; the others of the same responses with trial-like noise
    added (Gaussian, each unit's variance over repeats in the recording; without repeats NaN). Units whose noise is
    unknown are left out of both. Areas are cut to equal numbers of units. The folds of discriminability hold out blocks
    of neighbouring transformations of an object, as the paper's are to hold out clips. Select and report take
    different halves of the objects. `_se` is the standard error of the noisy values over units (jackknife over five
    blocks of units, with fewer repetitions), `_at_chance` whether they can be told from chance: a share of 1 / objects,
    and for bits the bias of a confusion matrix of so many views. The brain's values are of the recorded object views,
    where there are any, on repeat 1. Fewer than three objects in a half, or for rotations fewer than five of them, give
    NaN.
    """
    if "probe.objects" not in view.shown:
        return SCORE.unavailable()
    table = view.tables["objects"]
    chosen = view.half(table["object"])
    noise = np.sqrt(np.asarray(view.of_brain("trial noise", lambda: trial_noise_variance(view.repeats))))
    known = np.isfinite(noise) if np.isfinite(noise).any() else np.ones(len(noise), dtype=bool)
    clean, labels = view.shown["probe.objects"][chosen][:, known], table[chosen]
    noisy = clean + noise[known] * view.random("invariance-battery").standard_normal(clean.shape)
    values = {f"{name}_clean": measure(view, clean, labels, view.brain_seed) for name, measure in MEASURES.items()}
    values |= {name: measure(view, noisy, labels, view.brain_seed) for name, measure in MEASURES.items()}
    for name, measure in MEASURES.items():
        values |= _beside(view, name, measure, noisy, labels, values[name])
    return values | {f"brain_{name}": _brain(view, name, measure) for name, measure in MEASURES.items()}


def _beside(
    view: CellView, name: str, measure: Measure, noisy: np.ndarray, labels: pd.DataFrame, value: float
) -> dict[str, float]:
    """Standard error over units of a noisy value, and whether it is at chance."""
    error = float("nan")
    if not np.isnan(value):
        error = jackknife_error(
            noisy.shape[1],
            lambda units: measure(view, noisy[:, units], labels, view.brain_seed, repetitions=FEW),
            view.brain_seed,
        )
    return {f"{name}_se": error, f"{name}_at_chance": at_chance(value, error, CHANCE[name](labels))}


def _rotations(view: CellView, responses: np.ndarray, table: pd.DataFrame, seed: int, **options: Any) -> float:
    rotations = pd.to_numeric(table["transform"]).to_numpy()
    if len(np.unique(rotations)) < FEWEST_ROTATIONS or not _usable(responses, table):
        return float("nan")
    objects = table["object"].to_numpy(dtype=str)
    units = _units(view, responses)
    return rotation_decoding(responses, objects, rotations, units=units, seed=seed, **options)


def _discriminability(view: CellView, responses: np.ndarray, table: pd.DataFrame, seed: int, **options: Any) -> float:
    if not _usable(responses, table):
        return float("nan")
    objects = table["object"].to_numpy(dtype=str)
    blocks = transform_folds(pd.to_numeric(table["transform"]).to_numpy(), BLOCKS)
    groups = [f"{name}/{block}" for name, block in zip(objects, blocks, strict=True)]
    folds = min(10, len(np.unique(blocks)))
    units = _units(view, responses)
    return object_discriminability(responses, objects, groups, units=units, folds=folds, seed=seed, **options)


def _usable(responses: np.ndarray, table: pd.DataFrame) -> bool:
    return bool(np.isfinite(responses).all()) and table["object"].nunique() >= FEWEST_OBJECTS


def _units(view: CellView, responses: np.ndarray) -> int:
    return min(view.common_units, responses.shape[1])


def _brain(view: CellView, name: str, measure: Measure) -> float:
    if "objects" not in view.recording.sets:
        return float("nan")
    table = view.recording.sets["objects"].table
    chosen = view.half(table["object"])
    trials = view.presentations("objects")[chosen][:, :, 0].astype(np.float64)
    value: float = view.of_brain(f"battery {name}", lambda: measure(view, trials, table[chosen], view.brain_seed))
    return value


MEASURES: dict[str, Measure] = {"rotation_decoding": _rotations, "object_discriminability": _discriminability}

CHANCE: dict[str, Callable[[pd.DataFrame], float]] = {
    "rotation_decoding": lambda table: 1 / table["object"].nunique(),
    "object_discriminability": lambda table: float((table["object"].nunique() - 1) ** 2 / (2 * len(table) * np.log(2))),
}
"""Values of guessing: a share of the objects; the bias of the bits of a confusion matrix (see metrics)."""
