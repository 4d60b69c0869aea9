"""HDF5 files of any size, local or remote: only what is asked for is read."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.recordings.images import open_filesystem

BLOCK = 2**22
"""Bytes that are read at a time."""


@contextmanager
def opened(url: str) -> Iterator[h5py.File]:
    """An HDF5 file, opened for reading; InputError where it is missing or none."""
    filesystem, path = open_filesystem(url)
    try:
        stream = filesystem.open(path, "rb")
    except FileNotFoundError:
        raise InputError("missing file", file=url) from None
    except Exception as error:  # whatever the library of an object store raises
        raise InputError(f"cannot be read ({type(error).__name__}: {error})", file=url) from None
    with stream, held_in(stream, url) as held:
        yield held


@contextmanager
def held_in(stream: Any, url: str) -> Iterator[h5py.File]:
    """The HDF5 file that an open stream holds; InputError where it is none, or cannot be read in some place."""
    try:
        found = h5py.File(stream, "r")
    except OSError as error:
        raise InputError(f"is no HDF5 file: {error}", file=url) from None
    with found as held:
        try:
            yield held
        except OSError as error:
            raise InputError(f"cannot be read ({type(error).__name__}: {error})", file=url) from None


def boxes(held: h5py.Dataset, most: int = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Slices that tile a dataset, in the order of its numbers: none of its chunks lies in two of them.

    They grow from one chunk (one number where there are no chunks), along the last axis first, to `most` bytes; a
    larger chunk is a box by itself.
    """
    size = [min(step, count) for step, count in zip(held.chunks or [1] * held.ndim, held.shape, strict=True)]
    for axis in reversed(range(held.ndim)):
        times = most // max(1, math.prod(size) * held.dtype.itemsize)
        size[axis] = min(size[axis] * max(1, times), held.shape[axis])
        if size[axis] < held.shape[axis]:
            break
    corners = (range(0, count, max(1, step)) for count, step in zip(held.shape, size, strict=True))
    for corner in itertools.product(*corners):
        places = zip(corner, size, held.shape, strict=True)
        yield tuple(slice(start, min(start + step, count)) for start, step, count in places)


def dataset(held: h5py.File, name: str, url: str, ndim: int | None = None) -> Any:
    """A dataset by its path in the file; InputError names what is missing or of another number of axes."""
    found = held.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError("missing dataset", file=url, key=name)
    if ndim is not None and found.ndim != ndim:
        raise InputError(f"must have {ndim} axes", file=url, key=name, value=found.shape)
    return found


def text(held: h5py.File, name: str, url: str) -> str:
    """A scalar text."""
    value = np.asarray(dataset(held, name, url)).ravel()
    first = value[0] if len(value) else ""
    return first.decode() if isinstance(first, bytes) else str(first)


def digest(url: str) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    filesystem, path = open_filesystem(url)
    total = hashlib.sha256()
    try:
        with filesystem.open(path, "rb") as stream:
            while block := stream.read(BLOCK):
                total.update(block)
    except FileNotFoundError:
        raise InputError("missing file", file=url) from None
    return total.hexdigest()
