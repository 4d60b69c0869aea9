"""Poison for worker processes: every Python that begins with this folder on its path does what POISON says.

POISON names a JSON file {seed: deed}. A worker that has just fitted a cell of that seed does the deed before the cell
has a row. Nothing of the product is changed: the function that gives fits is wrapped when its module is imported.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def be_killed() -> None:
    """What the kernel does to a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def exhaust_memory() -> None:
    """Ask for more than any machine has."""
    bytearray(2**60)


def grow() -> None:
    """Take memory bit by bit until somebody puts an end to it, 4 GiB at most."""
    taken = []
    for _ in range(128):
        taken.append(b"x" * 2**25)
        time.sleep(0.02)
    raise RuntimeError(f"{len(taken) / 32:g} GiB were taken, and nobody minded")


def hang() -> None:
    """Never come back."""
    time.sleep(10_000)


def hang_hard() -> None:
    """Never come back, and let no other thread run."""
    ctypes.PyDLL(None).sleep(10_000)


DEEDS = {each.__name__: each for each in (segfault, be_killed, exhaust_memory, grow, hang, hang_hard)}


def poisoned(module: ModuleType) -> None:
    """Wrap `fits_of` of sweeps.execution.cell_runner."""
    real = module.fits_of  # type: ignore[attr-defined]

    def fits_of(worker: Any, jobs: Any, cache: Any, halving: Any) -> Iterator[Any]:
        with open(os.environ["POISON"]) as file:
            deeds = json.load(file)
        for done in real(worker, jobs, cache, halving):
            given = []
            for number, fits in done:
                try:
                    for cell in jobs[number]:
                        if str(cell.seed) in deeds:
                            DEEDS[deeds[str(cell.seed)]]()
                except MemoryError as error:
                    fits = error
                given.append((number, fits))
            yield given

    module.fits_of = fits_of  # type: ignore[attr-defined]


class Finder(importlib.abc.MetaPathFinder):
    """Lets sweeps.execution.cell_runner be imported as ever, then poisons it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "sweeps.execution.cell_runner":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        real = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            real(module)
            poisoned(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "POISON" in os.environ:
    sys.meta_path.insert(0, Finder())
