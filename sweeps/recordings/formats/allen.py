"""The format `allen-nwb`: one experiment of the Allen Brain Observatory (Visual Coding, two-photon), one NWB file.

Read are the responses to natural scenes: the mean dF/F of every cell over each presentation. A scene's presentations
are its repeats; the blank (frame -1) is left out unless it is asked for, as a grey picture. Running speed stands on
its own clock: it may begin after the traces and end before them. Source of the layout: AllenSDK, BrainObservatoryNwb.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from models.inputs.geometry import MID_GREY, Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join, open_filesystem
from sweeps.io.untrusted import reading, refuse_infinite
from sweeps.recordings.contents import Contents, joined_note
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.hdf5 import dataset, digest, numbers, opened, text, whole_numbers
from sweeps.recordings.readers.screens import Brightness, ImageSpec
from sweeps.recordings.recording import Recording, StimulusSet, check_groups, check_responses
from sweeps.recordings.spec import StoredSpec
from sweeps.recordings.units import UnitChoice, choose_units
from sweeps.stimuli.picture_contents import content_of, sketch_of

PIPELINE = "processing/brain_observatory_pipeline"
TRACES = f"{PIPELINE}/DfOverF/imaging_plane_1"
CELLS = f"{PIPELINE}/ImageSegmentation/cell_specimen_ids"
RUNNING = f"{PIPELINE}/BehavioralTimeSeries/running_speed"
PRESENTED = "stimulus/presentation"
SCENES = ("natural_scenes_stimulus", "natural_scenes")
TEMPLATE = "stimulus/templates/natural_scenes_image_stack/data"
LOCATION = "general/optophysiology/imaging_plane_1/location"
AREA = re.compile(r"\bVIS[a-z]+\b")


class AllenSpec(StoredSpec, UnitChoice):
    """One NWB file, or a folder that holds one.

    `blank` keeps the blank; `after` samples are added to the window of each presentation.
    """

    format: Literal["allen-nwb"]
    image: ImageSpec = ImageSpec()
    blank: bool = False
    after: int = Field(0, ge=0, le=100)

    def default_name(self) -> str:
        """Return the name of the file."""
        return super().default_name().removesuffix(".nwb")

    def open(self, base: str, cache: Path) -> Recording:
        """Read the file; InputError names it and what was expected."""
        url = _file(join(base, self.path))
        session = _session(url)
        cells = len(session.traces)
        units = choose_units(self, cells, np.full(cells, session.area), None, url)
        scenes, responses, running = _averaged(session, units.rows, self)
        check_responses(responses, url, units.rows)
        geometry = self.image.geometry()
        names = np.array([f"scene{scene:03d}" if scene >= 0 else "blank" for scene in scenes])
        contents = _contents(session.template, scenes, names)
        joined = contents.joined_groups()
        groups = np.array([joined.get(name, name) for name in names.tolist()])
        rules = applied({"labels": units.cleaned, "equal-content": bool(joined)})
        identity = refined(content_id([digest(url), self.settings()]), rules)
        table, load = pd.DataFrame({"file": names, "group": groups}), _pictures(session.template, scenes, geometry)
        fit = StimulusSet(table, responses, content_id([identity, "scenes"]), load, running)
        check_groups(fit, url, units.rows)
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            geometry=geometry,
            notes={"joined": joined_note(names, groups)} if joined else {},
            contents=contents.in_groups(joined),
        )


@dataclass(frozen=True)
class ImagingSession:
    """What the file holds: `traces` (cells, samples) and `running` (samples,) in cm/s, NaN where it was not recorded.

    Of every presentation `scenes` (presentations,), -1 for the blank, and `windows` (presentations, 2): from which
    sample, up to which. `template` (scenes, rows, columns) holds the pictures; `area` is that of all cells.
    """

    traces: np.ndarray
    running: np.ndarray
    scenes: np.ndarray
    windows: np.ndarray
    template: np.ndarray
    area: str


def _averaged(session: ImagingSession, cells: np.ndarray, spec: AllenSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scenes that were shown (scenes,) and means over their presentations, the repeats.

    These are responses (scenes, cells, repeats) float32 and running speeds (scenes, 1, repeats), both NaN where there
    is no such repeat, or where a sample is missing.
    """
    presentations = np.flatnonzero(session.scenes >= 0) if not spec.blank else np.arange(len(session.scenes))
    scenes, counts = np.unique(session.scenes[presentations], return_counts=True)
    responses = np.full((len(scenes), len(cells), counts.max()), np.nan, dtype=np.float32)
    running = np.full((len(scenes), 1, counts.max()), np.nan)
    repeat = np.zeros(len(scenes), dtype=int)
    for place in presentations:
        row, (start, end) = int(np.searchsorted(scenes, session.scenes[place])), session.windows[place]
        during = slice(start, end + spec.after)
        responses[row, :, repeat[row]] = session.traces[cells, during].mean(axis=1)
        running[row, 0, repeat[row]] = session.running[during].mean()
        repeat[row] += 1
    return scenes, responses, running


def _contents(template: np.ndarray, scenes: np.ndarray, groups: np.ndarray) -> Contents:
    """What the scenes show, the blank left out: it is no picture of the file."""
    shown = np.flatnonzero(scenes >= 0)
    pairs = [(sketch_of(template[scene]), content_of(template[scene])) for scene in scenes[shown]]
    return Contents.of(groups[shown], pairs)


def _pictures(template: np.ndarray, scenes: np.ndarray, geometry: Geometry) -> Callable[[slice], np.ndarray]:
    """Return what loads the pictures of a slice of scenes; the blank is grey."""
    blank = np.full(template.shape[1:], MID_GREY, np.uint8)

    def load(rows: slice) -> np.ndarray:
        pictures = (blank if scene < 0 else template[scene] for scene in scenes[rows])
        return np.stack([geometry.apply(Image.fromarray(np.asarray(picture, dtype=np.uint8))) for picture in pictures])

    return load


# -- the file ---------------------------------------------------------------------------------------


def _file(url: str) -> str:
    """The file itself, or the only NWB file of a folder."""
    if url.endswith(".nwb"):
        return url
    filesystem, path = open_filesystem(url)
    with reading(url):
        files = sorted(str(file) for file in filesystem.glob(f"{path.rstrip('/')}/*.nwb"))
    if len(files) != 1:
        raise InputError(f"must be an .nwb file, or a folder with one; it has {len(files)}", file=url, key="path")
    return f"{url.rstrip('/')}/{files[0].rsplit('/', 1)[-1]}"


def _session(url: str) -> ImagingSession:
    with opened(url) as file:
        traces = numbers(file, f"{TRACES}/data", url, 2)[:]
        cells = len(dataset(file, CELLS, url, 1))
        if cells != len(traces):
            raise InputError(f"{cells} cell ids for {len(traces)} traces", file=url, key="cell_specimen_ids")
        presented = _presented(file, url)
        scenes = whole_numbers(file, f"{presented}/data", url, 1)
        windows = whole_numbers(file, f"{presented}/frame_duration", url, 2)
        template = _template(file, url)
        running = _running(file, traces.shape[1], url)
        area = _area(text(file, LOCATION, url), url)
    session = ImagingSession(traces, running, scenes, windows, template, area)
    _check(session, presented, url)
    return session


def _template(file: h5py.File, url: str) -> np.ndarray:
    """The pictures (scenes, rows, columns) uint8."""
    template = numbers(file, TEMPLATE, url, 3)
    if not template.size:
        raise InputError("holds no picture", file=url, key=TEMPLATE, value=template.shape)
    stored = template[:]
    brightness = Brightness(255.0, url, TEMPLATE)
    pixels = brightness.pixels(stored, url)
    brightness.check("store the pictures as 0 to 255")
    return pixels


def _presented(file: h5py.File, url: str) -> str:
    """Where the presentations of natural scenes lie."""
    group = file.get(PRESENTED)
    present = sorted(group) if isinstance(group, h5py.Group) else []
    for name in SCENES:
        if name in present:
            return f"{PRESENTED}/{name}"
    problem = f"shows no natural scenes ({' or '.join(SCENES)}); what it shows: {', '.join(present) or 'nothing'}"
    raise InputError(problem, file=url, key=PRESENTED)


def _check(session: ImagingSession, presented: str, url: str) -> None:
    """Raise InputError for presentations that do not fit the traces or the pictures."""
    scenes, windows, samples = session.scenes, session.windows, session.traces.shape[1]
    if windows.shape != (len(scenes), 2):
        problem = f"must be ({len(scenes)}, 2): first and last sample of every presentation"
        raise InputError(problem, file=url, key=f"{presented}/frame_duration", value=windows.shape)
    if len(windows) and (windows.min() < 0 or windows.max() > samples or (windows[:, 0] >= windows[:, 1]).any()):
        problem = f"must be rising samples within the {samples} of the traces"
        raise InputError(problem, file=url, key=f"{presented}/frame_duration")
    if not (scenes >= 0).any() or scenes.max() >= len(session.template) or scenes.min() < -1:
        problem = f"must be scenes 0 to {len(session.template) - 1}, or -1 for the blank"
        raise InputError(problem, file=url, key=f"{presented}/data")


def _area(location: str, url: str) -> str:
    area = AREA.search(location)
    if not area:
        raise InputError("names no visual area such as VISp", file=url, key="imaging_plane_1/location", value=location)
    return area.group()


# -- running ----------------------------------------------------------------------------------------


def _running(file: h5py.File, samples: int, url: str) -> np.ndarray:
    """Running speed (samples,) in cm/s at the samples of the traces; NaN where it was not recorded.

    Aligned by the `timestamps` of both; without them it must have the samples of the traces.
    """
    if f"{RUNNING}/data" not in file:
        return np.full(samples, np.nan)
    speed = _column(file, f"{RUNNING}/data", url)
    own, clock = _seconds(file, RUNNING, len(speed), url), _seconds(file, TRACES, samples, url)
    if own is None or clock is None:
        if len(speed) != samples:
            problem = f"must have the {samples} samples of the traces, or both must have `timestamps` to align them by"
            raise InputError(problem, file=url, key=f"{RUNNING}/data", value=len(speed))
        return speed
    aligned = _aligned(speed, own, clock)
    if aligned is None:
        problem = f"must overlap with {TRACES}/timestamps, seconds on the same clock"
        raise InputError(problem, file=url, key=f"{RUNNING}/timestamps")
    return aligned


def _column(file: h5py.File, name: str, url: str) -> np.ndarray:
    """Numbers (samples,); pipeline 0.9 stored them as (samples, 1)."""
    column = numbers(file, name, url)
    if column.ndim != 1 and column.shape[1:] != (1,):
        raise InputError("must be (samples,) or (samples, 1)", file=url, key=name, value=column.shape)
    values = np.asarray(column[()], dtype=np.float64).ravel()
    refuse_infinite(values, url, name)
    return values


def _seconds(file: h5py.File, series: str, samples: int, url: str) -> np.ndarray | None:
    """The `timestamps` of a series; None where it has none."""
    name = f"{series}/timestamps"
    if name not in file:
        return None
    seconds = _column(file, name, url)
    if len(seconds) != samples or not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        problem = f"must be {samples} rising seconds, one a sample of {series}/data"
        raise InputError(problem, file=url, key=name, value=seconds.shape)
    return seconds


def _aligned(values: np.ndarray, own: np.ndarray, clock: np.ndarray) -> np.ndarray | None:
    """Values at the times `clock`: of the nearest of their `own` times, NaN where that is half a sample away or more.

    None where no time is near. A sample is the median step of `clock`.
    """
    if not len(own):
        return None
    nearest = np.searchsorted((own[1:] + own[:-1]) / 2, clock)
    near = np.abs(own[nearest] - clock) < np.median(np.diff(clock)) / 2
    return np.where(near, values[nearest], np.nan) if near.any() else None
