"""Results that take long and depend on little, on this node's disk: computed once for all its workers and sweeps."""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.features import locked
from sweeps.fits import HALF_WRITTEN_SECONDS
from sweeps.identity import content_id

LIMIT = 200_000_000
"""Bytes on a node, some thousand results."""

Arrays = Mapping[str, np.ndarray]


class Kept:
    """Arrays by name under a key that says all that they depend on; those used longest ago go first above the limit.

    Two workers that ask for the same at the same time compute it once: the second waits for the first, or takes its
    place should it die. A damaged file is computed again, and a folder that cannot be written keeps nothing; neither is
    an error. What `compute` raises is raised.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder / "kept"
        self.limit = limit

    def get(self, key: Any, compute: Callable[[], Arrays]) -> Arrays:
        """What is kept under a key (any JSON value), else what `compute` gives."""
        path = self.folder / f"{content_id(key)}.npz"
        found = _read(path)
        if found is not None:
            return found
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(locked(path.with_suffix(".lock")))
            found = _read(path)
            if found is None:
                found = compute()
                self._write(path, found)
        return found

    def _write(self, path: Path, arrays: Arrays) -> None:
        fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with open(fresh, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(fresh, path)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
        self._prune()

    def _prune(self) -> None:
        """Remove what was used longest ago above the limit, and what processes that died left half written."""
        total = 0
        for used, size, path in sorted(filter(None, map(_facts, _files(self.folder))), reverse=True):
            total += size
            half = path.name.startswith(".") and time.time() - used > HALF_WRITTEN_SECONDS
            if half or total > self.limit:
                for each in (path, path.with_suffix(".lock")):
                    with suppress(OSError):
                        each.unlink()


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix != ".lock"]
    except OSError:
        return []


def _facts(path: Path) -> tuple[float, int, Path] | None:
    """When a file was last used, and its bytes; None where another process has removed it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime, found.st_size, path


def _read(path: Path) -> Arrays | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            found = {name: held[name] for name in held.files}
    except Exception:  # whatever a damaged file makes numpy or zipfile raise
        with suppress(OSError):
            path.unlink()
        return None
    with suppress(OSError):
        os.utime(path)
    return found
