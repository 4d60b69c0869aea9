"""A small tree in the layout of Sensorium 2023."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweeps.recordings.examples.made_up import drives, films, save
from sweeps.recordings.examples.sensorium_static import write_units

PADDING = 6


def write(
    folder: Path,
    seed: int = 0,
    train: int = 34,
    oracle: int = 3,
    repeats: int = 5,
    hidden: int = 3,
    units: int = 12,
    frames: int = 75,
    height: int = 18,
    width: int = 32,
) -> None:
    """Write it. Traps: arrays are padded with NaN past a trial's end, every third clip is 5 frames shorter; the last
    train clip is a copy of the first oracle clip, the one before it nearly one of the first train clip; statistics
    have one value per frame; `live_test_main` has hidden responses, all zero.
    """
    random = np.random.default_rng([seed, 41])
    clips = films(train + oracle + hidden, frames, height, width, random).astype(np.float32)
    clips[train - 1] = clips[train]
    clips[train - 2] = np.clip(clips[0] + random.choice([-0.5, 0.5], clips[0].shape), 0, 255)
    tiers = ["train"] * train + ["oracle"] * oracle * repeats + ["live_test_main"] * hidden
    film = np.concatenate(
        [np.arange(train), np.repeat(train + np.arange(oracle), repeats), train + oracle + np.arange(hidden)]
    )
    order = random.permutation(len(film))
    clean = drives(clips, units, random)
    for file, trial in enumerate(order):
        length = frames if film[trial] % 3 or film[trial] in (0, train - 2, train - 1, train) else frames - 5
        answer = np.maximum(clean[film[trial]] + 0.3 * random.standard_normal((frames, units)), 0).T
        seen = tiers[trial] != "live_test_main"
        save(folder / f"data/videos/{file}.npy", _padded(np.moveaxis(clips[film[trial]], 0, -1), length))
        save(folder / f"data/responses/{file}.npy", _padded(answer * seen, length))
        save(folder / f"data/behavior/{file}.npy", _padded(random.standard_normal((2, frames)), length))
        save(folder / f"data/pupil_center/{file}.npy", _padded(random.standard_normal((2, frames)), length))
    save(folder / "meta/trials/tiers.npy", np.array(tiers)[order])
    save(folder / "meta/trials/trial_idx.npy", random.permutation(len(film)))
    save(folder / "meta/trials/condition_hash.npy", np.array([f"condition{film[trial]:03d}" for trial in order]))
    save(folder / "meta/statistics/responses/all/std.npy", np.full((units, frames + PADDING), 1.7))
    save(folder / "meta/statistics/videos/all/mean.npy", np.full((height, width, frames + PADDING), 80.9))
    write_units(folder, units, random)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """(..., frames) with NaN from `length` on, and PADDING more frames of it."""
    held = np.full((*values.shape[:-1], values.shape[-1] + PADDING), np.nan, np.float32)
    held[..., :length] = values[..., :length]
    return held
