"""An example of the format `allen-nwb`: cells that see the brightness of places in natural scenes, and running."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sweeps.recordings.examples.made_up import Example, drives, pictures

PRESENTED = "stimulus/presentation/natural_scenes_stimulus"

START, RATE = 12.5, 30.0
"""Seconds on the clock at the first sample of the traces, and samples a second."""


@dataclass(frozen=True)
class AllenExample(Example):
    """One file, experiment.nwb: scenes in random order, the blank among them, seven samples each with a pause.

    Traps: the running speed is (samples, 1), as pipeline 0.9 stored it; it begins after the traces, within the first
    presentations, and ends before them, within the last one.
    """

    scenes: int = 40
    repeats: int = 4
    cells: int = 12

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng(seed)
        stack = pictures(self.scenes, 30, 38, random)
        blank = np.ones((1, self.cells))
        clean = np.concatenate([drives(stack, self.cells, random), blank])
        order = random.permutation(np.repeat(np.arange(-1, self.scenes), self.repeats))
        starts = 10 + 9 * np.arange(len(order))
        samples = int(starts[-1]) + 20
        traces = 0.3 * random.standard_normal((self.cells, samples))
        for scene, start in zip(order, starts, strict=True):
            traces[:, start : start + 7] += clean[scene][:, None]
        clock, run = START + np.arange(samples) / RATE, slice(30, samples - 15)
        with h5py.File(folder / "experiment.nwb", "w") as file:
            home = file.create_group("processing/brain_observatory_pipeline")
            home["DfOverF/imaging_plane_1/data"] = traces.astype(np.float32)
            home["ImageSegmentation/cell_specimen_ids"] = 517_000_000 + random.permutation(self.cells)
            home["DfOverF/imaging_plane_1/timestamps"] = clock
            home["BehavioralTimeSeries/running_speed/data"] = np.abs(random.standard_normal((samples, 1)))[run] * 5
            home["BehavioralTimeSeries/running_speed/timestamps"] = clock[run]
            file[f"{PRESENTED}/data"] = order
            file[f"{PRESENTED}/frame_duration"] = np.stack([starts, starts + 7], axis=1)
            file["stimulus/templates/natural_scenes_image_stack/data"] = stack
            file["general/optophysiology/imaging_plane_1/location"] = "Area: VISl, depth: 275 um"
