"""The format `allen-nwb`: one experiment of the Allen Brain Observatory (Visual Coding, two-photon), one NWB file.

Read are the responses to natural scenes: the mean dF/F of every cell over each presentation. A scene's presentations
are its repeats; the blank (frame -1) is left out unless it is asked for, as a grey picture.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from sweeps.errors import InputError
from sweeps.identity import content_id
from sweeps.recordings.facts import RecordingFacts
from sweeps.recordings.folder import ImageSpec
from sweeps.recordings.hdf5 import dataset, digest, opened, text
from sweeps.recordings.images import MID_GREY, join, open_filesystem
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.units import UnitChoice, choose_units

PIPELINE = "processing/brain_observatory_pipeline"
PRESENTED = "stimulus/presentation/natural_scenes_stimulus"
TEMPLATE = "stimulus/templates/natural_scenes_image_stack/data"
AREA = re.compile(r"\bVIS[a-z]+\b")


class AllenSpec(UnitChoice):
    """One NWB file, or a folder that holds one.

    `blank` keeps the blank; `after` samples are added to the window of each presentation.
    """

    format: Literal["allen-nwb"]
    path: str
    name: str | None = None
    image: ImageSpec = ImageSpec()
    blank: bool = False
    after: int = Field(0, ge=0, le=100)

    def recording_name(self) -> str:
        """Name in the tables: `name`, else that of the file."""
        return self.name or self.path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".nwb")


def describe_allen(spec: AllenSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; opens the recording, since its identity is its content."""
    return open_allen(spec, base).facts()


def open_allen(spec: AllenSpec, base: str, cache: Path | None = None) -> Recording:
    """Read the file; InputError names it and what was expected. `cache` is not needed here."""
    url = _file(join(base, spec.path))
    with opened(url) as held:
        traces = dataset(held, f"{PIPELINE}/DfOverF/imaging_plane_1/data", url, 2)[:]
        cells = dataset(held, f"{PIPELINE}/ImageSegmentation/cell_specimen_ids", url, 1)[:]
        scenes = dataset(held, f"{PRESENTED}/data", url, 1)[:].astype(int)
        windows = dataset(held, f"{PRESENTED}/frame_duration", url, 2)[:].astype(int)
        template = dataset(held, TEMPLATE, url, 3)[:]
        running = _running(held, url, traces.shape[1])
        area = _area(text(held, "general/optophysiology/imaging_plane_1/location", url), url)
    _check(traces, cells, scenes, windows, template, url)
    units = choose_units(spec, len(cells), np.full(len(cells), area), None, url)
    kept = np.flatnonzero(scenes >= 0) if not spec.blank else np.arange(len(scenes))
    shown, counts = np.unique(scenes[kept], return_counts=True)
    responses = np.full((len(shown), len(units.rows), counts.max()), np.nan, dtype=np.float32)
    behaviour = np.full((len(shown), 1, counts.max()), np.nan)
    seen = dict.fromkeys(shown.tolist(), 0)
    for place in kept:
        scene, (start, end) = int(scenes[place]), windows[place]
        row, repeat = int(np.searchsorted(shown, scene)), seen[scene]
        during = slice(start, end + spec.after)
        responses[row, :, repeat] = traces[units.rows, during].mean(axis=1)
        behaviour[row, 0, repeat] = running[during].mean()
        seen[scene] += 1
    identity = content_id([digest(url), spec.model_dump(mode="json", exclude={"path", "name"})])
    geometry = spec.image.geometry()

    def load(rows: slice) -> np.ndarray:
        blank = np.full(template.shape[1:], MID_GREY, np.uint8)
        pictures = (blank if scene < 0 else template[scene] for scene in shown[rows])
        return np.stack([geometry.apply(Image.fromarray(np.asarray(each, dtype=np.uint8))) for each in pictures])

    names = [f"scene{scene:03d}" if scene >= 0 else "blank" for scene in shown]
    table = pd.DataFrame({"file": names, "group": names})
    fit = StimulusSet(table, responses, content_id([identity, "scenes"]), load, behaviour)
    return Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, geometry=geometry)


def _file(url: str) -> str:
    """The file itself, or the only NWB file of a folder."""
    if url.endswith(".nwb"):
        return url
    filesystem, path = open_filesystem(url)
    found = sorted(str(each) for each in filesystem.glob(f"{path.rstrip('/')}/*.nwb"))
    if len(found) != 1:
        raise InputError(f"must be an .nwb file, or a folder with one; it has {len(found)}", file=url, key="path")
    return f"{url.rstrip('/')}/{found[0].rsplit('/', 1)[-1]}"


def _check(
    traces: np.ndarray,
    cells: np.ndarray,
    scenes: np.ndarray,
    windows: np.ndarray,
    template: np.ndarray,
    url: str,
) -> None:
    if len(cells) != len(traces):
        raise InputError(f"{len(cells)} cell ids for {len(traces)} traces", file=url, key="cell_specimen_ids")
    if windows.shape != (len(scenes), 2):
        problem = f"must be ({len(scenes)}, 2): first and last sample of every presentation"
        raise InputError(problem, file=url, key=f"{PRESENTED}/frame_duration", value=windows.shape)
    if len(windows) and (
        windows.min() < 0 or windows.max() > traces.shape[1] or (windows[:, 0] >= windows[:, 1]).any()
    ):
        problem = f"must be rising samples within the {traces.shape[1]} of the traces"
        raise InputError(problem, file=url, key=f"{PRESENTED}/frame_duration")
    if not len(scenes) or scenes.max() >= len(template) or scenes.min() < -1:
        problem = f"must be scenes 0 to {len(template) - 1}, or -1 for the blank"
        raise InputError(problem, file=url, key=f"{PRESENTED}/data")


def _area(location: str, url: str) -> str:
    found = AREA.search(location)
    if not found:
        raise InputError("names no visual area such as VISp", file=url, key="imaging_plane_1/location", value=location)
    return found.group()


def _running(held: Any, url: str, samples: int) -> np.ndarray:
    """Running speed (samples,) in cm/s; NaN where it was not recorded."""
    name = f"{PIPELINE}/BehavioralTimeSeries/running_speed/data"
    if name not in held:
        return np.full(samples, np.nan)
    speed = dataset(held, name, url, 1)[:].astype(np.float64)
    if len(speed) != samples:
        raise InputError(f"must have the {samples} samples of the traces", file=url, key=name, value=len(speed))
    return np.asarray(speed)
