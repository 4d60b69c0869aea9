"""An example of the format `allen-nwb`: cells that see the brightness of places in natural scenes, and running."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from sweeps.recordings.examples.made_up import drives, pictures

START, RATE = 12.5, 30.0
"""Seconds on the clock at the first sample of the traces, and samples a second."""


def write(folder: Path, seed: int = 0, scenes: int = 40, repeats: int = 4, cells: int = 12) -> None:
    """One file, experiment.nwb: scenes in random order, the blank among them, seven samples each with a pause.

    Traps: the running speed is (samples, 1), as pipeline 0.9 stored it; it begins after the traces, within the first
    presentations, and ends before them, within the last one.
    """
    random = np.random.default_rng(seed)
    stack = pictures(scenes, 30, 38, random)
    clean = np.concatenate([drives(stack, cells, random), np.ones((1, cells))])  # the last one is the blank
    order = random.permutation(np.repeat(np.arange(-1, scenes), repeats))
    starts = 10 + 9 * np.arange(len(order))
    samples = int(starts[-1]) + 20
    traces = 0.3 * random.standard_normal((cells, samples))
    for scene, start in zip(order, starts, strict=True):
        traces[:, start : start + 7] += clean[scene][:, None]
    clock, run = START + np.arange(samples) / RATE, slice(30, samples - 15)
    with h5py.File(folder / "experiment.nwb", "w") as held:
        home = held.create_group("processing/brain_observatory_pipeline")
        home["DfOverF/imaging_plane_1/data"] = traces.astype(np.float32)
        home["ImageSegmentation/cell_specimen_ids"] = 517_000_000 + random.permutation(cells)
        home["DfOverF/imaging_plane_1/timestamps"] = clock
        home["BehavioralTimeSeries/running_speed/data"] = np.abs(random.standard_normal((samples, 1)))[run] * 5
        home["BehavioralTimeSeries/running_speed/timestamps"] = clock[run]
        held["stimulus/presentation/natural_scenes_stimulus/data"] = order
        held["stimulus/presentation/natural_scenes_stimulus/frame_duration"] = np.stack([starts, starts + 7], axis=1)
        held["stimulus/templates/natural_scenes_image_stack/data"] = stack
        held["general/optophysiology/imaging_plane_1/location"] = "Area: VISl, depth: 275 um"
