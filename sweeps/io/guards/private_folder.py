"""Files and folders that no other user of this machine can write: what a run believes, and where it keeps its own.

Whoever can write a file of the cache decides what a twin predicts, and whoever can write a folder what is in it. Root
can do both anyway, so what belongs to root is believed, too.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

from sweeps.errors import InputError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_own(status: os.stat_result) -> bool:
    """Tell whether a file or folder belongs to this user or to root, and nobody else can write it."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & OTHERS_WRITE


def is_believed(path: Path) -> bool:
    """Tell whether an entry, a file or folder, can have been written by this user or root alone; no links.

    Both it and the folder that it lies in have to be private: the owner of a folder can rename what is in it.
    """
    try:
        status, around = path.lstat(), path.parent.stat()
    except OSError:
        return False
    plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return plain and is_own(status) and is_own(around)


def make_private(folder: Path) -> Path:
    """Make a folder of mode 0700 where there is none, and those above it; OSError where that cannot be done."""
    try:
        folder.mkdir(mode=0o700)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
    return folder


def cache_folder(cache: str, shared: bool = False) -> Path:
    """Give the folder for this user's entries in a node's cache. Raises InputError where another user can write it.

    With `shared` such a cache is taken: entries lie in its folder `user-<number>`, mode 0700, so that those of other
    users are neither read nor replaced. A cache that cannot be made stays as it is: nothing is kept then.
    """
    place = Path(cache).expanduser()
    folder = _existing(place)
    if folder is None:
        return place
    status = folder.stat()
    if is_own(status):
        return folder
    if not shared:
        raise InputError(
            f"another user can write what twins are made of here ({_described(status)}): "
            f"{_remedy(status, folder)}choose another --cache, or allow it with --shared-cache",
            key="cache",
            value=str(folder),
        )
    own = folder / f"user-{os.geteuid()}"
    made = _existing(own)
    if made is not None and (own.is_symlink() or not is_own(own.stat())):
        problem = f"this user's part of the shared cache is not private ({_described(own.lstat())}): remove it"
        raise InputError(problem, key="cache", value=str(own))
    return own


def _existing(folder: Path) -> Path | None:
    """The folder, made with mode 0700 where there is none; None where that cannot be done."""
    try:
        return make_private(folder)
    except OSError:
        return None


def _described(status: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(status.st_mode):04o}, owner {user_name(status.st_uid)}"


def _remedy(status: os.stat_result, folder: Path) -> str:
    """What its owner can do; nothing for folders that are shared by design, as /tmp is."""
    mendable = status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX
    return f"`chmod -R go-w {folder}`, " if mendable else ""


def check_cache(cache: str, shared: bool) -> None:
    """Refuse, before a run, a cache as `cache_folder` does, and one in a home that cannot be written; InputError.

    A cache that is not there yet is not made.
    """
    try:
        place = Path(cache).expanduser()
    except RuntimeError:  # no home folder at all
        place = None
    if place is not None and place.exists():
        cache_folder(cache, shared)
    if cache.startswith("~") and (place is None or not _can_be_written(place)):
        problem = f"{cache} cannot be written: set HOME to a folder that can, or give another --cache"
        raise InputError(problem, key="HOME", value=os.environ.get("HOME", ""))


def _can_be_written(place: Path) -> bool:
    """Whether files can be made in a folder, or it can be made itself."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            return True
    except OSError:
        return False


def user_name(number: int) -> str:
    """Give the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
