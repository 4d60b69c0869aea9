"""Local folders and object stores behind one address."""

from __future__ import annotations

import posixpath
from typing import Any

import fsspec

from sweeps.errors import InputError


def open_filesystem(url: str) -> tuple[Any, str]:
    """Open the fsspec file system of a path or URL and the path inside it; listings are never cached."""
    remote = "://" in url and not url.startswith(("file://", "local://"))
    try:
        return fsspec.url_to_fs(url, **({"use_listings_cache": False} if remote else {}))
    except (ValueError, ImportError) as error:
        raise InputError(f"cannot be opened: {error}", file=url) from error


def join(base: str, path: str) -> str:
    """Give `path` as seen from the folder `base`; an absolute path or a URL stays as it is."""
    if "://" in path or path.startswith("/"):
        return path
    return posixpath.join(base, path) if base else path


def read_bytes(url: str) -> bytes:
    """Read the content of one file; an InputError where it is missing."""
    filesystem, path = open_filesystem(url)
    try:
        content: bytes = filesystem.cat_file(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError("no such file", file=url) from error
    return content
