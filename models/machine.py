"""What the machine lets this process have: cores and memory, by its control group rather than by the host.

Containers, SLURM and Kubernetes limit a process by control groups (version 1 or 2), below what
the host has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
"""Where Linux lists the memory that is available."""

GROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where control groups are mounted, and where a process finds its own."""

V1_CPU, V1_MEMORY = ("cpu", "cpu,cpuacct", "cpuacct,cpu"), ("memory",)
"""Folders of the controllers of version 1."""


def core_count(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int:
    """Count the cores that this process may use, at least 1: by its affinity, and by the quota of its control group.

    A quota of 2.5 cores counts as 2.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(groups, membership, V1_CPU) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *map(int, quotas)]))


def available_bytes(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> float:
    """Estimate the memory in bytes that can still be taken: of the host, or what its control group leaves of its limit.

    Where the system does not tell what is available (only Linux does), that is half of the memory there is.
    """
    if MEMINFO.exists():
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        host = float(lines["MemAvailable"].split()[0]) * 1024
    else:
        host = 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = [free for folder in _folders(groups, membership, V1_MEMORY) if (free := _left(folder)) is not None]
    return max(0.0, min([host, *left]))


def _folders(groups: Path, membership: Path, controllers: tuple[str, ...]) -> Iterator[Path]:
    """Folders of this process's control group and of all above it: the smallest limit holds.

    In a container the path may be the host's, while its limits lie at the root.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return
    for number, names, path in (fields for fields in lines if len(fields) == 3):
        roots = [groups] if number == "0" else [groups / name for name in controllers if name == names]
        for root in roots:
            place = root / path.strip("/")
            yield from [place, *(above for above in place.parents if above == root or root in above.parents)]


def _quota(folder: Path) -> float | None:
    """Cores that a control group may use at once; None without a limit."""
    both = _text(folder / "cpu.max").split() or [_text(folder / f"cpu.cfs_{part}_us") for part in ("quota", "period")]
    quota, period = (*both, "")[:2]
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _left(folder: Path) -> float | None:
    """Bytes that a control group may still take, its page cache counted as free; None without a limit."""
    second = (folder / "memory.max").exists()
    limit = _text(folder / ("memory.max" if second else "memory.limit_in_bytes"))
    used = _text(folder / ("memory.current" if second else "memory.usage_in_bytes"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    prefix = "" if second else "total_"
    stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    cached = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return float(int(limit) - max(0, int(used) - cached))


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
