"""Tables (rows, units or channels, repeats) that trials are written into, and the scale of responses."""

from __future__ import annotations

import numpy as np

from sweeps.errors import InputError

THRESHOLD = 0.01
"""A unit's deviation counts as at least this share of the mean deviation."""

GB = 1e9


def published_set(tiers: np.ndarray, report: str) -> np.ndarray:
    """What trials of these tiers are in the published split whose report set is the tier `report`.

    Other tiers than train, validation and `report` are held-out sets of their own: unused.

    >>> published_set(np.array(["train", "validation", "test", "final_test"]), "test").tolist()
    ['train', 'train', 'report', 'unused']
    """
    names = {"train": "train", "validation": "train", report: "report"}
    return np.array([names.get(tier, "unused") for tier in tiers.tolist()], dtype=str)


def blank(rows: int, channels: int, repeats: int, memory_gb: float, file: str) -> np.ndarray:
    """NaN (rows, channels, repeats) float32; InputError where that takes more than `memory_gb`."""
    size = 4 * rows * channels * repeats / GB
    if size > memory_gb:
        problem = f"({rows} rows, {channels} units, {repeats} repeats) take {size:.2g} GB, more than `memory_gb`"
        advice = "limit `units` or `repeats`, leave a tier out, or allow more"
        raise InputError(f"{problem}: {advice}", file=file, key="memory_gb", value=memory_gb)
    return np.full((rows, channels, repeats), np.nan, np.float32)


def scale_responses(responses: np.ndarray, train: np.ndarray) -> None:
    """Divide responses (rows, units, repeats), in place, by each unit's deviation over the rows `train`.

    Deviations (ddof 0, missing entries left out, over rows and repeats) below 1 % of their mean over units count as
    that much; no mean is subtracted. Source: neuralpredictors, NeuroNormalizer.
    """
    deviation = np.array([np.nanstd(responses[train, unit], dtype=np.float64) for unit in range(responses.shape[1])])
    least = THRESHOLD * np.nanmean(deviation)
    if least > 0:  # else every unit is constant, which is refused where units are checked
        responses /= np.where(deviation > least, deviation, least)[:, None].astype(np.float32)


def train_rows(tiers: np.ndarray) -> np.ndarray:
    """Which entries belong to the tier `train`; all where none does."""
    train = tiers == "train"
    return train if train.any() else np.ones(len(tiers), dtype=bool)
