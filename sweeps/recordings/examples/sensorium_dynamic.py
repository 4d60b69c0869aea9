"""A small tree in the layout of Sensorium 2023."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeps.recordings.examples.made_up import Example, drives, films, save
from sweeps.recordings.examples.sensorium_static import write_units

PADDING = 6


@dataclass(frozen=True)
class SensoriumDynamicExample(Example):
    """A session of clips; those of `oracle` are shown `repeats` times.

    Traps: arrays are padded with NaN past a trial's end, every third clip is 5 frames shorter; the last train clip is
    a copy of the first oracle clip, the one before it nearly one of the first train clip; statistics have one value
    per frame; `live_test_main` has `hidden` clips, whose responses are all zero.
    """

    train: int = 34
    oracle: int = 3
    repeats: int = 5
    hidden: int = 3
    units: int = 12
    frames: int = 75
    height: int = 18
    width: int = 32

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng([seed, 41])
        clips = self._clips(random)
        tiers, film = self._trials()
        order = random.permutation(len(film))
        clean = drives(clips, self.units, random)
        for file, trial in enumerate(order):
            length = self._length(int(film[trial]))
            answer = np.maximum(clean[film[trial]] + 0.3 * random.standard_normal((self.frames, self.units)), 0).T
            recorded = tiers[trial] != "live_test_main"
            save(folder / f"data/videos/{file}.npy", _padded(np.moveaxis(clips[film[trial]], 0, -1), length))
            save(folder / f"data/responses/{file}.npy", _padded(answer * recorded, length))
            save(folder / f"data/behavior/{file}.npy", _padded(random.standard_normal((2, self.frames)), length))
            save(folder / f"data/pupil_center/{file}.npy", _padded(random.standard_normal((2, self.frames)), length))
        save(folder / "meta/trials/tiers.npy", np.array(tiers)[order])
        save(folder / "meta/trials/trial_idx.npy", random.permutation(len(film)))
        save(folder / "meta/trials/condition_hash.npy", np.array([f"condition{film[trial]:03d}" for trial in order]))
        stored = self.frames + PADDING
        save(folder / "meta/statistics/responses/all/std.npy", np.full((self.units, stored), 1.7))
        save(folder / "meta/statistics/videos/all/mean.npy", np.full((self.height, self.width, stored), 80.9))
        write_units(folder, self.units, random)

    def _clips(self, random: np.random.Generator) -> np.ndarray:
        """Clips (clips, frames, height, width) float32, two train clips of which are copies."""
        count = self.train + self.oracle + self.hidden
        clips = films(count, self.frames, self.height, self.width, random).astype(np.float32)
        clips[self.train - 1] = clips[self.train]
        clips[self.train - 2] = np.clip(clips[0] + random.choice([-0.5, 0.5], clips[0].shape), 0, 255)
        return clips

    def _trials(self) -> tuple[list[str], np.ndarray]:
        """Tier and clip of every trial."""
        tiers = ["train"] * self.train + ["oracle"] * self.oracle * self.repeats + ["live_test_main"] * self.hidden
        repeated = np.repeat(self.train + np.arange(self.oracle), self.repeats)
        hidden = self.train + self.oracle + np.arange(self.hidden)
        return tiers, np.concatenate([np.arange(self.train), repeated, hidden])

    def _length(self, clip: int) -> int:
        """Frames of a clip before the padding."""
        whole = clip % 3 or clip in (0, self.train - 2, self.train - 1, self.train)
        return self.frames if whole else self.frames - 5


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """(..., frames) with NaN from `length` on, and PADDING more frames of it."""
    padded = np.full((*values.shape[:-1], values.shape[-1] + PADDING), np.nan, np.float32)
    padded[..., :length] = values[..., :length]
    return padded
