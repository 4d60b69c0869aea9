"""Machines unlike the driver's: a control group that leaves less than the host has, a folder that is not shared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, descendants, environment, wait_for

pytestmark = pytest.mark.cluster

GROUPS = Path("/sys/fs/cgroup")

LIMITS = """
from models.machine import available_bytes, core_count
from sweeps.execution.nodes.node_resources import this_machine
print(core_count(), this_machine()["CPU"], available_bytes())
"""

OWN_RAY = """
import ray
from sweeps.execution.connection.ray_connection import connected
with connected(None):
    print(ray.cluster_resources()["CPU"])
"""


@contextmanager
def control_group(cores: float, megabytes: int) -> Iterator[list[Path]]:
    """A control group of this test; the files to which a process that joins it writes its number."""
    name = f"cortex-sweeps-{os.getpid()}"
    second = (GROUPS / "cgroup.controllers").exists()
    folders = [GROUPS / name] if second else [GROUPS / "cpu" / name, GROUPS / "memory" / name]
    try:
        for folder in folders:
            folder.mkdir()
        if second:
            (folders[0] / "cpu.max").write_text(f"{cores * 1e5:.0f} 100000")
            (folders[0] / "memory.max").write_text(f"{megabytes * 10**6}")
        else:
            (folders[0] / "cpu.cfs_quota_us").write_text(f"{cores * 1e5:.0f}")
            (folders[1] / "memory.limit_in_bytes").write_text(f"{megabytes * 10**6}")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    else:
        yield [folder / "cgroup.procs" for folder in folders]
    finally:
        for folder in folders:
            if folder.is_dir():
                wait_for(lambda folder=folder: not (folder / "cgroup.procs").read_text(), 60, "the group is empty")
                folder.rmdir()


def printed(code: str, joins: list[Path]) -> list[str]:
    """What a Python in a control group prints."""
    script = "".join(f"echo $$ > {file}\n" for file in joins) + 'exec "$@"'
    command = ["sh", "-ec", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_cores_and_memory_are_those_of_a_real_control_group() -> None:
    with control_group(1.5, 2000) as joins:
        cores, cpus, left = printed(LIMITS, joins)
    assert (cores, cpus) == ("1", "1.0")
    assert float(left) < 2e9


def test_an_own_ray_has_the_cores_of_a_real_control_group() -> None:
    with control_group(1.0, 8000) as joins:
        assert printed(OWN_RAY, joins) == ["1.0"]


@contextmanager
def apart(hidden: Path, address: str, log: Path) -> Iterator[None]:
    """A node that sees an empty folder of its own in the place of `hidden`."""
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--num-cpus=1", "--block"]
    script = 'mount -t tmpfs apart "$1"; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", str(hidden), *start, "--object-store-memory=100000000"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        left = descendants(process.pid)
        process.kill()
        process.wait()
        for other in left:
            if other.alive:
                os.kill(other.pid, 9)


def test_a_node_that_does_not_share_the_storage_gets_no_pack(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    import ray
    from ray.cluster_utils import Cluster

    from sweeps.commands.run import run_plan
    from sweeps.planning.plan import make_plan

    (tmp_path / "rows").mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=10**8)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        with apart(tmp_path / "rows", cluster.address, tmp_path / "node.log"):
            wait_for(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 3, 120, "the node has joined")
            result = run_plan(
                make_plan(experiment, storage=str(tmp_path / "rows"), cache=str(tmp_path / "cache")), quiet=False
            )
    finally:
        ray.shutdown()
        cluster.shutdown()
    lines = capsys.readouterr().out
    assert "1 of 2 nodes are ready\n" in lines
    assert f"storage = '{tmp_path / 'rows'}': what the driver has written is not there: " in lines
    assert "every node mounts" in lines
    assert (result.progress.done, result.progress.failed) == (18, 0)
