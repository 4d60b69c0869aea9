"""An example of the format `shortclips`: voxels that follow one of two feature spaces, four seconds later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sweeps.recordings.examples.made_up import Example


@dataclass(frozen=True)
class ShortclipsExample(Example):
    """The first half of the voxels follow `motion_energy`, the others `wordnet`; two voxels hold no data.

    A test run of `test` samples is shown `repeats` times.
    """

    runs: int = 6
    samples: int = 50
    test: int = 40
    repeats: int = 4
    voxels: int = 24
    subject: str = "S01"

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng(seed)
        lengths = [*[self.samples] * self.runs, self.test]
        spaces = {name: [_slow(length, 8, random) for length in lengths] for name in ("motion_energy", "wordnet")}
        weights = random.standard_normal((8, self.voxels))
        clean = []
        for run in range(self.runs + 1):
            halves = [_later(spaces[name][run]) @ weights for name in spaces]
            clean.append(np.where(np.arange(self.voxels) < self.voxels // 2, *halves))
        train = np.concatenate(clean[:-1])
        train = train + random.standard_normal(train.shape)
        shown = clean[-1] + random.standard_normal((self.repeats, *clean[-1].shape))
        train[:, 3], shown[:, :, 3], shown[:, :, 5], train[:, 5] = np.nan, np.nan, 0.0, 0.0
        for name, features in spaces.items():
            arrays = {"X_train": np.concatenate(features[:-1]), "X_test": features[-1]}
            _save(folder / "features" / f"{name}.hdf", arrays)
        onsets = np.arange(self.runs) * self.samples
        arrays = {"Y_train": train.astype(np.float32), "Y_test": shown.astype(np.float32), "run_onsets": onsets}
        _save(folder / "responses" / f"{self.subject}_responses.hdf", arrays)


def _slow(samples: int, features: int, random: np.random.Generator) -> np.ndarray:
    noise = random.standard_normal((samples + 2, features))
    return np.asarray((noise[:-2] + noise[1:-1] + noise[2:]) / 3**0.5)


def _later(features: np.ndarray) -> np.ndarray:
    """Two samples later; zeros move in."""
    return np.concatenate([np.zeros((2, features.shape[1])), features[:-2]])


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
