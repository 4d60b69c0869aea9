"""An example of the format `shortclips`: voxels that follow one of two feature spaces, four seconds later."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def write(
    folder: Path,
    seed: int = 0,
    runs: int = 6,
    samples: int = 50,
    test: int = 40,
    repeats: int = 4,
    voxels: int = 24,
    subject: str = "S01",
) -> None:
    """The first half of the voxels follow `motion_energy`, the others `wordnet`; two voxels hold no data."""
    random = np.random.default_rng(seed)
    lengths = [*[samples] * runs, test]
    spaces = {name: [_slow(length, 8, random) for length in lengths] for name in ("motion_energy", "wordnet")}
    weights = random.standard_normal((8, voxels))
    clean = []
    for run in range(runs + 1):
        halves = [_later(spaces[name][run]) @ weights for name in spaces]
        clean.append(np.where(np.arange(voxels) < voxels // 2, *halves))
    train = np.concatenate(clean[:-1])
    train = train + random.standard_normal(train.shape)
    shown = clean[-1] + random.standard_normal((repeats, *clean[-1].shape))
    train[:, 3], shown[:, :, 3], shown[:, :, 5], train[:, 5] = np.nan, np.nan, 0.0, 0.0
    for name, held in spaces.items():
        arrays = {"X_train": np.concatenate(held[:-1]), "X_test": held[-1]}
        _save(folder / "features" / f"{name}.hdf", arrays)
    onsets = np.arange(runs) * samples
    arrays = {"Y_train": train.astype(np.float32), "Y_test": shown.astype(np.float32), "run_onsets": onsets}
    _save(folder / "responses" / f"{subject}_responses.hdf", arrays)


def _slow(samples: int, features: int, random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal((samples + 2, features))
    return np.asarray((noise[:-2] + noise[1:-1] + noise[2:]) / 3**0.5)


def _later(features: np.ndarray) -> np.ndarray:
    """Two samples later; zeros move in."""
    return np.concatenate([np.zeros((2, features.shape[1])), features[:-2]])


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as held:
        for name, array in arrays.items():
            held[name] = array
