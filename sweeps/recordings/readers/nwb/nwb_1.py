"""NWB 1.0 as the AllenSDK hands it out: one experiment of Visual Coding. Source: AllenSDK, BrainObservatoryNwb."""

from __future__ import annotations

import h5py
import numpy as np

from sweeps.errors import InputError, listed
from sweeps.recordings.readers.hdf5 import dataset, numbers, text, whole, whole_numbers
from sweeps.recordings.readers.nwb.scenes import as_pictures
from sweeps.recordings.readers.nwb.session import (
    Clock,
    ImagingSession,
    area_of,
    check_scenes,
    column,
    holds,
    on_clock,
    timestamps,
)

PIPELINE = "processing/brain_observatory_pipeline"
TRACES = f"{PIPELINE}/DfOverF/imaging_plane_1"
CELLS = f"{PIPELINE}/ImageSegmentation/cell_specimen_ids"
RUNNING = f"{PIPELINE}/BehavioralTimeSeries/running_speed"
PRESENTED = "stimulus/presentation"
SCENES = ("natural_scenes_stimulus", "natural_scenes")
TEMPLATE = "stimulus/templates/natural_scenes_image_stack/data"
LOCATION = "general/optophysiology/imaging_plane_1/location"
NEEDED = (f"{TRACES}/data", CELLS, TEMPLATE, LOCATION)


def read_nwb_1(file: h5py.File, version: str, area: str | None, url: str) -> ImagingSession:
    """Read the session; the `area` of the cells where the user names it."""
    _refuse_incomplete(file, version, area, url)
    traces = whole(numbers(file, f"{TRACES}/data", url, 2), url)
    cells = len(dataset(file, CELLS, url, 1))
    if cells != len(traces):
        raise InputError(f"{cells} cell ids for {len(traces)} traces", file=url, key="cell_specimen_ids")
    presented = _presented(file, url)
    scenes = whole_numbers(file, f"{presented}/data", url, 1)
    windows = whole_numbers(file, f"{presented}/frame_duration", url, 2)
    template = _template(file, url)
    running = _running(file, traces.shape[1], url)
    area = area or area_of(text(file, LOCATION, url), "imaging_plane_1/location", url)
    session = ImagingSession(traces, running, scenes, windows, template, area)
    _check_windows(session, f"{presented}/frame_duration", url)
    check_scenes(session, f"{presented}/data", url)
    return session


def _refuse_incomplete(file: h5py.File, version: str, area: str | None, url: str) -> None:
    """Raise InputError that names the version of the layout and all that is missing."""
    missing = [name for name in NEEDED if not holds(file, name) and not (area and name == LOCATION)]
    if missing:
        others = f"; it lacks {', '.join(missing[1:])} too" if missing[1:] else ""
        problem = f"missing dataset: the file is NWB {version}, which must hold it as the AllenSDK's files do{others}"
        raise InputError(problem, file=url, key=missing[0])


def _template(file: h5py.File, url: str) -> list[np.ndarray]:
    """The pictures of the scenes, uint8 (rows, columns) each."""
    template = numbers(file, TEMPLATE, url, 3)
    if not template.size:
        raise InputError("holds no picture", file=url, key=TEMPLATE, value=template.shape)
    return as_pictures(whole(template, url), TEMPLATE, url)


def _presented(file: h5py.File, url: str) -> str:
    """Where the presentations of natural scenes lie."""
    group = file.get(PRESENTED)
    present = sorted(group) if isinstance(group, h5py.Group) else []
    for name in SCENES:
        if name in present:
            return f"{PRESENTED}/{name}"
    problem = f"shows no natural scenes ({' or '.join(SCENES)}); what it shows: {listed(present) or 'nothing'}"
    raise InputError(problem, file=url, key=PRESENTED)


def _check_windows(session: ImagingSession, key: str, url: str) -> None:
    """Raise InputError for presentations that do not fit the traces."""
    count, windows, samples = len(session.scenes), session.windows, session.traces.shape[1]
    if windows.shape != (count, 2):
        problem = f"must be ({count}, 2): first and last sample of every presentation"
        raise InputError(problem, file=url, key=key, value=windows.shape)
    if len(windows) and (windows.min() < 0 or windows.max() > samples or (windows[:, 0] >= windows[:, 1]).any()):
        raise InputError(f"must be rising samples within the {samples} of the traces", file=url, key=key)


def _running(file: h5py.File, samples: int, url: str) -> np.ndarray:
    """Running speed (samples,) in cm/s at the samples of the traces; NaN where it was not recorded."""
    if not holds(file, f"{RUNNING}/data"):
        return np.full(samples, np.nan)
    speed = column(file, f"{RUNNING}/data", url)
    own = timestamps(file, RUNNING, len(speed), url)
    return on_clock(RUNNING, speed, own, Clock(TRACES, samples, timestamps(file, TRACES, samples, url)), url)
