"""Pointers of git-annex (DataLad) and Git LFS that lie where a file's content was never fetched.

    git-annex   a text file that begins `/annex/objects/`; a link into `.git/annex/objects` that leads nowhere; or,
                where a file system knows no links, that link's target as a text
    Git LFS     a text file that begins `version https://git-lfs.github.com/spec/`

Sources: git-annex's page "pointer file", Git LFS's "docs/spec.md" (which keeps the older host hawser).
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from sweeps.errors import InputError
from sweeps.io.guards.regular_files import refuse_special

LENGTH = 512
"""First bytes of a file by which a pointer is known."""

_GIT_FOLDER = rb"(?:\.{1,2}[\\/])*\.git[\\/](?:modules[\\/][^\n]{1,400}?[\\/])?"
_ANNEX = re.compile(rb"\A(?:" + _GIT_FOLDER + rb"|[\\/])annex[\\/]objects[\\/]")
_LFS = re.compile(rb"\Aversion https://(?:git-lfs|hawser)\.github\.com/spec/")
_LINK = re.compile(r"(?:^|[\\/])annex[\\/]objects[\\/]")


def refuse_pointer(content: bytes, file: str, packed: bool = False) -> None:
    """Raise InputError where the content of a file, or its first bytes, are those of a pointer.

    `packed`: the file lies in an archive, where nothing can be fetched.

    >>> refuse_pointer(b"/annex/objects/MD5E-s3--d41d8.npy", "v1/responses.npy")
    Traceback (most recent call last):
    sweeps.errors.InputError: v1/responses.npy: is a pointer of git-annex that was not fetched: \
`datalad get v1/responses.npy`
    """
    if _ANNEX.match(content):
        raise _unfetched("git-annex", f"datalad get {shlex.quote(file)}", file, packed)
    if _LFS.match(content):
        raise _unfetched("Git LFS", "git lfs pull", file, packed)


def refuse_dangling(path: str, file: str) -> None:
    """Raise InputError for a link on this machine that leads nowhere; one of git-annex is called so."""
    if not os.path.islink(path) or os.path.exists(path):
        return
    target = os.readlink(path)
    if _LINK.search(target):
        raise _unfetched("git-annex", f"datalad get {shlex.quote(file)}", file, False)
    raise InputError(f"is a link that leads nowhere ({target})", file=file)


def refuse_pointers_at(place: str, suffixes: tuple[str, ...]) -> None:
    """Raise InputError where a local file, or a file of a local folder with one of these suffixes, is a pointer."""
    path = Path(place)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        refuse_dangling(str(file), str(file))
        if file == path or file.suffix in suffixes:
            refuse_special(str(file), str(file))
        if file.is_file() and (file == path or file.suffix in suffixes):
            with open(file, "rb") as stream:
                refuse_pointer(stream.read(LENGTH), str(file))


def is_file(filesystem: Any, path: str, file: str) -> bool:
    """Tell whether there is a file; InputError where a link leads nowhere, or for a pipe, which look like no file."""
    _refuse_local(filesystem, path, file)
    return bool(filesystem.isfile(path))


def exists(filesystem: Any, path: str, file: str) -> bool:
    """Tell whether there is a file or folder; InputError where a link leads nowhere."""
    _refuse_local(filesystem, path, file)
    return bool(filesystem.exists(path))


def open_checked(filesystem: Any, path: str, file: str, packed: bool = False) -> Any:
    """Open a file for reading, at its beginning; InputError where it is a pointer."""
    _refuse_local(filesystem, path, file)
    stream = filesystem.open(path, "rb")
    try:
        refuse_pointer(stream.read(LENGTH), file, packed)
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def _refuse_local(filesystem: Any, path: str, file: str) -> None:
    if isinstance(filesystem, LocalFileSystem):
        refuse_dangling(path, file)
        refuse_special(path, file)


def _unfetched(tool: str, command: str, file: str, packed: bool) -> InputError:
    remedy = f"`{command}`"
    if packed or "://" in file:
        remedy = f"fetch it where it came from, then {'pack' if packed else 'upload'} it again"
    return InputError(f"is a pointer of {tool} that was not fetched: {remedy}", file=file)
