"""How a run ends: signals to its whole group in every phase, a reader that is gone, a head of Ray that is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import command, descendants, environment, wait_for
from slow_sweep import written

import sweeps

LINE = "interrupted: the same command goes on from here"
SECONDS = 600.0


@pytest.fixture
def arguments(experiment: dict[str, Any], tmp_path: Path) -> list[str]:
    """A sweep of 40 cells of trained readouts, two to a pack."""
    gaussian = {"loss": "gaussian", "epochs": 40, "patience": 40, "pool": 8, "l1": [0.01, 0.1]}
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"gaussian": gaussian}, "seed": list(range(10))}
    compute = {"cells_per_pack": 2, "workers": 2}
    small = {**experiment, "space": space, "scores": ["prediction"], "compute": compute}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    places = ["--storage", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    return ["run", str(tmp_path / "small.yaml"), *places]


@contextmanager
def group(arguments: list[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command as the leader of a group, as in a terminal: a signal to the group reaches Ray's processes, too."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(*arguments), env=environment() | variables, stdout=out, stderr=out, start_new_session=True
        )
    theirs = set()
    try:
        yield process
        theirs = descendants(process.pid)
    finally:
        theirs |= descendants(process.pid)
        process.kill()
        process.wait()
        for each in theirs:
            if each.alive:
                os.kill(each.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[bytes], log: Path, theirs: set[Any]) -> tuple[int, list[str]]:
    """The exit code, and what was said after the place of the results; nothing that was started is left."""
    process.wait(timeout=120)
    wait_for(lambda: not any(each.alive for each in theirs), 60, "nothing of the run is left")
    text = log.read_text()
    assert "Traceback" not in text, text
    lines = text.splitlines()
    return process.returncode, lines


def parts(folder: Path) -> int:
    return len(list((folder / "results" / "parts" / "cells").glob("*.parquet")))


def wait_for_rows(process: subprocess.Popen[bytes], folder: Path, before: int = 0) -> None:
    """Return when there are more parts than before, or the process has ended."""
    wait_for(lambda: parts(folder) > before or process.poll() is not None, SECONDS, "rows are written")


@pytest.mark.slow
def test_signals_in_mid_run_end_it_in_one_line_and_it_goes_on(arguments: list[str], tmp_path: Path) -> None:
    """Ctrl-C, Ctrl-C twice, SIGTERM twice at once (as `timeout` sends it) and SIGHUP, one after the other."""
    log = tmp_path / "log"
    cases = [
        ([signal.SIGINT], 0.0, 130),
        ([signal.SIGTERM, signal.SIGTERM], 0.0, 143),
        ([signal.SIGHUP], 0.0, 129),
        ([signal.SIGINT, signal.SIGINT], 0.5, 130),
    ]
    for signals, pause, code in cases:
        before = parts(tmp_path)
        with group([*arguments, "--cpus", "2"], log) as process:
            wait_for_rows(process, tmp_path, before)
            theirs = descendants(process.pid)
            assert any("raylet" in each.title for each in theirs), log.read_text()
            for number in signals:
                os.killpg(process.pid, number)
                time.sleep(pause)
            found, lines = ended(process, log, theirs)
        assert (found, lines[-1:]) == (code, [LINE]), (signals, lines)
        assert [line for line in lines if "interrupted" in line] == [LINE]
        assert not list((tmp_path / "results" / "running").glob("*")), signals
        assert len(lines) <= 5, lines
    assert len(written(tmp_path / "results")) < 40, "interrupted too late: the test shows nothing"
    with group([*arguments, "--cpus", "2"], log) as process:
        assert process.wait(timeout=SECONDS) == 0, log.read_text()
    check_complete(tmp_path)


def check_complete(folder: Path) -> None:
    """Every trial is done once, and every cell was written once."""
    trials = sweeps.load(str(folder / "results"))
    assert (len(trials), set(trials["status"])) == (20, {"done"})
    rows = written(folder / "results")
    assert (len(rows), set(rows.values())) == (40, {1})


@pytest.mark.slow
def test_signals_before_the_first_pack_end_it_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    phases = {
        "planning": lambda pid: (tmp_path / "results" / "running").exists(),
        "Ray's start": lambda pid: any("gcs_server" in each.title for each in descendants(pid)),
    }
    for (phase, has_come), number in zip(phases.items(), (signal.SIGINT, signal.SIGTERM), strict=True):
        with group([*arguments, "--cpus", "2"], log) as process:
            wait_for(lambda: has_come(process.pid) or process.poll() is not None, SECONDS, phase)  # noqa: B023
            theirs = descendants(process.pid)
            os.killpg(process.pid, number)
            code, lines = ended(process, log, theirs)
        assert (code, lines[-1:]) == (128 + number, [LINE]), (phase, lines)
        assert len(lines) <= 2, (phase, lines)
        assert not list((tmp_path / "results").glob("running/*"))


@pytest.mark.slow
def test_nohup_and_a_reader_that_is_gone_do_not_end_a_run(arguments: list[str], tmp_path: Path) -> None:
    """SIGHUP that was ignored at the start stays so; nobody reads what is said; the sweep is finished."""
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command(*arguments, "--cpus", "2")],
        env=environment(),
        stdout=writing,
        stderr=writing,
        start_new_session=True,
    )
    os.close(writing)
    os.close(reading)
    try:
        wait_for_rows(process, tmp_path)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(timeout=SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    check_complete(tmp_path)


@pytest.mark.slow
def test_a_lost_head_ends_the_run_in_one_line_and_it_goes_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    log = tmp_path / "log"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 10**8})
    address = cluster.address
    try:
        with group([*arguments, "--address", address], log, RAY_AUTH_MODE="disabled") as process:
            wait_for_rows(process, tmp_path)
            assert process.poll() is None, log.read_text()
            os.kill(cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
            code, lines = ended(process, log, set())
    finally:
        cluster.shutdown()
    assert code == 75, lines
    assert lines[-1].startswith(f"error: Ray's head at {address} no longer answers: start Ray again"), lines
    assert len(lines) <= 4, lines
    with group([*arguments, "--cpus", "2"], log) as process:
        assert process.wait(timeout=SECONDS) == 0, log.read_text()
    check_complete(tmp_path)
