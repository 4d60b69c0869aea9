"""NWB 2 in the layout in which DANDI hands out Allen Visual Coding: two-photon traces and natural scenes.

Nothing is known by its place alone: dF/F is the series of ROIs so named, in whatever module (`ophys`, or
`brain_observatory_pipeline`), and links and references are followed within the file.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError, listed
from sweeps.io.untrusted import refuse_infinite
from sweeps.recordings.readers.hdf5 import dataset, text
from sweeps.recordings.readers.nwb.scenes import (
    NUMBERS,
    SECONDS,
    SceneTimes,
    find_pictures,
    find_presentations,
    read_pictures,
    read_presentations,
    shown_stimuli,
)
from sweeps.recordings.readers.nwb.series import find_traces, series_of, times, unit, values
from sweeps.recordings.readers.nwb.session import Clock, ImagingSession, area_of, check_scenes, holds, on_clock

TAKES = (
    "this reader takes two-photon sessions of Allen Visual Coding (NWB 1 of the AllenSDK, NWB 2 as DANDI has them), and"
)
PLANES = "general/optophysiology"


def read_nwb_2(file: h5py.File, version: str, area: str | None, url: str) -> ImagingSession:
    """Read the session; the `area` of the cells where the user names it."""
    series, presented, pictures = _places(file, version, url)
    traces, clock = _traces(file, series, url)
    shown = read_presentations(file, presented, url)
    windows = _windows(shown, clock, url)
    template = read_pictures(file, pictures, url)
    area, running = area or _area(file, series, url), _running(file, clock, url)
    notes = _notes(shown)
    session = ImagingSession(traces, running, shown.scenes, windows, template, area, notes, shown.blank_known)
    check_scenes(session, shown.key, url)
    return session


def _places(file: h5py.File, version: str, url: str) -> tuple[str, str, str]:
    """Where traces, presentations and pictures lie; InputError that names the version and all that is missing."""
    fractions, others = find_traces(file)
    if len(fractions) > 1:
        problem = f"is NWB {version} with several series of dF/F, and which one to read is not known"
        raise InputError(f"{problem}: {listed(fractions)}", file=url)
    presented = find_presentations(file, url)
    pictures = find_pictures(file, presented, url)
    if not (fractions and presented and pictures):
        lacking = _lacking(fractions, others, presented, pictures, shown_stimuli(file))
        raise InputError(f"is NWB {version}: {TAKES} {'; '.join(lacking)}", file=url)
    return fractions[0], presented, pictures


def _lacking(
    fractions: list[str], others: list[str], presented: str | None, pictures: str | None, shown: list[str]
) -> list[str]:
    """What a file lacks, each with what it has instead."""
    lacking = []
    if not fractions:
        lacking.append(_missing("dF/F traces in processing (a DfOverF series)", others))
    if not presented:
        what = "presentations of natural scenes (an IndexSeries, or a table with a column"
        lacking.append(_missing(f"{what} such as {' or '.join(NUMBERS[:2])}, named natural_scenes)", shown))
    if not pictures:
        lacking.append(_missing("their pictures (natural_scenes in stimulus/templates)", []))
    return [f"this file lacks {lacking[0]}", *lacking[1:]]


def _missing(what: str, instead: list[str]) -> str:
    return f"{what}, it has {listed(instead, most=6)}" if instead else what


def _traces(file: h5py.File, series: str, url: str) -> tuple[np.ndarray, Clock]:
    """The traces (cells, samples) of a series (samples, ROIs), and their clock.

    A series that is stored the other way round is known by its timestamps and ROIs.
    """
    data, key = values(file, series, url), f"{series}/data"
    data = data[:, None] if data.ndim == 1 else data
    if data.ndim != 2 or not data.size:
        raise InputError("must be (samples, ROIs)", file=url, key=key, value=data.shape)
    expected = [_length(file, f"{series}/{name}", url) for name in ("timestamps", "rois")]
    fits = [all(count in (None, axis) for count, axis in zip(expected, shape, strict=True)) for shape in _shapes(data)]
    if not any(fits):
        problem = f"must be (samples, ROIs), with {expected[0]} timestamps and {expected[1]} ROIs"
        raise InputError(problem, file=url, key=key, value=data.shape)
    data = data if fits[0] else data.T
    seconds = times(file, series, len(data), url)
    if seconds is None or len(seconds) < 2:
        raise InputError("must have timestamps, or a starting_time and its rate", file=url, key=series)
    return np.ascontiguousarray(data.T), Clock(series, len(data), seconds)


def _shapes(data: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return data.shape, data.shape[::-1]


def _length(file: h5py.File, name: str, url: str) -> int | None:
    return len(dataset(file, name, url, 1)) if holds(file, name) else None


def _windows(shown: SceneTimes, clock: Clock, url: str) -> np.ndarray:
    """From which sample of the traces, up to which, every presentation lasts (presentations, 2); at least one.

    The first is the nearest to its start; a last one counts where three quarters of it lie within. So scenes of 0.25 s
    are seven samples at 30 a second, as in NWB 1.
    """
    assert clock.seconds is not None
    step = float(np.median(np.diff(clock.seconds)))
    begins = np.append((clock.seconds[1:] + clock.seconds[:-1]) / 2, clock.seconds[-1] + step / 2)
    outside = (shown.starts < clock.seconds[0] - step / 2) | (shown.stops > clock.seconds[-1] + 1.25 * step)
    if outside.any():
        problem = f"{outside.sum()} presentations lie outside of the traces, from {clock.seconds[0]:g} s to "
        raise InputError(f"{problem}{clock.seconds[-1]:g} s", file=url, key=shown.key)
    if not shown.timed and len(shown.starts) and (shown.stops - shown.starts).max() < 0.75 * step:
        raise InputError(
            "presentations follow each other faster than the samples of the traces", file=url, key=shown.key
        )
    first = np.searchsorted(begins, shown.starts)
    last = np.searchsorted(begins, shown.stops - step / 4)
    return np.stack([first, np.maximum(last, first + 1)], axis=1)


def _notes(shown: SceneTimes) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    if not shown.timed:
        notes["presentations"] = f"scenes last {SECONDS:g} s, or up to the next: the file states no ends"
    if not shown.blank_known:
        notes["scene_0"] = (
            "scene 0 is left out: shown twice as often as the others, it holds the blanks (-1 stored as 0)"
        )
    return notes


def _area(file: h5py.File, series: str, url: str) -> str | None:
    """The area that the location of the imaging plane names; None where the file has no location."""
    key = _location(file, series)
    return None if key is None else area_of(text(file, key, url), key, url)


def _location(file: h5py.File, series: str) -> str | None:
    """The location of the plane that the ROIs of a series lie in, else of the only plane."""
    table = file[f"{series}/rois"].attrs.get("table") if holds(file, f"{series}/rois") else None
    if isinstance(table, h5py.Reference) and table:
        place = f"{file[table].name}/imaging_plane/location"
        if holds(file, place):
            return place
    planes = file.get(PLANES)
    names = [f"{PLANES}/{name}/location" for name in planes] if isinstance(planes, h5py.Group) else []
    present = [name for name in names if holds(file, name)]
    return present[0] if len(present) == 1 else None


def _running(file: h5py.File, clock: Clock, url: str) -> np.ndarray:
    """Running speed (samples,) in cm/s at the samples of the traces; NaN where it was not recorded."""
    names = [name for name in series_of(file) if name.endswith(("/running_speed", "/running/speed"))]
    if len(names) != 1:
        return np.full(clock.samples, np.nan)
    speed = np.asarray(values(file, names[0], url), dtype=np.float64)
    if speed.ndim != 1 and speed.shape[1:] != (1,):
        raise InputError("must be (samples,) or (samples, 1)", file=url, key=f"{names[0]}/data", value=speed.shape)
    refuse_infinite(speed, url, f"{names[0]}/data")
    speed = speed.ravel() * (100.0 if unit(file, names[0]) == "m/s" else 1.0)
    return on_clock(names[0], speed, times(file, names[0], len(speed), url), clock, url)
