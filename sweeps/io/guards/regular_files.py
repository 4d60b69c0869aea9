"""Local files that are files: no pipes, devices or sockets, nothing of /dev, /proc or /sys, whatever links say."""

from __future__ import annotations

import os
import stat
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from sweeps.errors import InputError
from sweeps.io.guards.free_memory import refuse_beyond_memory

SPECIAL = ("/dev", "/proc", "/sys")
"""Folders of the system, whose files are none of anyone's data."""

SHARED_MEMORY = "/dev/shm"
"""The one place among them where data may lie."""

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(path: str, file: str) -> None:
    """Raise InputError, before it is opened, for what is there but neither a regular file nor a folder.

    A pipe would be waited for without end, a device read without end. Links count as what they lead to; files and
    folders of the system (SPECIAL) are refused as well. What is not there is left to whoever opens it.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if stat.S_IFMT(mode) in KINDS:
        raise InputError(f"is not a regular file but {KINDS[stat.S_IFMT(mode)]}", file=file)
    real = os.path.realpath(path)
    if _within(real, SPECIAL) and not _within(real, (SHARED_MEMORY,)):
        raise InputError(f"is not a regular file but one of the system ({real})", file=file)


def _within(path: str, folders: tuple[str, ...]) -> bool:
    return path.startswith(tuple(f"{folder}/" for folder in folders)) or path in folders


class RegularFiles(LocalFileSystem):
    """The local file system, reading regular files alone: all that is opened for reading goes through `_open`."""

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        if "r" in mode:
            refuse_special(path, path)
        return super()._open(path, mode, block_size, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> Any:
        """Read a file, or a part of it; InputError where all of it has no room in memory, as of a sparse file."""
        path = self._strip_protocol(path)
        if start is None and end is None and os.path.isfile(path):
            refuse_beyond_memory(os.path.getsize(path), path)
        return super().cat_file(path, start, end, **kwargs)
