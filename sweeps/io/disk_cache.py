"""Arrays on this node's disk, shared by its processes: one file format, one check for damage, one limit in bytes."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sweeps.errors import escaped
from sweeps.hashing import content_id
from sweeps.io.files import HALF_WRITTEN_SECONDS, OWN_MODE, locked, replacing
from sweeps.io.guards.private_folder import is_believed, make_private

MARK, HEAD = b"arrays-1", struct.Struct("<8sQ")
"""What every file begins with: the mark of the format and the size of its JSON header in bytes."""

CHECKSUM = struct.Struct("<I")
"""What follows: the CRC-32 of all other bytes. Then come the header and the arrays, each padded to ALIGNMENT."""

START, ALIGNMENT = HEAD.size + CHECKSUM.size, 64

UNMEASURED_SHARE, UNMEASURED_BYTES = 0.05, 250e6
"""A process that has written this share of the limit, or so many bytes, measures what all processes wrote."""

FREED = 0.05
"""Share of the limit that pruning leaves free, so that it does not come with every entry."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """What a file holds: arrays by name, and facts that JSON can hold."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


class DiskCache:
    """Entries in the files of a folder, at most `limit` bytes: those used longest ago make room for new ones.

    A name is a text, or `group/text`: files of a group are used and removed together. Everything in the folder counts,
    files of other formats too. What was used less than `spare_seconds` ago is never removed. A damaged file is removed
    when it is read, as if it had never been there; one that another user can have written is not read. A folder that
    cannot be written, as on a full disk, and a limit of 0 keep nothing, which is no error. `total` is what the folder
    holds as far as this process knows: the bytes it has measured, and those it has written since. The limit can be
    exceeded by what the other processes of the node write between two measurements.
    """

    def __init__(self, folder: Path, limit: float, spare_seconds: float = 0.0) -> None:
        self.folder, self.limit, self.spare_seconds = folder, limit, spare_seconds
        self.total = 0
        self._unmeasured = math.inf

    def load(self, name: str) -> Entry | None:
        """The entry of a name; None where there is none or it is damaged."""
        path = self._path(name)
        if not is_believed(path):
            return None
        try:
            content = np.fromfile(path, np.uint8)
        except OSError:
            return None
        try:
            entry = _decoded(content)
        except Exception:  # whatever a damaged file makes numpy, struct or json raise
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path if path.parent == self.folder else path.parent)
        return entry

    def save(self, name: str, arrays: Arrays, facts: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Write an entry, as a whole or not at all; False where it could not be written."""
        if not self.limit:
            return False
        path, parts = self._path(name), _encoded(arrays, facts)
        try:
            if not path.parent.exists():
                make_private(path.parent)
            with replacing(path, mode=OWN_MODE) as file:
                file.writelines(parts)
        except OSError as error:
            warn_once(f"{self.folder} cannot be written ({error.strerror}): results are computed anew every time")
            return False
        self._count(sum(map(len, parts)))
        return True

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name that is read, sound or damaged."""
        return is_believed(self._path(name))

    def get(self, key: Any, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays under a key (any JSON value that says all they depend on), else what `compute` gives.

        Of two processes that need the same at the same time one computes it: the other waits, or takes its place should
        it die. What `compute` raises is raised.
        """
        name = content_id(key)
        entry = self.load(name)
        if entry is not None:
            return entry.arrays
        with self.lock(name):
            entry = self.load(name)
            if entry is not None:
                return entry.arrays
            arrays = compute()
            self.save(name, arrays)
            return arrays

    @contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of a name; yields False when not waiting and another process holds it.

        Where no lock can be made it yields True: the work may be done twice.
        """
        with ExitStack() as stack:
            acquired = True
            with suppress(OSError):
                acquired = stack.enter_context(locked(self.folder / f"{name}.lock", wait))
            yield acquired

    def prune(self) -> None:
        """Measure the folder; above the limit remove what was used longest ago, until FREED of the limit is free.

        What processes that died left half-written goes, too. Other processes may add and remove files meanwhile.
        """
        now, children = time.time(), sorted(_children(self.folder))
        total = sum(size for _, size, _ in children)
        goal = self.limit
        if total > self.limit:  # the newest stays where it fits
            goal = min(self.limit, max((1 - FREED) * self.limit, children[-1][1]))
        for used, size, path in children:
            half_written = path.name.startswith(".") and now - used > HALF_WRITTEN_SECONDS
            if half_written or (total > goal and now - used >= self.spare_seconds):
                _remove(path)
                total -= size
        self.total, self._unmeasured = total, 0.0

    def _count(self, size: int) -> None:
        self.total += size
        self._unmeasured += size
        if self.total > self.limit or self._unmeasured > min(UNMEASURED_SHARE * self.limit, UNMEASURED_BYTES):
            self.prune()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.arrays"


@cache
def warn_once(text: str) -> None:
    """Log a warning, once in a process."""
    logging.getLogger("sweeps").warning("%s", escaped(text))


def _encoded(arrays: Arrays, facts: Mapping[str, Any]) -> list[Any]:
    """The bytes of a file in parts: arrays are written as they lie in memory, without a copy."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = [[name, array.dtype.str, array.shape] for name, array in whole.items()]
    header = json.dumps({"arrays": layout, "facts": dict(facts)}).encode()
    header += b" " * _padding(START + len(header))
    parts: list[Any] = [header]
    for array in whole.values():
        parts += [array.reshape(-1).view(np.uint8).data, bytes(_padding(array.nbytes))]
    head = HEAD.pack(MARK, len(header))
    checksum = zlib.crc32(head)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [head, CHECKSUM.pack(checksum), *parts]


def _decoded(content: np.ndarray) -> Entry:
    """The entry in the bytes of a file, arrays as views of them; any error where the file is damaged."""
    mark, size = HEAD.unpack_from(content.data)
    (checksum,) = CHECKSUM.unpack_from(content.data, HEAD.size)
    if mark != MARK or zlib.crc32(content.data[START:], zlib.crc32(content.data[: HEAD.size])) != checksum:
        raise ValueError("damaged")
    header = json.loads(content[START : START + size].tobytes())
    arrays, start = {}, START + size
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        stop = start + dtype.itemsize * math.prod(shape)
        arrays[name] = content[start:stop].view(dtype).reshape(shape)
        start = stop + _padding(stop - start)
    return Entry(arrays, header["facts"])


def _padding(size: int) -> int:
    """Bytes from `size` to the next multiple of ALIGNMENT."""
    return -size % ALIGNMENT


def _children(folder: Path) -> list[tuple[float, int, Path]]:
    """Last use, bytes and path of the files and folders in a folder, without locks."""
    children: list[tuple[float, int, Path]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.name.endswith(".lock"):
                    status, path = entry.stat(), Path(entry.path)
                    size = sum(row[1] for row in _children(path)) if entry.is_dir() else status.st_size
                    children.append((status.st_mtime, size, path))
    return children


def _remove(path: Path) -> None:
    """Remove a file with its lock, or a folder; one that is gone is fine."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    for file in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            file.unlink()
