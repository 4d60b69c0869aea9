"""Results that take long and depend on little, on this node's disk: computed once for all its workers and sweeps."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.hashing import content_id
from sweeps.io.files import locked, prune, replacing

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
        with suppress(OSError), replacing(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        with suppress(OSError):
            prune([each for each in self.folder.iterdir() if each.suffix != ".lock"], self.limit)


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
