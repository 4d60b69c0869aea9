"""TimeSeries and columns of NWB 2: values in their unit, and when they were taken."""

from __future__ import annotations

import re

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.recordings.readers.hdf5 import numbers, whole
from sweeps.recordings.readers.nwb.session import holds, timestamps

DFF = re.compile(r"^d(elta)?f(overf|f)")
"""How names of dF/F begin, in lower case and without signs: DfOverF, dff, DeltaFOverF, dF_over_F."""


def find_traces(file: h5py.File) -> tuple[list[str], list[str]]:
    """Names of all series of ROIs in `processing`: those of dF/F, and the others; events are never dF/F."""
    fractions, others = [], []
    for name in series_of(file):
        parts = [re.sub(r"[^a-z]", "", part.lower()) for part in name.split("/")]
        if any(DFF.match(part) for part in parts) and "event" not in parts[-1] and "event" not in parts[-2]:
            fractions.append(name)
        elif holds(file, f"{name}/rois"):
            others.append(name)
    return fractions, others


def series_of(file: h5py.File) -> list[str]:
    """Names of all groups in `processing` with a dataset `data`."""
    names: list[str] = []
    processing = file.get("processing")
    if isinstance(processing, h5py.Group):
        processing.visititems(lambda name, item: names.append(f"processing/{name}") if _is_series(item) else None)
    return names


def _is_series(item: object) -> bool:
    return isinstance(item, h5py.Group) and isinstance(item.get("data"), h5py.Dataset)


def times(file: h5py.File, series: str, samples: int, url: str) -> np.ndarray | None:
    """Seconds (samples,) of a series: its `timestamps`, else `starting_time` and rate; None where it has neither."""
    start = file.get(f"{series}/starting_time")
    if holds(file, f"{series}/timestamps") or not isinstance(start, h5py.Dataset):
        return timestamps(file, series, samples, url)
    first, rate = float(numbers(file, f"{series}/starting_time", url)[()]), float(start.attrs.get("rate", np.nan))
    if not (np.isfinite(first) and np.isfinite(rate) and rate > 0):
        raise InputError("must be seconds, with a rate above 0", file=url, key=f"{series}/starting_time", value=rate)
    return np.asarray(first + np.arange(samples) / rate)


def values(file: h5py.File, series: str, url: str) -> np.ndarray:
    """The data of a series in its unit: stored numbers times `conversion`, plus `offset`."""
    stored = numbers(file, f"{series}/data", url)
    array, attributes = whole(stored, url), stored.attrs
    scale, offset = float(attributes.get("conversion", 1.0)), float(attributes.get("offset", 0.0))
    return array if scale == 1.0 and offset == 0.0 else array * scale + offset


def unit(file: h5py.File, series: str) -> str:
    """The unit of a series; empty where it has none."""
    stated = file[f"{series}/data"].attrs.get("unit", "")
    return stated.decode() if isinstance(stated, bytes) else str(stated)


def texts(column: h5py.Dataset) -> list[str]:
    """The texts of a column; none where it holds others."""
    if h5py.check_string_dtype(column.dtype) is None and column.dtype.kind != "S":
        return []
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in column[:]]
