"""Representational similarity: whether stimuli that are alike to the brain are alike to the twin."""

from __future__ import annotations

import warnings

import numpy as np

from metrics import rdm
from metrics import rsa as agreement
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "rsa",
    version=2,
    columns=("rsa", "rsa_features", "rsa_ceiling"),
    up=True,
    summary="correlation of the dissimilarities of stimuli, predicted with recorded, beside that of the features",
    seconds=0.05,
    absent="three units and three stimuli that all of them were shown are needed, and repeats for the ceiling",
    on_request=True,
    shown={"rsa": "rsa_ceiling"},
)

HALVINGS = 20
"""Random halvings of the repeats whose mean is the ceiling."""

FEWEST_UNITS = 3
"""Patterns of fewer units have no correlation worth the name: with two it is -1 or 1."""


def compute(view: CellView) -> dict[str, float]:
    """Pearson correlation of RDMs (1 - r over units, entries above the diagonal) over the split's stimuli.

    `rsa` compares predicted with recorded responses, both less each unit's mean over the training stimuli, so that the
    pattern that all stimuli share does not decide (a choice of ours; data that are z-scored per unit have it too).
    `rsa_features` compares the features themselves, unweighted and raw as in the field, with the brain. `rsa_ceiling`
    compares two halves of the repeats, the mean of random halvings, not corrected for their length. Stimuli that a unit
    misses are left out. NaN below three units or three stimuli, and the ceiling without repeats.
    """
    predicted, observed = view.beyond_mean()
    complete = np.isfinite(observed).all(axis=1)
    if len(view.units) < FEWEST_UNITS or complete.sum() < FEWEST_UNITS:
        return SCORE.unavailable()
    brain = np.asarray(rdm(observed[complete]))
    return {
        "rsa": agreement(rdm(predicted[complete]), brain),
        "rsa_features": _of_features(view, complete, brain),
        "rsa_ceiling": float(view.of_brain("rsa", lambda: _ceiling(view))),
    }


def _of_features(view: CellView, complete: np.ndarray, brain: np.ndarray) -> float:
    if view.maps is None:
        return float("nan")
    maps = view.maps()[complete]
    return agreement(rdm(maps.reshape(len(maps), -1)), brain)


def _ceiling(view: CellView) -> float:
    """Agreement of the RDMs of two halves of the repeats, NaN without two repeats of every unit and stimulus."""
    random = np.random.default_rng([view.brain_seed, 11])
    repeats = view.repeats - view.baseline[:, :, None]
    count = repeats.shape[2]
    agreements = []
    for _ in range(HALVINGS if count > 1 else 0):
        order = random.permutation(count)
        halves = [_average(repeats[:, :, part]) for part in (order[: count // 2], order[count // 2 :])]
        complete = np.isfinite(halves).all(axis=(0, 2))
        if complete.sum() >= FEWEST_UNITS:
            agreements.append(agreement(*(rdm(half[complete]) for half in halves)))
    return float(np.mean(agreements)) if agreements else float("nan")


def _average(repeats: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(repeats.astype(np.float64), axis=2))
