"""A planted secret, and where it is found after a sweep: in no file that Ray or this project writes, on no page."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import fsspec
import pytest
import yaml
from processes import ROOT, descendants, environment, wait_for
from s3 import S3Server, seaweedfs
from slow_sweep import slow_sweep

import sweeps

PAGES = (
    "api/jobs/",
    "api/v0/actors?detail=1",
    "api/v0/tasks?detail=1",
    "api/v0/workers?detail=1",
    "api/v0/runtime_envs?detail=1",
    "api/v0/nodes?detail=1",
    "api/cluster_status",
    "logical/actors",
    "nodes?view=summary",
)
"""What Ray's dashboard answers to."""

SEEN = b"PL_DISABLE_FORK"
"""Stands in every runtime environment of Tune's actors: where it is not found, nothing was looked at."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of a short path: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    for name in ("home", "tmp", "cache", "ray"):
        (folder / name).mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """An S3 server of its own, so that its users are this test's."""
    with seaweedfs(tmp_path / "s3") as running:
        yield running


class Search:
    """Looks for secrets in what a sweep leaves behind, while it runs and afterwards."""

    def __init__(self, place: Path, *servers: S3Server) -> None:
        self.place = place
        self.secrets = [text.encode() for server in servers for text in (server.access_key, server.secret_key)]
        self.found: set[str] = set()
        self.pages: set[str] = set()
        self.tune_folders = 0
        self.saw_runtime_environment = False

    def look_at(self, name: str, content: bytes) -> None:
        """Note the secrets that a content holds."""
        self.found |= {f"{name}: {secret.decode()}" for secret in self.secrets if secret in content}
        self.saw_runtime_environment |= SEEN in content

    def files(self) -> None:
        """Look into every file of Ray, of Tune, of the cache and of the home folder."""
        for folder, _, names in os.walk(self.place):
            self.tune_folders += "cortex-sweeps-tune-" in folder
            for path in (Path(folder, name) for name in names):
                try:
                    if path.is_file():
                        self.look_at(str(path.relative_to(self.place)), path.read_bytes())
                except OSError:
                    continue

    def dashboard(self, address: str) -> None:
        """Ask the dashboard for all that it tells."""
        token = self.place / "home" / ".ray" / "auth_token"
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
        for page in PAGES:
            try:
                with urlopen(Request(f"{address}/{page}", headers=headers), timeout=20) as answer:
                    self.look_at(page, answer.read())
                    self.pages.add(page)
            except (URLError, OSError):
                continue

    def storage(self, server: S3Server) -> None:
        """Read every object of the bucket."""
        options = {key: value for key, value in server.storage_options.items() if key != "use_listings_cache"}
        fs = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, **options)
        for path in fs.find(server.bucket):
            self.look_at(path, fs.cat_file(path))


def variables(place: Path, server: S3Server) -> dict[str, str]:
    """The environment of a process that has a home of its own, and the keys of a user of the server."""
    folders = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "RAY_TMPDIR": str(place / "ray")}
    return {**environment(), **server.environment, **folders, "PYTHONUNBUFFERED": "1"}


def written_experiment(place: Path, experiment: Mapping[str, Any]) -> Path:
    """The file of a sweep of some seconds."""
    file = place / "small.yaml"
    file.write_text(yaml.safe_dump(slow_sweep(experiment, epochs=10, seeds=1, cells_per_pack=2, workers=1)))
    return file


@contextmanager
def running(arguments: list[str], log: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to `log`, ended with all that it started."""
    with log.open("ab") as out:
        process = subprocess.Popen(arguments, cwd=ROOT, env=dict(variables), stdout=out, stderr=subprocess.STDOUT)
    started = descendants(process.pid)
    try:
        yield process
        started |= descendants(process.pid)
    finally:
        started |= descendants(process.pid)
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for left in started:
            if left.alive:
                os.kill(left.pid, 9)


def searched(search: Search, process: subprocess.Popen[bytes], log: Path, dashboard: str = "") -> str:
    """Look on until the process has ended; what it has printed."""
    deadline = time.monotonic() + 500
    while process.poll() is None:
        assert time.monotonic() < deadline, log.read_text()
        address = dashboard or log.read_text().partition("dashboard: ")[2].split("\n")[0].strip()
        if address:
            search.dashboard(address)
        search.files()
        time.sleep(0.3)
    search.files()
    return log.read_text()


def sweep(file: Path, place: Path, server: S3Server) -> list[str]:
    """The command that runs a sweep whose rows go to the server."""
    line = ["-m", "sweeps", "run", str(file), "--storage", f"{server.uri}/rows", "--cache", str(place / "cache")]
    return [sys.executable, *line]


def check(search: Search, server: S3Server, printed: str) -> None:
    """All was looked at, no secret was found, and every trial is done."""
    search.storage(server)
    assert "trials: 12 run now" in printed, printed
    assert search.saw_runtime_environment, "no runtime environment was seen: the test shows nothing"
    assert search.tune_folders
    assert len(search.pages) >= len(PAGES) - 2, search.pages
    assert search.found == set()
    with server.reached():
        assert set(sweeps.load(f"{server.uri}/rows")["status"]) == {"done"}


@pytest.mark.slow
def test_no_secret_is_written_by_an_own_ray(server: S3Server, experiment: dict[str, Any], place: Path) -> None:
    """Its workers find the driver's keys all the same: they inherit the environment."""
    file, log, search = written_experiment(place, experiment), place / "log", Search(place, server)
    line = [*sweep(file, place, server), "--cpus", "1"]
    with running(line, log, variables(place, server)) as process:
        printed = searched(search, process, log)
    check(search, server, printed)


@contextmanager
def ray_head(place: Path, server: S3Server) -> Iterator[tuple[str, str]]:
    """A Ray that somebody has started with keys of its own: its address and its dashboard's."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        port, dashboard = first.getsockname()[1], second.getsockname()[1]
    line = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    line += ["--node-ip-address=127.0.0.1", f"--port={port}", "--dashboard-host=127.0.0.1"]
    line += [f"--dashboard-port={dashboard}", f"--temp-dir={place / 'ray'}", "--disable-usage-stats"]
    patient = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}
    patient["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # it listens on 127.0.0.1 alone
    log, address = place / "head.log", f"http://127.0.0.1:{dashboard}"
    with running(line, log, {**variables(place, server), **patient}):
        wait_for(lambda: "Ray runtime started" in log.read_text(), 300, "the head is up")
        wait_for(lambda: _answers(f"{address}/api/jobs/"), 120, "the dashboard answers")
        yield f"127.0.0.1:{port}", address


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


@pytest.mark.slow
def test_no_secret_is_written_by_a_cluster_whose_nodes_have_their_own_keys(
    server: S3Server, experiment: dict[str, Any], place: Path
) -> None:
    nodes = server.other_user("nodes")
    file, log, search = written_experiment(place, experiment), place / "log", Search(place, server, nodes)
    with ray_head(place, nodes) as (address, dashboard):
        own = {**variables(place, server), "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": address}
        with running(sweep(file, place, server), log, own) as process:
            printed = searched(search, process, log, dashboard)
    check(search, server, printed)


@pytest.mark.slow
def test_no_secret_is_written_for_a_submitted_job(server: S3Server, experiment: dict[str, Any], place: Path) -> None:
    """The driver is a process of the head, which has keys; who submits has others."""
    nodes = server.other_user("nodes")
    file, log, search = written_experiment(place, experiment), place / "log", Search(place, server, nodes)
    submit = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--submission-id", "small"]
    with ray_head(place, nodes) as (_, dashboard):
        line = [*submit, "--address", dashboard, "--", *sweep(file, place, server)]
        until = time.monotonic() + 400
        while True:  # a head whose agent is not up yet takes no job
            with running(line, log, {**variables(place, server), "RAY_AUTH_MODE": "disabled"}) as process:
                printed = searched(search, process, log, dashboard)
            if "submitted successfully" in printed:
                break
            assert time.monotonic() < until, f"{printed}\n{(place / 'head.log').read_text()}"
            log.unlink()
    check(search, server, printed)
