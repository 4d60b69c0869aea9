"""Sampled signals on a clock in seconds, and their values at other times."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sweeps.errors import InputError
from sweeps.io.guards.free_memory import refuse_numbers_beyond_memory
from sweeps.io.pointers import LENGTH, refuse_pointer
from sweeps.io.untrusted import npy_header, reading, refuse_infinite
from sweeps.recordings.readers.file_tree import Tree

BLOCK = 2**24
"""Bytes of a large file that are read at a time."""

FASTEST = 1e6
"""Samples a second: more than any device here takes."""


@dataclass(frozen=True)
class Sequence:
    """Signals (samples, signals) of one device; sample i of signal s is of start + i / rate + shift[s] seconds."""

    values: np.ndarray
    start: float
    rate: float
    shift: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Values (times, signals) float32 at `times` (seconds), linear between the two samples around each.

        NaN before the first and after the last sample of a signal, and beside a sample that is NaN.
        """
        values = np.empty((len(times), self.values.shape[1]), np.float32)
        last = len(self.values) - 1
        for shift in np.unique(self.shift):
            mine = np.flatnonzero(self.shift == shift)
            place = np.round((times - self.start - shift) * self.rate, 6)  # a time on a sample is not between two
            low = np.clip(np.floor(place).astype(int), 0, last)
            part = (place - low)[:, None]
            below, above = self.values[np.ix_(low, mine)], self.values[np.ix_(np.minimum(low + 1, last), mine)]
            between = np.where(part > 0, below + part * (above - below), below)
            values[:, mine] = np.where(((place >= 0) & (place <= last))[:, None], between, np.nan)
        return values


@dataclass(frozen=True)
class Layout:
    """How a file holds samples: where they begin, their type and (samples, signals)."""

    name: str
    offset: int
    kind: np.dtype[Any]
    shape: tuple[int, int]


def read_sequence(tree: Tree, device: str, rows: np.ndarray | None = None) -> Sequence:
    """One device of an Experanto tree: `data.npy` or `data.mem`, `meta.yml`, `meta/phase_shifts.npy`.

    `rows` are the signals that are read (all by default): the file is read in parts, so that the others take no
    room. Phase shifts (seconds, one per signal) are read where `phase_shift_per_signal` is set.
    """
    meta = tree.mapping(f"{device}/meta.yml")
    layout = read_layout(tree, device, meta)
    _check_size(tree, layout, layout.shape[1] * layout.kind.itemsize)
    columns = np.arange(layout.shape[1]) if rows is None else rows
    rate = _number(tree, device, meta, "sampling_rate")
    if not 0 < rate <= FASTEST:
        raise InputError(
            f"must be above 0, up to {FASTEST:g}", file=tree.file(f"{device}/meta.yml"), key="sampling_rate", value=rate
        )
    shift = _shifts(tree, device, meta, layout.shape[1])[columns]
    return Sequence(_values(tree, layout, columns), _number(tree, device, meta, "start_time"), rate, shift)


def read_layout(tree: Tree, device: str, meta: dict[str, Any]) -> Layout:
    """Where and how a device's samples lie, from its meta.yml and the header of its file; reads no samples."""
    _check_modality(tree, device, meta)
    signals = _whole(tree, device, meta, "n_signals")
    layout = _mapped(tree, device, meta, signals) if meta.get("is_mem_mapped") else _npy(tree, f"{device}/data.npy")
    if layout.shape[1] != signals:
        problem = f"holds {layout.shape[1]} signals, {device}/meta.yml says n_signals: {signals}"
        raise InputError(problem, file=tree.file(layout.name))
    return layout


def _check_modality(tree: Tree, device: str, meta: dict[str, Any]) -> None:
    """Refuse devices that hold other things than samples of signals."""
    modality = meta.get("modality", "sequence")
    if modality != "sequence":
        what = f"{modality} are not read" if modality == "spikes" else "is not read"
        remedy = "store counts a bin instead, (bins, units) in data.npy, with modality: sequence and sampling_rate"
        problem = f"{what}, only samples of signals: {remedy}" if modality == "spikes" else f"{what}; must be sequence"
        raise InputError(problem, file=tree.file(f"{device}/meta.yml"), key="modality", value=modality)


def _mapped(tree: Tree, device: str, meta: dict[str, Any], signals: int) -> Layout:
    name = f"{device}/data.mem"
    samples = _whole(tree, device, meta, "n_timestamps")
    with reading(tree.file(f"{device}/meta.yml"), f"dtype = {meta.get('dtype')!r}: must be a NumPy type"):
        kind = np.dtype(str(meta.get("dtype")))
    _check_kind(kind, tree.file(name))
    return Layout(name, 0, kind, (samples, signals))


def _npy(tree: Tree, name: str) -> Layout:
    if not tree.has(name):
        raise InputError("missing file", file=tree.file(name))
    stream = io.BytesIO(_range(tree, name, 0, 4096))
    shape, columns_first, kind = npy_header(stream, tree.file(name))
    if len(shape) != 2 or (columns_first and 1 not in shape):
        order = ", stored column by column" if columns_first else ""
        raise InputError(f"must be (samples, signals) in row order, not {shape}{order}", file=tree.file(name))
    if not shape[0]:
        raise InputError("holds no sample", file=tree.file(name))
    return Layout(name, stream.tell(), kind, (shape[0], shape[1]))


def _check_kind(kind: np.dtype[Any], file: str) -> None:
    if kind.kind not in "fiub":
        raise InputError(f"must hold numbers, not {kind}", file=file)


def _values(tree: Tree, layout: Layout, columns: np.ndarray) -> np.ndarray:
    """The chosen signals of all samples, float32."""
    width = layout.shape[1] * layout.kind.itemsize
    refuse_numbers_beyond_memory(layout.shape[0] * len(columns), 4, tree.file(layout.name))
    values = np.empty((layout.shape[0], len(columns)), np.float32)
    done = 0
    for block in tree.remember_blocks(layout.name, _blocks(tree, layout, width)):
        content = block[layout.offset :] if done == 0 else block
        samples = np.frombuffer(content, layout.kind).reshape(-1, layout.shape[1])[:, columns]
        refuse_infinite(samples, tree.file(layout.name))
        values[done : done + len(samples)] = samples
        done += len(samples)
    return values


def _blocks(tree: Tree, layout: Layout, width: int) -> Iterator[bytes]:
    """The file in parts of whole samples, the header before the first."""
    total = layout.offset + layout.shape[0] * width
    step = max(1, BLOCK // max(width, 1)) * width
    cuts = [0, *range(layout.offset + step, total, step), total] if width else [0, total]
    for start, stop in pairwise(cuts):
        block = _range(tree, layout.name, start, stop)
        if len(block) != stop - start:  # a zip may say more of it than it holds
            raise InputError(f"ends early: its samples take {total} bytes", file=tree.file(layout.name))
        yield block


def _check_size(tree: Tree, layout: Layout, width: int) -> None:
    """Raise InputError where a file is too short for its samples, before room is taken for them."""
    tree.must_have([layout.name])
    total = layout.offset + layout.shape[0] * width
    _range(tree, layout.name, 0, LENGTH)  # a pointer is called so
    with reading(tree.file(layout.name)):
        size = tree.fs.size(tree.place(layout.name))
    if size is None or size < total:
        problem = f"ends early: {layout.shape[0]} samples of {layout.shape[1]} signals take {total} bytes"
        raise InputError(problem, file=tree.file(layout.name))


def _range(tree: Tree, name: str, start: int, stop: int) -> bytes:
    with reading(tree.file(name)):
        block = bytes(tree.fs.cat_file(tree.place(name), start=start, end=stop))
    if start == 0:
        refuse_pointer(block, tree.file(name), tree.packed)
    return block


def _number(tree: Tree, device: str, meta: dict[str, Any], key: str) -> float:
    value = meta.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise InputError("must be a number", file=tree.file(f"{device}/meta.yml"), key=key, value=value)
    return float(value)


def _whole(tree: Tree, device: str, meta: dict[str, Any], key: str) -> int:
    value = _number(tree, device, meta, key)
    if value < 1 or not value.is_integer():
        problem = "must be a whole number from 1"
        raise InputError(problem, file=tree.file(f"{device}/meta.yml"), key=key, value=meta.get(key))
    return int(value)


def _shifts(tree: Tree, device: str, meta: dict[str, Any], signals: int) -> np.ndarray:
    if not meta.get("phase_shift_per_signal"):
        return np.zeros(signals)
    name = f"{device}/meta/phase_shifts.npy"
    shifts = tree.array(name)
    if shifts.shape != (signals,):
        raise InputError(
            f"must be ({signals},), one shift in seconds per signal, not {shifts.shape}", file=tree.file(name)
        )
    if not np.isfinite(shifts).all():
        raise InputError("must hold a shift of every signal, not NaN", file=tree.file(name))
    return shifts.astype(np.float64)
