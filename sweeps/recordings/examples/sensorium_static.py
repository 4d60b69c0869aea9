"""A small tree in the layout of Sensorium 2022."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sweeps.recordings.examples.made_up import areas, drives, pictures, save


def write(
    folder: Path,
    seed: int = 0,
    train: int = 40,
    validation: int = 8,
    test: int = 6,
    repeats: int = 4,
    units: int = 12,
    height: int = 36,
    width: int = 64,
) -> None:
    """Write it. Traps: files are not in order of presentation, which is `trial_idx`; test pictures are repeated;
    `final_test` has hidden responses, all zero.
    """
    random = np.random.default_rng([seed, 40])
    shown = pictures(train + validation + 2 * test, height, width, random)
    tiers = ["train"] * train + ["validation"] * validation + ["test"] * test * repeats + ["final_test"] * test
    ids = np.concatenate(
        [
            np.arange(train + validation),
            np.repeat(train + validation + np.arange(test), repeats),
            train + validation + test + np.arange(test),
        ]
    )
    clean = drives(shown, units, random)
    order = random.permutation(len(ids))
    for file, trial in enumerate(order):
        answer = np.maximum(clean[ids[trial]] + 0.3 * random.standard_normal(units), 0)
        hidden = tiers[trial] == "final_test"
        save(folder / f"data/images/{file}.npy", shown[ids[trial]][None].astype(np.float32))
        save(folder / f"data/responses/{file}.npy", np.zeros(units) if hidden else answer)
        save(folder / f"data/behavior/{file}.npy", random.standard_normal(3))
        save(folder / f"data/pupil_center/{file}.npy", random.standard_normal(2))
    save(folder / "meta/trials/tiers.npy", np.array(tiers)[order])
    save(folder / "meta/trials/frame_image_id.npy", 1000 + ids[order])
    save(folder / "meta/trials/trial_idx.npy", random.permutation(len(ids)))
    write_units(folder, units, random)
    (folder / "config.json").write_text(json.dumps({"links": {}}))


def write_units(folder: Path, units: int, random: np.random.Generator) -> None:
    """Write meta/neurons: identity, area and place of every unit."""
    save(folder / "meta/neurons/unit_ids.npy", 1 + random.permutation(units))
    save(folder / "meta/neurons/area.npy", areas(units))
    save(folder / "meta/neurons/cell_motor_coordinates.npy", random.integers(-300, 300, (units, 3)))
