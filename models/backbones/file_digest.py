"""Identity of what lies in files: by content, so that it does not matter where they lie."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
from collections.abc import Mapping
from typing import Any


def digest_of(path: str) -> str:
    """Return SHA-256 of a regular file, else OSError; read again only when its size or time of change differ."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return _digest(path, status.st_size, status.st_mtime_ns)


def of_weights(parameters: Mapping[str, Any]) -> str:
    """What a file of `weights` holds; ValueError where there is none."""
    path = str(parameters["weights"])
    try:
        return digest_of(path)
    except OSError as error:
        raise ValueError(f"weights {path!r} cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=1024)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
