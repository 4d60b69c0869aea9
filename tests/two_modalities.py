"""A planted pair of recordings: stories heard and films seen, one brain, a known alignment and a known HRF.

A shared latent z and a private one for each modality drive the features through known mixing matrices:
features_m = [z, private_m] mixing_m. Units answer to z or to the private latents through a finite impulse
response within each run, plus white noise.
"""

from dataclasses import dataclass

import numpy as np

from metrics.transfer.cross_modal import Modality

HRF = {1: 0.4, 2: 1.0, 3: 0.6, 4: -0.2}
"""Planted response at each delay, in samples."""

SHARED, PRIVATE = 3, 2
"""Latents of either kind."""

WIDTHS = {"language": 8, "vision": 11}
"""Features of each modality."""


@dataclass(frozen=True)
class Planted:
    """The two recordings, captioned pairs, and the truth behind them."""

    language: Modality
    vision: Modality
    captioned: tuple[np.ndarray, np.ndarray]
    kinds: np.ndarray
    """Per unit: shared (same weights in both), opposite (sign flips), private, or silent (noise only)."""
    signal: dict[str, np.ndarray]
    """Noise-free responses by modality, (times, units)."""
    alignment: dict[str, np.ndarray]
    """By direction, the matrix that takes one modality's features to what they imply of the other's."""


def _latents(rng: np.random.Generator, runs: np.ndarray, count: int, memory: float = 0.4) -> np.ndarray:
    """Slow unit-variance latents, independent between runs."""
    values = rng.normal(size=(len(runs), count))
    for time in range(1, len(runs)):
        if runs[time] == runs[time - 1]:
            values[time] = memory * values[time - 1] + np.sqrt(1 - memory**2) * values[time]
    return values


def respond(drive: np.ndarray, runs: np.ndarray, hrf: dict[int, float] = HRF) -> np.ndarray:
    """Response to a drive (times, units), each run starting from rest."""
    kernel = np.zeros(max(hrf) + 1)
    for delay, height in hrf.items():
        kernel[delay] = height
    result = np.empty_like(drive)
    for run in np.unique(runs):
        rows = runs == run
        result[rows] = np.stack([np.convolve(column, kernel)[: rows.sum()] for column in drive[rows].T], axis=1)
    return result


def planted(
    seed: int = 0,
    runs: int = 4,
    times: int = 80,
    pairs: int = 120,
    units: int = 5,
    noise: float = 0.7,
    hrf: dict[int, float] = HRF,
) -> Planted:
    """Recordings with ``units`` of each kind, ``runs`` runs of ``times`` samples, signals of variance 1."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(runs), times)
    kinds = np.repeat(["shared", "opposite", "private", "silent"], units)
    common, own = rng.normal(size=(SHARED, 4 * units)), rng.normal(size=(PRIVATE, 4 * units))
    mixing = {name: rng.normal(size=(SHARED + PRIVATE, width)) for name, width in WIDTHS.items()}
    shown = rng.normal(size=(pairs, SHARED))  # what the captioned pictures share with their captions
    recorded, signal, captioned = {}, {}, {}
    for name, sign in (("language", 1.0), ("vision", -1.0)):
        z, private = _latents(rng, labels, SHARED), _latents(rng, labels, PRIVATE)
        drive = np.where(kinds == "opposite", sign, 1.0) * (z @ common)
        drive = np.where(kinds == "private", private @ own, drive)
        clean = respond(drive, labels, hrf)
        clean = np.where(kinds == "silent", 0.0, clean / clean.std(axis=0))
        features = np.hstack([z, private]) @ mixing[name]
        recorded[name] = Modality(features, clean + noise * rng.normal(size=clean.shape), labels)
        signal[name] = clean
        captioned[name] = np.hstack([shown, rng.normal(size=(pairs, PRIVATE))]) @ mixing[name]
    alignment = {
        f"{one}_to_{other}": np.linalg.pinv(mixing[one])[:, :SHARED] @ mixing[other][:SHARED]
        for one, other in (("language", "vision"), ("vision", "language"))
    }
    pair = (captioned["language"], captioned["vision"])
    return Planted(recorded["language"], recorded["vision"], pair, kinds, signal, alignment)
