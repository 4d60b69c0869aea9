"""Natural scenes in NWB 2: which picture was shown when, and the pictures.

Presentations are an IndexSeries of numbers of pictures, whose times are starts; or a table of intervals with the number
in a column. Pictures are a stack (`data`), or an Images container. Source: NWB schema 2.7, and the conversion of
Visual Coding on DANDI (dandiset 000728).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from sweeps.errors import InputError, listed
from sweeps.recordings.readers.hdf5 import dataset, numbers, whole
from sweeps.recordings.readers.nwb.series import texts, times
from sweeps.recordings.readers.nwb.session import holds
from sweeps.recordings.readers.screens import Brightness

SCENES = "naturalscene"
"""How names of what belongs to natural scenes begin, in lower case and without signs."""

COLOURS = ((), (3,), (4,))
"""Shapes of a pixel: grey, RGB, and RGB with transparency."""

PRESENTED, INTERVALS, TEMPLATES = "stimulus/presentation", "intervals", "stimulus/templates"

NUMBERS = (
    *("frame", "image_index", "template_index", "stimulus_index", "frame_index", "scene_index", "scene", "image"),
    *("image_number", "frame_number", "image_id", "template_frame", "index"),
)
"""Columns of a table that say which picture was shown."""

NAMES = ("stimulus_name", "stimulus_type", "stimulus", "stimulus_block")
"""Columns of a table of several stimuli that say which one was shown."""

SECONDS = 0.25
"""Seconds that a scene of Visual Coding lasts; an IndexSeries does not tell."""


@dataclass(frozen=True)
class SceneTimes:
    """`scenes` (presentations,), -1 for the blank, as the dataset `key` tells; `starts` and `stops` in seconds.

    `timed` says that the file states the stops.
    """

    key: str
    scenes: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    timed: bool
    blank_known: bool = True


def shown_stimuli(file: h5py.File) -> list[str]:
    """Names of what a file shows, and of its tables of intervals."""
    groups = (file.get(place) for place in (PRESENTED, INTERVALS))
    return sorted({name for group in groups if isinstance(group, h5py.Group) for name in group})


def of_scenes(name: str) -> bool:
    """Whether something belongs to natural scenes, by the last part of its name.

    >>> of_scenes("intervals/natural_scenes_presentations"), of_scenes("NaturalScenes"), of_scenes("natural_movie_one")
    (True, True, False)
    """
    return re.sub(r"[^a-z]", "", name.rsplit("/", 1)[-1].lower()).startswith(SCENES)


def find_presentations(file: h5py.File, url: str) -> str | None:
    """The table, else the series that says when which scene was shown; None where there is none."""
    groups = [f"{place}/{name}" for place in (PRESENTED, INTERVALS) for name in _members(file, place)]
    tables = [name for name in groups if _number_column(file, name)]
    own = [name for name in tables if of_scenes(name)]
    series = [name for name in groups if of_scenes(name) and holds(file, f"{name}/data")]
    mixed = [name for name in tables if _rows_of_scenes(file, name) is not None]
    return _only(own or series or mixed, url)


def _only(names: list[str], url: str) -> str | None:
    """The one name, None for none; InputError for several."""
    if len(names) > 1:
        raise InputError("several hold natural scenes, and which to read is not known", file=url, key=listed(names))
    return names[0] if names else None


def read_presentations(file: h5py.File, name: str, url: str) -> SceneTimes:
    """What the table or the series `name` says; a scene that cannot be told from the blank is left out."""
    column = _number_column(file, name)
    told = _of_table(file, name, column, url) if column else _of_series(file, name, url)
    return _without_clipped_blank(told, np.dtype(file[told.key].dtype))


def _of_table(file: h5py.File, name: str, column: str, url: str) -> SceneTimes:
    key = f"{name}/{column}"
    parts = (column, "start_time", "stop_time")
    columns = [whole(numbers(file, f"{name}/{part}", url, 1), url) for part in parts]
    if len({len(values) for values in columns}) != 1:
        raise InputError("must have one entry for every start_time and stop_time", file=url, key=key)
    own = None if of_scenes(name) else _rows_of_scenes(file, name)
    scenes, starts, stops = columns if own is None else (values[own] for values in columns)
    if not (np.isfinite(starts) & np.isfinite(stops) & (starts < stops)).all():
        raise InputError("must hold stop times after the start times", file=url, key=f"{name}/stop_time")
    return SceneTimes(key, _whole(scenes, key, url), starts.astype(float), stops.astype(float), timed=True)


def _of_series(file: h5py.File, name: str, url: str) -> SceneTimes:
    """Every presentation lasts SECONDS, or up to the next one where these follow each other faster."""
    key = f"{name}/data"
    stored = whole(numbers(file, key, url, 1), url)
    starts = times(file, name, len(stored), url)
    if starts is None:
        raise InputError("must have timestamps, or a starting_time and its rate", file=url, key=name)
    step = float(np.median(np.diff(starts))) if len(starts) > 1 else SECONDS
    return SceneTimes(key, _whole(stored, key, url), starts, starts + min(SECONDS, step), timed=False)


def _whole(stored: np.ndarray, key: str, url: str) -> np.ndarray:
    """Numbers of pictures as int64; -1, NaN and the largest unsigned number (-1 stored as such) are the blank."""
    if stored.dtype.kind == "u":
        return np.where(stored == np.iinfo(stored.dtype).max, -1, stored.astype(np.int64))
    blank = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(len(stored), bool)
    with np.errstate(invalid="ignore"):
        whole = np.where(blank, -1, stored).astype(np.int64)
    if not np.array_equal(whole[~blank], stored[~blank]):
        raise InputError("must hold whole numbers", file=url, key=key)
    return whole


def _without_clipped_blank(told: SceneTimes, stored: np.dtype) -> SceneTimes:
    """Leave picture 0 out where blanks were stored as 0 too: unsigned, no blank, and 0 twice as often as any other.

    HDF5 stores -1 as 0 where it converts to unsigned numbers, as the conversion on DANDI did.
    """
    scenes, counts = np.unique(told.scenes, return_counts=True)
    if stored.kind != "u" or len(scenes) < 3 or scenes[0] != 0:
        return told
    if counts[1:].max() > 1.2 * counts[1:].min() or not 1.5 <= counts[0] / np.median(counts[1:]) <= 2.5:
        return told
    kept = told.scenes != 0
    return SceneTimes(told.key, told.scenes[kept], told.starts[kept], told.stops[kept], told.timed, False)


def _members(file: h5py.File, place: str) -> list[str]:
    group = file.get(place)
    return sorted(group) if isinstance(group, h5py.Group) else []


def _number_column(file: h5py.File, table: str) -> str:
    """The column of a table of intervals that says which picture was shown; empty where `table` is no such table."""
    group = file.get(table)
    if not isinstance(group, h5py.Group) or not (holds(group, "start_time") and holds(group, "stop_time")):
        return ""
    columns = {name.lower(): name for name in group if isinstance(group.get(name), h5py.Dataset)}
    return next((columns[name] for name in NUMBERS if name in columns), "")


def _rows_of_scenes(file: h5py.File, table: str) -> np.ndarray | None:
    """Rows of a table of several stimuli that show natural scenes; None where no column tells, or none does."""
    for name in NAMES:
        column = file.get(f"{table}/{name}")
        if isinstance(column, h5py.Dataset):
            rows = np.array([of_scenes(text) for text in texts(column)], dtype=bool)
            if rows.any():
                return rows
    return None


# -- pictures ---------------------------------------------------------------------------------------


def find_pictures(file: h5py.File, presented: str | None, url: str) -> str | None:
    """Where the pictures lie: where the series of presentations refers to, else the template of natural scenes."""
    links = [f"{presented}/{name}" for name in ("indexed_images", "indexed_timeseries")] if presented else []
    named = [f"{TEMPLATES}/{name}" for name in _members(file, TEMPLATES) if of_scenes(name)]
    return next((name for name in links if holds(file, name)), None) or _only(named, url)


def read_pictures(file: h5py.File, place: str, url: str) -> Sequence[np.ndarray]:
    """The pictures in the order of their numbers, uint8 (rows, columns[, 3]) each."""
    if isinstance(file.get(place), h5py.Dataset):
        return _stack(file, place, url)
    if holds(file, f"{place}/data"):
        return _stack(file, f"{place}/data", url)
    return as_pictures((_picture(file, f"{place}/{name}", url) for name in _ordered(file, place, url)), place, url)


def _stack(file: h5py.File, key: str, url: str) -> list[np.ndarray]:
    stored = numbers(file, key, url)
    if stored.ndim not in (3, 4) or not stored.size or stored.shape[3:] not in COLOURS:
        problem = "must be pictures (scenes, rows, columns[, 3 or 4])"
        raise InputError(problem, file=url, key=key, value=stored.shape)
    return as_pictures(whole(stored, url), key, url)


def _picture(file: h5py.File, key: str, url: str) -> np.ndarray:
    stored = numbers(file, key, url)
    if stored.ndim not in (2, 3) or not stored.size or stored.shape[2:] not in COLOURS:
        raise InputError("must be a picture (rows, columns[, 3 or 4])", file=url, key=key, value=stored.shape)
    return whole(stored, url)


def as_pictures(stored: Iterable[np.ndarray], key: str, url: str) -> list[np.ndarray]:
    """Stored pictures as uint8 (rows, columns[, 3]) each; InputError where 255 cannot be their white."""
    brightness = Brightness(255.0, url, key)
    pictures = [brightness.pixels(picture, url) for picture in stored]
    brightness.check("store the pictures as 0 to 255")
    return pictures


def _ordered(file: h5py.File, place: str, url: str) -> list[str]:
    """Names of an Images container in the order that it states, else of the numbers that they end with, none missing.

    HDF5 lists names by the alphabet: scene 10 before scene 2.
    """
    if holds(file, f"{place}/order_of_images"):
        references = whole(dataset(file, f"{place}/order_of_images", url, 1), url)
        return [file[reference].name.rsplit("/", 1)[-1] for reference in references]
    names = [name for name in file[place] if isinstance(file[place].get(name), h5py.Dataset)]
    ends = {name: re.search(r"(\d+)$", name) for name in names}
    order = sorted((int(end.group()), name) for name, end in ends.items() if end)
    first = order[0][0] if order else 0
    if not names or first > 1 or [number for number, _ in order] != list(range(first, first + len(names))):
        problem = "must state order_of_images, or number its pictures from 0 without gaps"
        raise InputError(problem, file=url, key=place, value=names[:3])
    return [name for _, name in order]
