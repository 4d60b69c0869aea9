"""HDF5 files of any size, local or remote: only what is asked for is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from sweeps.errors import InputError
from sweeps.recordings.images import open_filesystem

BLOCK = 2**22


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
    with stream:
        try:
            held = h5py.File(stream, "r")
        except OSError as error:
            raise InputError(f"is no HDF5 file: {error}", file=url) from None
        with held:
            yield held


def dataset(held: h5py.File, name: str, url: str, ndim: int | None = None) -> Any:
    """A dataset of numbers by its path in the file; InputError names what is missing or of another shape."""
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
