"""An own Ray that is private, slow, without a home or with a long path; a cluster with another token. Real starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, command, environment, processes

pytestmark = pytest.mark.slow


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with a short name, as people have."""
    place = Path("/tmp", f"q{os.getpid()}")
    place.mkdir()
    yield place
    subprocess.run(["rm", "-rf", str(place)], check=True)


@pytest.fixture
def run(experiment: dict[str, Any], tmp_path: Path) -> list[str]:
    """The command line of a small sweep."""
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**experiment, "space": {"backbone": "pixels", "readout": {"ridge": {"pool": 4}}}}))
    return command("run", str(file), "--storage", str(tmp_path / "rows"), "--cpus", "1")


def ended(line: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """A command at its end, after which no process is left that names its home folder."""
    done = subprocess.run(
        line, cwd=ROOT, env=environment() | variables, capture_output=True, text=True, timeout=300, check=False
    )
    if Path(variables["HOME"]).is_dir():
        assert [process for process in processes() if variables["HOME"] in process.title] == []
    return done


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that refused."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Ray did not come up")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_ray_that_is_slow_to_start_is_started_twice_then_named_and_the_run_goes_on_later(
    home: Path, run: list[str]
) -> None:
    slow = ended(run, HOME=str(home), RAY_gcs_server_port_wait_time_s="0")
    line = refused(slow)
    assert slow.stderr.count("Ray did not come up") == 1
    assert "Ray did not start" in line
    assert "RAY_gcs_server_port_wait_time_s" in line
    assert len([*(home / ".cache/sweeps-ray/s").glob("session_2*")]) == 2  # their logs are left
    done = ended(run, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert len([*(home / ".cache/sweeps-ray/s").glob("session_2*")]) == 2  # its own went with it
    assert (home / ".cache/sweeps-ray").stat().st_mode & 0o777 == 0o700
    assert (home / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


def test_an_unusable_home_is_named_and_a_given_cache_does_without(run: list[str], tmp_path: Path) -> None:
    line = refused(ended(run, HOME="/dev/null"))
    assert "HOME = '/dev/null'" in line
    assert "--cache" in line
    done = ended([*run, "--cache", str(tmp_path / "cache")], HOME="/dev/null")
    assert done.returncode == 0, done.stderr


def test_a_long_temporary_folder_does_not_matter_and_a_long_ray_tmpdir_is_named(home: Path, run: list[str]) -> None:
    long = home / ("x" * 80)
    long.mkdir()
    line = refused(ended(run, HOME=str(home), RAY_TMPDIR=str(long)))
    assert line.startswith("error: RAY_TMPDIR = ")
    assert "too long" in line
    done = ended(run, HOME=str(home), TMPDIR=str(long))
    assert done.returncode == 0, done.stderr


HEAD = """
import sys
from sweeps.execution.connection import ray_connection
with ray_connection.connected(None, 1):
    import ray
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


def test_a_cluster_with_another_token_is_refused_in_one_line(home: Path, run: list[str]) -> None:
    """No line a second for twenty seconds, as Ray has it: the first answer counts."""
    own = environment() | {"HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD], cwd=ROOT, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as head:
        assert head.stdout
        line = [*run, "--address", head.stdout.readline().strip()]
        token, other = {"RAY_AUTH_MODE": "token"}, home / "other"
        for variables, words in (
            ({}, "the cluster asks for a token: set RAY_AUTH_MODE=token"),
            (token, f"no token for the cluster is in {other}/.ray/auth_token"),
            (token | {"RAY_AUTH_TOKEN": "d" * 64}, "the cluster has another token than RAY_AUTH_TOKEN"),
        ):
            done = ended(line, HOME=str(other), **variables)
            assert words in refused(done)
            assert "RAY_AUTH_TOKEN" in done.stderr
        mine = subprocess.run(line, cwd=ROOT, env=own | token, capture_output=True, text=True, timeout=300, check=False)
        head.communicate("")
    assert mine.returncode == 0, mine.stderr
