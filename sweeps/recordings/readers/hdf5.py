"""HDF5 files of any size, local or remote: only what is needed is read."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.io.filesystem import open_filesystem
from sweeps.io.guards.free_memory import refuse_numbers_beyond_memory
from sweeps.io.pointers import open_checked
from sweeps.io.untrusted import reading, refuse_bomb

BLOCK = 2**22
"""Bytes that are read at a time."""

IN_HDF5PLUGIN = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
}
"""Filters that the package hdf5plugin brings, by their registered numbers."""

FILTERS = {
    **IN_HDF5PLUGIN,
    4: "SZIP",
    305: "LZO",
    32000: "LZF",
    32002: "MAFISC",
    32003: "Snappy",
    32005: "APAX",
    32006: "CBF",
    32007: "JPEG-XR",
    32009: "SPDP",
    32010: "LPC-Rice",
    32011: "CCSDS-123",
    32012: "JPEG-LS",
    32014: "FPZIP",
    32016: "B3D",
    32019: "JPEG",
    32020: "VBZ",
    32021: "FAPEC",
    32022: "BitGroom",
    32023: "Granular BitRound",
    32025: "Delta-Rice",
    32027: "FLAC",
}
"""Filters by number. Source: the registry of the HDF Group."""
ZARR = ("zarr.json", ".zgroup", ".zmetadata", ".zattrs", ".zarray")
"""Files that make a folder a Zarr store, of version 3 or 2."""


@contextmanager
def opened(url: str) -> Iterator[h5py.File]:
    """An HDF5 file, opened for reading; InputError where it is missing or none."""
    filesystem, path = open_filesystem(url)
    with reading(url):
        try:
            stream = open_checked(filesystem, path, url)
        except OSError:
            refuse_zarr(url)
            raise
    with stream, content_of(stream, url) as content:
        yield content


def refuse_zarr(url: str) -> None:
    """Raise InputError where a folder is a Zarr store, in which archives such as DANDI hand out NWB as well."""
    filesystem, path = open_filesystem(url)
    with reading(url):
        zarr = any(filesystem.exists(f"{path.rstrip('/')}/{name}") for name in ZARR)
    if zarr:
        problem = "is a Zarr folder, and only HDF5 files are read: export it to HDF5 once (hdmf-zarr, NWBHDF5IO.export)"
        raise InputError(problem, file=url)


@contextmanager
def content_of(stream: Any, url: str) -> Iterator[h5py.File]:
    """The HDF5 file that an open stream holds; InputError where it is none, or cannot be read in some place."""
    with reading(url, "is no HDF5 file"):
        file = h5py.File(stream, "r")
    with file as content, reading(url):
        yield content


def boxes(array: h5py.Dataset, most: int = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Slices that tile a dataset, in the order of its numbers: none of its chunks lies in two of them.

    They grow from one chunk (one number where there are no chunks), along the last axis first, to `most` bytes; a
    larger chunk is a box by itself.
    """
    size = [min(step, count) for step, count in zip(array.chunks or [1] * array.ndim, array.shape, strict=True)]
    for axis in reversed(range(array.ndim)):
        times = most // max(1, math.prod(size) * array.dtype.itemsize)
        size[axis] = min(size[axis] * max(1, times), array.shape[axis])
        if size[axis] < array.shape[axis]:
            break
    corners = (range(0, count, max(1, step)) for count, step in zip(array.shape, size, strict=True))
    for corner in itertools.product(*corners):
        places = zip(corner, size, array.shape, strict=True)
        yield tuple(slice(start, min(start + step, count)) for start, step, count in places)


def dataset(content: h5py.File, name: str, url: str, ndim: int | None = None) -> Any:
    """A dataset by its path in the file; InputError names what is missing, or not all in this file.

    HDF5 itself would read a dataset of external or virtual storage out of any other file that its author names.
    """
    with reading(url):
        array = content.get(name)
    if not isinstance(array, h5py.Dataset):
        raise InputError("missing dataset", file=url, key=name, allowed=None if "/" in name else sorted(content))
    if array.external or array.is_virtual:
        raise InputError("lies in another file, which is not read: store the numbers here", file=url, key=name)
    if array.shape is None or (ndim is not None and array.ndim != ndim):
        raise InputError(f"must have {ndim or 'some'} axes", file=url, key=name, value=array.shape)
    _refuse_sparse(array, content.id.get_filesize(), url, name)
    _check_filters(array, url, name)
    return array


def _check_filters(array: h5py.Dataset, url: str, name: str) -> None:
    """Refuse a dataset whose numbers pass through a filter that is not installed, as HDF5 itself would not say."""
    pipeline = array.id.get_create_plist()
    for number in range(pipeline.get_nfilters()):
        code, _, _, stated = pipeline.get_filter(number)
        if not _available(code) and _passed(array, number):
            known = FILTERS.get(code) or stated.decode(errors="replace") or "unknown"
            remedy = "`pip install hdf5plugin`" if code in IN_HDF5PLUGIN else "install the plug-in that brings it"
            problem = f"is packed with the HDF5 filter {known} ({code}), which is not installed: {remedy}"
            raise InputError(f"{problem}, or repack the file: `h5repack -f GZIP=4 OLD NEW`", file=url, key=name)


def _passed(array: h5py.Dataset, number: int) -> bool:
    """Whether the first chunk went through a filter of the pipeline: an optional one may be left out."""
    if not array.id.get_num_chunks():
        return False
    return not array.id.get_chunk_info(0).filter_mask >> number & 1


def _available(code: int) -> bool:
    """Whether HDF5 has a filter, that of the package hdf5plugin among them where it is installed."""
    if not h5py.h5z.filter_avail(code):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # it registers its filters
    return bool(h5py.h5z.filter_avail(code))


def _refuse_sparse(array: h5py.Dataset, size: int, url: str, name: str) -> None:
    """Refuse a dataset that is far larger than its file of `size` bytes, or has more chunks than that has room for."""
    refuse_bomb(array.size * array.dtype.itemsize, size, url, name)
    chunks = math.prod(-(-count // step) for count, step in zip(array.shape, array.chunks or (), strict=False))
    if chunks > size:
        raise InputError(f"says that it has {chunks} chunks, in a file of {size} bytes", file=url, key=name)


def numbers(content: h5py.File, name: str, url: str, ndim: int | None = None) -> Any:
    """A dataset of numbers; InputError names what is missing, of another type or another number of axes."""
    array = dataset(content, name, url, ndim)
    if array.dtype.kind not in "fiu":
        raise InputError(f"must hold numbers, not {array.dtype}", file=url, key=name)
    return array


def whole(array: h5py.Dataset, url: str) -> np.ndarray:
    """All numbers of a dataset; InputError where they have no room in memory, with a copy in float64."""
    refuse_numbers_beyond_memory(array.size, array.dtype.itemsize, url, str(array.name).lstrip("/"))
    return np.asarray(array[()])


def whole_numbers(content: h5py.File, name: str, url: str, ndim: int) -> np.ndarray:
    """The whole numbers of a dataset, which may be stored as others; InputError where they are none."""
    stored = whole(numbers(content, name, url, ndim), url)
    with np.errstate(invalid="ignore"):
        values = stored.astype(np.int64)
    if not np.array_equal(values, stored):
        raise InputError("must hold whole numbers", file=url, key=name)
    return np.asarray(values)


def text(content: h5py.File, name: str, url: str) -> str:
    """A scalar text."""
    value = whole(dataset(content, name, url), url).ravel()
    first = value[0] if len(value) else ""
    return first.decode() if isinstance(first, bytes) else str(first)


def digest(url: str) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    filesystem, path = open_filesystem(url)
    total = hashlib.sha256()
    with reading(url), open_checked(filesystem, path, url) as stream:
        while block := stream.read(BLOCK):
            total.update(block)
    return total.hexdigest()
