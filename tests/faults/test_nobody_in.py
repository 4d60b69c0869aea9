"""What lets nobody in: no pickle, no unsafe YAML, no shell, no server on all interfaces, no secret in what is kept."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow.parquet as pq
import pytest
import yaml
from processes import ROOT, descendants, environment, listening, wait_for
from s3 import S3Server, seaweedfs

from sweeps.experiment import schema as experiment_files
from sweeps.io.safe_yaml import read_yaml

ROOMS = ("sweeps", "models", "metrics", "benchmarks")
SECRET_WORDS = re.compile(r"aws_(access|secret)|AKIA[0-9A-Z]{16}|BEGIN (RSA |OPENSSH )?PRIVATE KEY", re.IGNORECASE)


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the code: its place, its name as it is written, and itself."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def given(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_nothing_is_loaded_that_could_run_code() -> None:
    seen = set()
    for place, name, call in calls():
        if name in ("torch.load", "np.load", "numpy.load", "np.lib.format.read_array", "np.lib.npyio.NpzFile"):
            wanted = ("weights_only", "True") if name == "torch.load" else ("allow_pickle", "False")
            assert wanted in given(call).items(), place
            seen.add(name)
        assert name not in ("pickle.load", "pickle.loads", "joblib.load", "dill.load", "eval", "exec"), place
        assert name not in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "os.system", "os.popen"), place
        if name == "yaml.load":
            assert place.startswith("sweeps/io/safe_yaml.py:"), place
        assert given(call).get("shell") != "True", place
        assert not name.endswith(".extractall"), place
        if name.endswith("from_pretrained"):
            assert given(call).get("trust_remote_code", "False") == "False", place
    assert {"torch.load", "np.load"} <= seen
    assert get_type_hints(read_yaml)["loader"] == type[yaml.SafeLoader]
    assert issubclass(experiment_files.Loader, yaml.SafeLoader)


def test_no_file_binds_all_interfaces_or_holds_a_secret() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert tracked
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".yaml", ".yml", ".json", ".toml", "") and not name.startswith("tests/"):
            text = path.read_text(errors="replace")
            assert "0.0.0.0" not in text, name
            assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN (RSA |OPENSSH )?PRIVATE KEY", text), name


OWN_RAY = """
import os, sys
from sweeps.execution.connection import ray_connection
with ray_connection.connected(None, 1):
    import ray
    @ray.remote
    class Worker:
        def process(self):
            return os.getpid()
    worker = Worker.remote()
    print(ray.get(worker.process.remote()), ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""

JOINING = """
import sys
from sweeps.execution.connection import ray_connection
for address in (sys.argv[1], "auto"):
    with ray_connection.connected(address):
        import ray
        print(len(ray.nodes()), ray.cluster_resources()["CPU"])
"""


def test_no_server_of_an_own_ray_listens_beyond_this_machine() -> None:
    """Driver, worker, raylet, GCS, dashboard and its agents; a sweep in another process can still join it."""
    line = [sys.executable, "-c", OWN_RAY]
    with subprocess.Popen(
        line, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout
        worker, address = driver.stdout.readline().split()
        everyone = {driver.pid, *(each.pid for each in descendants(driver.pid))}

        def agents() -> bool:
            return sum("Agent" in each.title for each in descendants(driver.pid)) == 2

        wait_for(agents, 20, "Ray's agents are up")
        found = listening({*everyone, *(each.pid for each in descendants(driver.pid))})
        line = [sys.executable, "-c", JOINING, address]
        own = environment() | {"RAY_AUTH_MODE": "token"}
        joined = subprocess.run(line, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)
        driver.communicate("")
    assert joined.stdout.splitlines() == ["1 1.0", "1 1.0"], joined.stderr
    assert {driver.pid, int(worker)} <= {pid for pid, _ in found}
    assert len(found) >= 6
    assert {address for _, address in found} == {"127.0.0.1"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with seaweedfs(tmp_path / "s3") as held, held.reached():
        yield held


def test_credentials_stay_in_the_environment(server: S3Server, experiment: dict[str, Any], tmp_path: Path) -> None:
    """A whole run on an object store, one that is refused and one that fails: neither rows nor output tell the key."""
    readouts = [{"ridge": {"pool": 2}}, {"gaussian": {"epochs": 1, "learning_rate": 1e30}}]
    space = {"backbone": "pixels", "readout": readouts}
    held = {**experiment, "space": space, "scores": ["prediction"], "storage": f"{server.uri}/rows"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(held))
    line = [sys.executable, "-m", "sweeps"]
    run = ["run", str(tmp_path / "small.yaml"), "--cache", str(tmp_path / "cache"), "--cpus", "1"]
    outputs = []
    for arguments in (run, [*run, "--storage", f"{server.uri}-none/rows"], ["compact", f"{server.uri}/rows"]):
        found = subprocess.run([*line, *arguments], cwd=ROOT, env=environment(), capture_output=True, check=False)
        outputs.append(found.stdout + found.stderr)
    assert b"no such bucket" in outputs[1]
    client = server.client()
    objects = client.list_objects_v2(Bucket=server.bucket)["Contents"]
    stored = [client.get_object(Bucket=server.bucket, Key=each["Key"])["Body"].read() for each in objects]
    assert len(stored) > 3
    caches = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for content in [*outputs, *stored, *caches, json.dumps(objects, default=str).encode()]:
        assert server.secret_key.encode() not in content
        assert server.access_key.encode() not in content
    for content in stored:
        if content[:4] == b"PAR1":  # compressed: look at the values, too
            table = pq.read_table(io.BytesIO(content))
            assert server.secret_key not in str(table.to_pydict())
            assert not SECRET_WORDS.search(" ".join(table.column_names))
