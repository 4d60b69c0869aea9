"""Cores and memory that a control group leaves to a process, by the files that Linux keeps of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import machine
from models.machine import available_bytes, core_count

GIB = 2**30


def control_groups(folder: Path, lines: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Files as under /sys/fs/cgroup, and the file that tells of which group a process is."""
    membership = folder / "membership"
    for name, text in files.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(f"{text}\n")
    membership.write_text(f"{lines}\n")
    return folder / "groups", membership


@pytest.fixture(autouse=True)
def large_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of 64 cores and 500 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {500 * GIB // 1024} kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")


V1_CORES = {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {}, 64),
        ("0::/job/step", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/job/step", {"job/cpu.max": "900000 100000", "job/step/cpu.max": "200000 100000"}, 2),
        ("0::/of/the/host", {"cpu.max": "500000 100000"}, 5),
        ("3:cpu,cpuacct:/pod", {f"cpu,cpuacct/pod/{name}": value for name, value in V1_CORES.items()}, 3),
        ("3:cpu:/gone", {"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("nonsense", {"cpu.max": "100000 100000"}, 64),
    ],
)  # fmt: skip
def test_cores_are_those_of_the_control_group(tmp_path: Path, lines: str, files: dict[str, str], cores: int) -> None:
    assert core_count(*control_groups(tmp_path, lines, files)) == cores


def test_cores_are_those_of_the_affinity_where_there_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert core_count(*control_groups(tmp_path, "0::/", {"cpu.max": "400000 100000"})) == 2
    assert core_count(tmp_path / "none", tmp_path / "none") == 2


V2 = {"memory.max": str(8 * GIB), "memory.current": str(5 * GIB)}
STAT = f"anon 1\nactive_file {GIB}\ninactive_file {2 * GIB}"
V1 = {
    "memory/memory.limit_in_bytes": str(8 * GIB),
    "memory/memory.usage_in_bytes": str(3 * GIB),
    "memory/memory.stat": f"cache 7\ntotal_inactive_file {GIB}\ntotal_active_file 0",
}


@pytest.mark.parametrize(
    ("lines", "files", "left"),
    [
        ("0::/", V2, 3),
        ("0::/", {**V2, "memory.stat": STAT}, 6),
        ("0::/", {**V2, "memory.max": "max"}, 500),
        ("0::/", {**V2, "memory.max": str(900 * GIB)}, 500),
        ("0::/", {**V2, "memory.current": str(9 * GIB)}, 0),
        ("0::/a/b", {**V2, **{f"a/b/{name}": value for name, value in V2.items()}, "a/b/memory.max": str(6 * GIB)}, 1),
        ("4:memory:/", V1, 6),
        ("4:memory:/pod", {**V1, "memory/memory.limit_in_bytes": "9223372036854771712"}, 500),
        ("0::/", {}, 500),
    ],
)
def test_memory_is_what_the_control_group_leaves(tmp_path: Path, lines: str, files: dict[str, str], left: int) -> None:
    assert available_bytes(*control_groups(tmp_path, lines, files)) == left * GIB


def test_the_machine_of_this_test_is_known() -> None:
    assert 1 <= core_count() <= 64
    assert 0 < available_bytes() <= 500 * GIB


def test_an_own_ray_and_stacks_of_twins_ask_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from models.training.stacked import strategy
    from sweeps.execution.nodes.node_resources import this_machine

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert this_machine()["CPU"] == 1.0
    assert this_machine(3)["CPU"] == 3.0
    monkeypatch.setattr(strategy, "available_bytes", lambda: 12.0)
    assert strategy.free_bytes(torch.device("cpu")) == 12.0
