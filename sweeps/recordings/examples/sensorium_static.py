"""A small tree in the layout of Sensorium 2022."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeps.recordings.examples.made_up import Example, areas, drives, pictures, save


@dataclass(frozen=True)
class SensoriumStaticExample(Example):
    """A session of pictures.

    Traps: files are not in order of presentation, which is `trial_idx`; test pictures are repeated; `final_test` has
    hidden responses, all zero.
    """

    train: int = 40
    validation: int = 8
    test: int = 6
    repeats: int = 4
    units: int = 12
    height: int = 36
    width: int = 64

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng([seed, 40])
        images = pictures(self.train + self.validation + 2 * self.test, self.height, self.width, random)
        tiers, ids = self._trials()
        clean = drives(images, self.units, random)
        order = random.permutation(len(ids))
        for file, trial in enumerate(order):
            answer = np.maximum(clean[ids[trial]] + 0.3 * random.standard_normal(self.units), 0)
            hidden = tiers[trial] == "final_test"
            save(folder / f"data/images/{file}.npy", images[ids[trial]][None].astype(np.float32))
            save(folder / f"data/responses/{file}.npy", np.zeros(self.units) if hidden else answer)
            save(folder / f"data/behavior/{file}.npy", random.standard_normal(3))
            save(folder / f"data/pupil_center/{file}.npy", random.standard_normal(2))
        save(folder / "meta/trials/tiers.npy", np.array(tiers)[order])
        save(folder / "meta/trials/frame_image_id.npy", 1000 + ids[order])
        save(folder / "meta/trials/trial_idx.npy", random.permutation(len(ids)))
        write_units(folder, self.units, random)
        (folder / "config.json").write_text(json.dumps({"links": {}}))

    def _trials(self) -> tuple[list[str], np.ndarray]:
        """Tier and picture of every trial."""
        counts = {"train": self.train, "validation": self.validation}
        counts |= {"test": self.test * self.repeats, "final_test": self.test}
        once = self.train + self.validation
        tested = np.repeat(once + np.arange(self.test), self.repeats)
        ids = np.concatenate([np.arange(once), tested, once + self.test + np.arange(self.test)])
        return [tier for tier, count in counts.items() for _ in range(count)], ids


def write_units(folder: Path, units: int, random: np.random.Generator) -> None:
    """Write meta/neurons: identity, area and place of every unit."""
    save(folder / "meta/neurons/unit_ids.npy", 1 + random.permutation(units))
    save(folder / "meta/neurons/area.npy", areas(units))
    save(folder / "meta/neurons/cell_motor_coordinates.npy", random.integers(-300, 300, (units, 3)))
