"""Local folders and object stores behind one address."""

from __future__ import annotations

import os
import posixpath
from typing import Any

import fsspec

from sweeps.errors import InputError
from sweeps.io.guards.regular_files import RegularFiles
from sweeps.io.guards.urls import check_url
from sweeps.io.pointers import refuse_dangling, refuse_pointer


def open_filesystem(url: str) -> tuple[Any, str]:
    """Open the fsspec file system of a path or URL and the path inside it; listings are never cached.

    InputError for what `check_url` refuses. Of local files only regular ones are read.
    """
    check_url(url)
    if "://" not in url or url.startswith(("file://", "local://")):
        local = RegularFiles()
        return local, str(local._strip_protocol(url))
    try:
        return fsspec.url_to_fs(url, **store_options(url))
    except (ValueError, ImportError) as error:
        raise InputError(f"cannot be opened: {error}", file=url) from error


def store_options(url: str) -> dict[str, Any]:
    """Give the options with which fsspec opens a URL: listings are never cached, no S3 redirects its clients."""
    options: dict[str, Any] = {"use_listings_cache": False} if "://" in url else {}
    if url.startswith(("s3://", "s3a://")):
        from sweeps.io.guards.store_sessions import UnredirectedSession

        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {**given, "http_session_cls": UnredirectedSession}
    return options


def join(base: str, path: str) -> str:
    """Give `path` as seen from the folder `base`; an absolute path or a URL stays as it is, `~` is the home folder."""
    check_url(path)
    path = expanded(path)
    if "://" in path or path.startswith("/"):
        return path
    return posixpath.join(base, path) if base else path


def expanded(path: str) -> str:
    """Give a path with the home folder in place of `~`, as a shell does; a URL stays as it is."""
    return os.path.expanduser(path) if path.startswith("~") else path


def read_bytes(url: str) -> bytes:
    """Read the content of one file; an InputError where it is missing, or a pointer of git-annex or Git LFS."""
    filesystem, path = open_filesystem(url)
    try:
        content: bytes = filesystem.cat_file(path)
    except IsADirectoryError as error:
        raise InputError("is a folder, where a file must be", file=url) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        refuse_dangling(path, url)
        raise InputError("no such file", file=url) from error
    refuse_pointer(content, url)
    return content
