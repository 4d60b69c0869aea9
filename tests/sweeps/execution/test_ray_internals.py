"""Private names of Ray: in one file, each there, and each with a way to go on or a refusal where it is not."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from processes import ROOT

from sweeps.errors import InputError
from sweeps.execution.connection import ray_internals
from sweeps.execution.tune_surroundings import ActorOutOfMemoryError
from sweeps.io.disk_cache import warn_once

HOME = "sweeps/execution/connection/ray_internals.py"
FUNCTIONS = {"ray.init", "ray.remote", "ray.get", "ray.shutdown"}


def private_names(path: Path) -> Iterator[str]:
    """Imports from private modules of Ray, its attributes with an underscore, private arguments of its functions."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)) if re.search(r"\bray\b", text) else ():
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names if alias.name.startswith("ray.") for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("ray."):
            names = ast.unparse(node).split(".")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS:
            names = [keyword.arg or "" for keyword in node.keywords]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("ray._"):
            names = ["_"]
        else:
            continue
        yield from (f"{path}:{node.lineno}: {name}" for name in names if name.startswith("_") and name[-2:] != "__")


def test_no_other_file_names_what_is_private_to_ray() -> None:
    files = [path for room in ("sweeps", "models", "metrics", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 200
    found = {str(path.relative_to(ROOT)): [*private_names(path)] for path in files}
    assert len(found[HOME]) >= 10
    assert [name for path, names in found.items() if path != HOME for name in names] == []


def test_every_private_name_is_there_in_this_version() -> None:
    """Each place that `private` is asked for, found in the code: a new version of Ray that lost one fails here."""
    places = [
        node.args[0].value
        for node in ast.walk(ast.parse((ROOT / HOME).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "private" and isinstance(node.args[0], ast.Constant)
    ]
    assert len(places) >= 9
    assert [place for place in places if ray_internals.private(place, "test") is None] == []
    assert ray_internals.has_tokens()


def test_what_a_version_lacks_is_said_once_and_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warn_once.cache_clear()
    from ray._private import ray_constants, serialization, services, state

    monkeypatch.delattr(services, "find_gcs_addresses")
    monkeypatch.delattr(ray_constants, "ENABLE_RAY_CLUSTER")
    monkeypatch.delattr(serialization, "OutOfMemoryError")
    monkeypatch.delattr(state, "state")
    for _ in range(2):
        assert not ray_internals.is_on_loopback("127.0.0.1:6379")
        assert ray_internals.reported_groups() == []
        with ray_internals.on_loopback(), ray_internals.raising_for_memory(ActorOutOfMemoryError):
            pass
    assert len(caplog.messages) == len(set(caplog.messages)) == 4
    assert all(f"Ray {ray.__version__} has no ray._private." in line for line in caplog.messages)


def test_memory_errors_are_those_that_tune_survives() -> None:
    from ray._private import serialization

    usual = serialization.OutOfMemoryError
    with ray_internals.raising_for_memory(ActorOutOfMemoryError):
        assert serialization.OutOfMemoryError is ActorOutOfMemoryError
    assert serialization.OutOfMemoryError is usual


LISTENER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2"])
def test_a_process_that_listens_elsewhere_than_on_loopback_is_seen(host: str) -> None:
    """127.0.0.2 stands for an address that others reach; the test opens none."""
    code = LISTENER if ":" not in host else LISTENER.replace("0))", "0), family=socket.AF_INET6)")
    with subprocess.Popen(
        [sys.executable, "-c", code, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        if not port:
            pytest.skip(f"no {host} on this machine")
        if host == "127.0.0.2":
            with pytest.raises(InputError, match=rf"listens on 127\.0\.0\.2:{port}"):
                ray_internals.check_loopback([process.pid])
            ray_internals.check_loopback([process.pid], ray_internals.open_sockets(process.pid))
        else:
            ray_internals.check_loopback([process.pid])
        process.communicate("")


def test_sockets_that_were_there_before_are_not_rays() -> None:
    with socket.create_server(("127.0.0.2", 0)):
        before = ray_internals.open_sockets(os.getpid())
        ray_internals.check_loopback([os.getpid()], before)
        with pytest.raises(InputError, match=r"listens on 127\.0\.0\.2"):
            ray_internals.check_loopback([os.getpid()])
