"""Files that are there as a whole or not at all, shared by the processes of a node."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from sweeps.io.guards.private_folder import make_private

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links."""

ANY_MODE = 0o666
"""The mode of files where nothing else is asked for, less what the umask takes away."""

OWN_MODE = 0o644
"""The mode of files that nobody else may write, whatever the umask."""

HALF_WRITTEN_SECONDS = 3600.0
"""A file that was being written this long ago is a dead process's."""


def fresh_name(path: Path) -> Path:
    """Make a hidden name beside a file or folder, under which it is made before it takes its place."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


@contextmanager
def replacing(path: Path, durable: bool = False, mode: int = ANY_MODE) -> Iterator[IO[bytes]]:
    """Give a file to fill that takes the place of `path` when it is left; an error leaves what was there.

    A `durable` one is on the disk by then, whatever happens to the machine. The folder has to be there. What the umask
    allows of `mode` is its mode.
    """
    fresh = fresh_name(path)
    try:
        with open(fresh, "wb", opener=partial(os.open, mode=mode)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def create_whole(path: Path, content: bytes, mode: int = ANY_MODE) -> None:
    """Make a file with all its contents at once; FileExistsError where there is one. The folder has to be there.

    Where the file system knows no hard links, others can see the file while it is still empty. What the umask allows of
    `mode` is its mode.
    """
    fresh = fresh_name(path)
    try:
        with open(fresh, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
        os.link(fresh, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(path, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
    finally:
        fresh.unlink(missing_ok=True)


def _no_link(path: str, flags: int) -> int:
    """Open a file; OSError where the name is a link, which could lead to any file of this user."""
    return os.open(path, flags | os.O_NOFOLLOW, ANY_MODE)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file of this node; yields False when not waiting and another holds it.

    The kernel drops the lock of a process that dies.
    """
    make_private(path.parent)
    with open(path, "ab", opener=_no_link) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
