"""Files that are there as a whole or not at all, shared by the processes of a node."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links."""

HALF_WRITTEN_SECONDS = 3600.0
"""A file that was being written this long ago is a dead process's."""


def fresh_name(path: Path) -> Path:
    """Make a hidden name beside a file or folder, under which it is made before it takes its place."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """Give a file to fill that takes the place of `path` when it is left; an error leaves what was there.

    A `durable` one is on the disk by then, whatever happens to the machine. The folder has to be there.
    """
    fresh = fresh_name(path)
    try:
        with open(fresh, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def create_whole(path: Path, content: bytes) -> None:
    """Make a file with all its contents at once; FileExistsError where there is one. The folder has to be there.

    Where the file system knows no hard links, others can see the file while it is still empty.
    """
    fresh = fresh_name(path)
    try:
        fresh.write_bytes(content)
        os.link(fresh, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(path, "xb") as file:
            file.write(content)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file of this node; yields False when not waiting and another holds it.

    The kernel drops the lock of a process that dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
