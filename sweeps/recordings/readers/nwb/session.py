"""One imaging session, whatever file it was read from; and what is on another clock than its traces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.io.untrusted import refuse_infinite
from sweeps.recordings.readers.hdf5 import numbers, whole
from sweeps.recordings.units import ALIASES

AREA = re.compile(r"\bVIS[a-z]+\b")


@dataclass(frozen=True)
class ImagingSession:
    """What the file holds: `traces` (cells, samples) and `running` (samples,) in cm/s, NaN where it was not recorded.

    Of every presentation `scenes` (presentations,), -1 for the blank, and `windows` (presentations, 2): from which
    sample, up to which. `template` are the pictures of the scenes, uint8 (rows, columns[, 3]) each; `area` is that of
    all cells, None where the file does not tell. `notes` are remarks on how it was read. `blank_known` is False where
    blanks were shown, but cannot be told from a scene.
    """

    traces: np.ndarray
    running: np.ndarray
    scenes: np.ndarray
    windows: np.ndarray
    template: Sequence[np.ndarray]
    area: str | None
    notes: Mapping[str, Any] = field(default_factory=dict)
    blank_known: bool = True


def check_scenes(session: ImagingSession, key: str, url: str) -> None:
    """Raise InputError for presentations of pictures that are not there."""
    scenes, count = session.scenes, len(session.template)
    if not (scenes >= 0).any() or scenes.max() >= count or scenes.min() < -1:
        raise InputError(f"must be scenes 0 to {count - 1}, or -1 for the blank", file=url, key=key)


def area_of(location: str, key: str, url: str) -> str:
    """The visual area that the location of an imaging plane names, in a longer text or alone."""
    area = AREA.search(location)
    if area:
        return area.group()
    if location.strip() in ALIASES.values():
        return location.strip()
    raise InputError("names no visual area such as VISp", file=url, key=key, value=location)


@dataclass(frozen=True)
class Clock:
    """When the `samples` of the traces, the series `name`, were taken: `seconds`, None where the file does not tell."""

    name: str
    samples: int
    seconds: np.ndarray | None


def on_clock(name: str, values: np.ndarray, own: np.ndarray | None, clock: Clock, url: str) -> np.ndarray:
    """Values (samples,) of the series `name` at the samples of the traces; NaN where it was not recorded.

    Aligned by its `own` times and those of the traces; without them it must have the samples of the traces.
    """
    if own is None or clock.seconds is None:
        if len(values) != clock.samples:
            known = f"must have the {clock.samples} samples of the traces"
            problem = f"{known}, or both must have `timestamps` to align them by"
            raise InputError(problem, file=url, key=f"{name}/data", value=len(values))
        return values
    aligned = _aligned(values, own, clock.seconds)
    if aligned is None:
        problem = f"must overlap with {clock.name}/timestamps, seconds on the same clock"
        raise InputError(problem, file=url, key=f"{name}/timestamps")
    return aligned


def holds(file: h5py.File, name: str) -> bool:
    """Whether there is something at a path; not where a link on the way leads nowhere, or to another file."""
    return file.get(name) is not None


def column(file: h5py.File, name: str, url: str) -> np.ndarray:
    """Numbers (samples,); pipeline 0.9 stored them as (samples, 1)."""
    stored = numbers(file, name, url)
    if stored.ndim != 1 and stored.shape[1:] != (1,):
        raise InputError("must be (samples,) or (samples, 1)", file=url, key=name, value=stored.shape)
    values = whole(stored, url).astype(np.float64).ravel()
    refuse_infinite(values, url, name)
    return values


def timestamps(file: h5py.File, series: str, samples: int, url: str) -> np.ndarray | None:
    """The `timestamps` of a series; None where it has none."""
    name = f"{series}/timestamps"
    if not holds(file, name):
        return None
    seconds = column(file, name, url)
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
