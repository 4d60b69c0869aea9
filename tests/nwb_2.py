"""NWB 2 files of two-photon sessions by h5py, in the many ways that the standard allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

RATE, START = 30.0, 12.5


@dataclass(frozen=True)
class Session:
    """Planted: cell c answers 10 scene + c + repeat / 4, the blank -1, 1000 in between; picture s is 2 s bright.

    `indexed`: an IndexSeries, else a table of intervals. `blank`: how blanks are stored, "none" for no blanks;
    "clipped" as 0. `pictures`: "stack", "images" or "ordered".
    """

    traces: str = "processing/ophys/DfOverF/DfOverF"
    indexed: bool = True
    table: str = "intervals/natural_scenes_presentations"
    column: str = "frame"
    blank: str = "signed"
    pictures: str = "images"
    regular: bool = False
    turned: bool = False
    pause: int = 3
    jitter: float = 0.0
    location: str = "VISp"
    other_plane: bool = True
    version: str | None = "2.7.0"
    scenes: int = 12
    repeats: int = 2
    cells: int = 4
    seed: int = 0

    def order(self) -> np.ndarray:
        """The scene of every presentation, -1 for the blank."""
        first = 0 if self.blank == "none" else -1
        return np.random.default_rng(self.seed).permutation(np.repeat(np.arange(first, self.scenes), self.repeats))

    def answer(self, scene: int, repeat: int) -> np.ndarray:
        """Responses (cells,)."""
        return 10 * scene + np.arange(self.cells) + repeat / 4 if scene >= 0 else np.full(self.cells, -1.0)

    def write(self, path: Path) -> None:
        """Write the file."""
        order = self.order()
        starts = 10 + (7 + self.pause) * np.arange(len(order))
        data = np.full((int(starts[-1]) + 30, self.cells), 1000.0, np.float32)
        seen: dict[int, int] = {}
        for scene, start in zip(order.tolist(), starts.tolist(), strict=True):
            data[start : start + 7] = self.answer(scene, seen.setdefault(scene, 0))
            seen[scene] += 1
        clock = START + np.arange(len(data)) / RATE
        if not self.regular:
            clock = clock + self.jitter / RATE * np.random.default_rng(self.seed).uniform(-1, 1, len(clock))
        with h5py.File(path, "w") as file:
            if self.version is not None:
                file.attrs["nwb_version"] = self.version
            self._traces(file, data, clock)
            self._presentations(file, order, clock[starts])
            self._pictures(file)

    def _traces(self, file: h5py.File, data: np.ndarray, clock: np.ndarray) -> None:
        file[f"{self.traces}/data"] = data.T if self.turned else data
        self._clock(file, self.traces, clock)
        plane = file.create_group("general/optophysiology/plane_a")
        plane["location"] = self.location
        if self.other_plane:
            file["general/optophysiology/plane_b/location"] = "somewhere else"
        table = file.create_group("processing/ophys/ImageSegmentation/PlaneSegmentation")
        table["id"] = np.arange(self.cells)
        table["imaging_plane"] = h5py.SoftLink(plane.name)
        file[f"{self.traces}/rois"] = np.arange(self.cells)
        file[f"{self.traces}/rois"].attrs["table"] = table.ref
        file["processing/ophys/DfOverF/events/data"] = 0 * data
        file["processing/behavior/BehavioralTimeSeries/running_speed/data"] = np.arange(float(len(data)))
        self._clock(file, "processing/behavior/BehavioralTimeSeries/running_speed", clock)

    def _clock(self, file: h5py.File, series: str, clock: np.ndarray) -> None:
        if self.regular:
            file[f"{series}/starting_time"] = clock[0]
            file[f"{series}/starting_time"].attrs["rate"] = RATE
        else:
            file[f"{series}/timestamps"] = clock

    def stored(self, order: np.ndarray) -> np.ndarray:
        """Numbers of pictures as the file has them."""
        if self.blank == "nan":
            return np.where(order < 0, np.nan, order)
        if self.blank == "largest":
            return order.astype(np.int32).astype(np.uint32)
        return np.maximum(order, 0).astype(np.uint32) if self.blank == "clipped" else order

    def _presentations(self, file: h5py.File, order: np.ndarray, starts: np.ndarray) -> None:
        if self.indexed:
            file["stimulus/presentation/natural_scenes_stimulus/data"] = self.stored(order)
            file["stimulus/presentation/natural_scenes_stimulus/timestamps"] = starts
            file["stimulus/presentation/static_gratings/start_time"] = [0.0]
            return
        columns: dict[str, Any] = {"start_time": starts, "stop_time": starts + 0.25, self.column: self.stored(order)}
        if "natural_scenes" not in self.table:  # a table of several stimuli: gratings come first
            columns = {name: np.concatenate([[0.0, 1.0], values]) for name, values in columns.items()}
            columns["stop_time"][:2] += 0.25
            file[f"{self.table}/stimulus_name"] = ["gratings"] * 2 + ["natural_scenes"] * len(order)
        for name, values in columns.items():
            file[f"{self.table}/{name}"] = values

    def _pictures(self, file: h5py.File) -> None:
        stack = np.repeat(np.arange(self.scenes, dtype=np.uint8) * 2, 8 * 9).reshape(-1, 8, 9)
        if self.pictures == "stack":
            file["stimulus/templates/natural_scenes/data"] = stack.astype(np.float32)
            return
        names = [f"NaturalScene{scene}" for scene in range(self.scenes)]
        if self.pictures == "ordered":
            names = [f"im{97 * scene % 101:03d}" for scene in range(self.scenes)]
        template = file.create_group("stimulus/templates/natural_scenes_template")
        for name, picture in zip(names, stack, strict=True):
            template[name] = picture
        if self.pictures == "ordered":
            template["order_of_images"] = np.array([template[name].ref for name in names], dtype=h5py.ref_dtype)
