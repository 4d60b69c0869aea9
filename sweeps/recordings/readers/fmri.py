"""What fMRI formats share: large arrays of a tree read in parts, voxels without data, z-scores within a run."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.io.guards.free_memory import refuse_numbers_beyond_memory
from sweeps.io.pointers import open_checked
from sweeps.io.untrusted import npy_header, reading
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.hdf5 import BLOCK, boxes, content_of

LARGEST = 4e9
"""Bytes of responses above which a recording is refused unless fewer voxels are chosen."""


def remember(tree: Tree, name: str) -> None:
    """Take a file's content into the tree's digest, a block at a time."""
    with _stream(tree, name) as stream:
        for _ in tree.remember_blocks(name, iter(lambda: stream.read(BLOCK), b"")):
            pass


@contextmanager
def hdf5_in(tree: Tree, name: str) -> Iterator[h5py.File]:
    """An HDF5 file of a tree, read where it lies; out of a zip, in which there is no going back, it is read whole."""
    place = io.BytesIO(*tree.later([name])) if tree.packed else _stream(tree, name)
    with place as stream, content_of(stream, tree.file(name)) as content:
        yield content


def with_data(responses: h5py.Dataset, rows: slice = slice(None)) -> np.ndarray:
    """Which voxels (voxels,) of a dataset (..., samples, voxels) are finite throughout `rows`, and vary there.

    In (repeats, samples, voxels) they must do so in every repeat.
    """
    lead, voxels = responses.shape[:-2], responses.shape[-1]
    low, high = np.full((*lead, voxels), np.inf), np.full((*lead, voxels), -np.inf)
    for box in _within(responses, rows):
        part = responses[box]
        place = (*box[:-2], box[-1])
        low[place] = np.minimum(low[place], part.min(axis=-2))  # NaN where one of both is
        high[place] = np.maximum(high[place], part.max(axis=-2))
    return np.asarray(_vary(low, high).all(axis=tuple(range(len(lead)))))


def chosen(responses: h5py.Dataset, voxels: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
    """Some rows and voxels of a dataset (..., samples, voxels), in its own type, read a box at a time."""
    start, stop, _ = rows.indices(responses.shape[-2])
    values = np.empty((*responses.shape[:-2], stop - start, len(voxels)), responses.dtype)
    for box in _within(responses, rows):
        mine = np.flatnonzero((voxels >= box[-1].start) & (voxels < box[-1].stop))
        if len(mine):
            place: tuple[Any, ...] = (*box[:-2], slice(box[-2].start - start, box[-2].stop - start), mine)
            values[place] = responses[box][..., voxels[mine] - box[-1].start]
    return values


def _within(responses: h5py.Dataset, rows: slice) -> Iterator[tuple[slice, ...]]:
    """The parts of a dataset's boxes that lie within some rows (its last axis but one)."""
    first, last, _ = rows.indices(responses.shape[-2])
    for *lead, samples, voxels in boxes(responses):
        start, stop = max(samples.start, first), min(samples.stop, last)
        if start < stop:
            yield (*lead, slice(start, stop), voxels)


def npy_shape(tree: Tree, name: str) -> tuple[int, ...]:
    """The shape of a .npy array of numbers, from its header."""
    with _stream(tree, name) as stream:
        return npy_header(stream, tree.file(name))[0]


def npy_parts(tree: Tree, name: str) -> Iterator[np.ndarray]:
    """A .npy array (rows, columns), some rows at a time; one that is stored column by column comes whole."""
    with _stream(tree, name) as stream:
        (rows, columns), by_columns, kind = npy_header(stream, tree.file(name))
        if by_columns:
            refuse_numbers_beyond_memory(rows * columns, kind.itemsize, tree.file(name))
        step = max(1, BLOCK // max(1, columns * kind.itemsize)) if not by_columns else max(1, rows)
        for start in range(0, rows, step):
            count = min(step, rows - start) * columns
            content = stream.read(count * kind.itemsize)
            if len(content) < count * kind.itemsize:
                raise InputError(f"ends early: it must hold {rows} x {columns} numbers", file=tree.file(name))
            yield np.frombuffer(content, kind).reshape((-1, columns), order="F" if by_columns else "C")


@contextmanager
def _stream(tree: Tree, name: str) -> Iterator[Any]:
    """A file of a tree, open for reading."""
    tree.must_have([name])
    file = tree.file(name)
    with reading(file), open_checked(tree.fs, tree.place(name), file, tree.packed) as stream:
        yield stream


def zscored(samples: np.ndarray) -> np.ndarray:
    """Samples (samples, voxels) less their mean, divided by their deviation (ddof 0); a constant voxel becomes 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, deviation = np.nanmean(samples, axis=0), np.nanstd(samples, axis=0)
    return np.asarray((samples - mean) / np.where(deviation > 0, deviation, 1.0))


def varying(samples: np.ndarray) -> np.ndarray:
    """Which voxels (voxels,) hold two different numbers, and none that is infinite, among their samples.

    Samples are (samples, voxels); NaN is none.
    """
    return _vary(np.fmin.reduce(samples, axis=0), np.fmax.reduce(samples, axis=0))


def _vary(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether numbers from `low` to `high` differ, and have room in 32 bits."""
    most = np.finfo(np.float32).max
    return np.asarray((low < high) & (low >= -most) & (high <= most))


def some_of(holds_data: np.ndarray, file: str) -> np.ndarray:
    """Numbers of the voxels that hold data; InputError where none does."""
    voxels = np.flatnonzero(holds_data)
    if not len(voxels):
        raise InputError("no voxel holds data: numbers throughout, not all the same", file=file)
    return voxels


def check_size(rows: int, voxels: int, repeats: int, file: str) -> None:
    """Refuse responses that would not fit into a worker's memory, before they are read."""
    size = 4.0 * rows * voxels * repeats
    if size > LARGEST:
        raise InputError(
            f"{voxels} voxels, {rows} samples, {repeats} repeats are {size / 1e9:.1f} GB: ask for fewer, `units: N`",
            file=file,
            key="units",
        )


COARSEST = 0.05
"""Most that a label may differ from a whole number where the file's header scales its values."""


def whole_labels(values: np.ndarray, file: str, step: float = 0.0) -> np.ndarray:
    """Labels of a mask as integers; NaN means outside, as 0 and less do. InputError where one is no whole number.

    `step` is the distance of two stored values where a header scales them: rounding by as much is let be.

    >>> whole_labels(np.array([0.0, 2.0, np.nan]), "mask.nii")
    array([0, 2, 0])
    """
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    labels = np.where(np.isnan(values), 0.0, values.astype(np.float64))
    whole = np.round(labels)
    beyond = np.abs(labels - whole) > min(step, COARSEST)
    if beyond.any():
        value = float(labels[beyond][0])
        raise InputError("labels must be whole numbers: resample with nearest neighbours", file=file, value=value)
    return np.asarray(whole.astype(np.int64))


def labels_moved(values: np.ndarray, labels: np.ndarray) -> bool:
    """Whether `labels` of a mask are others than its positive `values` cut to whole numbers, 0 being one of these."""
    positive = values > 0
    return bool((np.trunc(values[positive]) != labels[positive]).any() or (labels[positive] == 0).any())
