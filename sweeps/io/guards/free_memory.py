"""How much memory is free, and whether what a file says that it holds has room there."""

from __future__ import annotations

from pathlib import Path

from sweeps.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
COPY = 8
"""Bytes that a number takes in float64, in which readers compute."""


def free_bytes() -> float:
    """Bytes that this process may still take, by the machine and by its control groups; infinite where unknown."""
    return min(_of_machine(), _of_groups())


def refuse_beyond_memory(needed: float, file: str, key: str | None = None, what: str = "") -> None:
    """Raise InputError where so many bytes have no room in memory; `what` says in which form they are needed."""
    if needed <= 2**20:
        return
    free = free_bytes()
    if needed > free:
        raise InputError(f"holds {needed / 1e9:.3g} GB{what}, {free / 1e9:.3g} GB are free", file=file, key=key)


def refuse_numbers_beyond_memory(count: int, itemsize: int, file: str, key: str | None = None) -> None:
    """The same for numbers of so many bytes each, together with their copy in float64."""
    refuse_beyond_memory(count * (itemsize + COPY), file, key, " with its copy in float64")


def _of_machine() -> float:
    try:
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return float("inf")


def _of_groups() -> float:
    """The least of the control groups (version 2) that this process is in, in which caches of files count as free."""
    try:
        own = next(line[3:] for line in OWN_CGROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return float("inf")
    place = CGROUPS / own.strip("/")
    return min(_of_group(group) for group in (place, *place.parents) if group.is_relative_to(CGROUPS))


def _of_group(group: Path) -> float:
    try:
        most = float((group / "memory.max").read_text())  # the word "max" is no number
        used = float((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return most - used + float(counts["inactive_file"])
    except (OSError, KeyError, ValueError):
        return float("inf")
