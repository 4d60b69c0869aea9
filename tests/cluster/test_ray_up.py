"""From `ray up` to `ray down` as README tells it, on three machines of namespaces; one of them is lost on the way."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml
from commands import ROOT, make_token, ray, say, until
from local_cluster import local_cluster
from machines import HOME, LAUNCHER, Machine, inside_laboratory, make_key
from s3 import S3Server, seaweedfs

import sweeps
from sweeps.errors import InputError

pytestmark = pytest.mark.cluster

DASHBOARD = "http://127.0.0.1:8265"
TRIALS = 400


class Cluster(NamedTuple):
    """A cluster that is up: its file, its machines, its token, the server of its bucket."""

    file: Path
    head: Machine
    workers: list[Machine]
    token: str
    server: S3Server

    @property
    def storage(self) -> str:
        """Where the sweep's rows go."""
        return f"{self.server.uri}/sweeps/quickstart"


class Sweep(NamedTuple):
    """What came of the sweep, and how many trials were known when the machine was lost."""

    logs: str
    status: str
    known: int
    trials: pd.DataFrame


def asked(path: str, token: str | None) -> Any:
    """The dashboard's answer: JSON, or a page's text."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(DASHBOARD + path, headers=headers), timeout=10) as answer:
        body = answer.read().decode()
    return json.loads(body) if answer.headers.get_content_type() == "application/json" else body


def nodes(cluster: Cluster) -> dict[str, str]:
    """Address and state of each node that Ray knows."""
    listed = asked("/api/v0/nodes", cluster.token)["data"]["result"]["result"]
    return {node["node_ip"]: node["state"] for node in listed}


def role(server: S3Server) -> dict[str, str]:
    """The files that give a machine access to the bucket; on AWS its role does."""
    keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    where = f"endpoint_url = {server.url}\nregion = us-east-1\n"
    return {".aws/config": f"[default]\n{where}", ".aws/credentials": f"[default]\n{keys}"}


@contextmanager
def dashboard(file: Path) -> Iterator[None]:
    """The tunnel of `ray dashboard`."""
    with subprocess.Popen(["ray", "dashboard", str(file)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Machines, a bucket, and `ray up`."""
    if not inside_laboratory():
        pytest.skip("make test-cluster runs this in namespaces of its own")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        server = stack.enter_context(seaweedfs(tmp_path_factory.mktemp("s3"), host=LAUNCHER.address))
        for name, value in server.environment.items():
            patch.setenv(name, value)
        key = make_key(Path(HOME) / ".ssh" / "laboratory")
        names = {"head": "10.77.0.2", "worker1": "10.77.0.3", "worker2": "10.77.0.4"}
        machines = [Machine(name, address, key, role(server)) for name, address in names.items()]
        head, *workers = [stack.enter_context(machine) for machine in machines]
        say("three machines and a bucket are there")
        file = Path("/tmp/local.yaml")
        file.write_text(yaml.safe_dump(local_cluster(head, workers, ROOT / "cluster.yaml")))
        found = Cluster(file, head, workers, make_token(), server)
        # The second version of Ray's autoscaler counts the head of `provider: local` as one of the workers.
        ray("up", "--yes", str(file), seconds=300, environment={"RAY_UP_enable_autoscaler_v2": "0"})
        say("ray up has returned")
        stack.enter_context(dashboard(file))
        until(lambda: answers(found.token), 60, "the dashboard")
        say("the dashboard answers")
        until(lambda: list(nodes(found).values()).count("ALIVE") == 3, 180, "three nodes")
        say(f"three nodes are up: {nodes(found)}")
        yield found


def answers(token: str) -> bool:
    """Whether the dashboard is there."""
    try:
        return bool(asked("/api/version", token))
    except OSError:
        return False


@pytest.fixture(scope="module")
def sweep(cluster: Cluster) -> Sweep:
    """A sweep whose second worker is lost when a quarter of its trials is known."""
    name = "quickstart"
    job = ["--address", DASHBOARD, "--submission-id", name, "--no-wait"]
    ray("job", "submit", *job, "--", "sweeps", "run", "quickstart", "--storage", cluster.storage, seconds=120)
    say("the sweep is submitted")
    try:
        known = until(lambda: part_known(cluster, name), 600, "a quarter of the trials")
        cluster.workers[1].lose()
        say(f"{cluster.workers[1].name} is lost, {known} of {TRIALS} trials are known")
        status = until(lambda: ended(cluster, name), 600, "the end of the sweep")
    finally:
        logs = asked(f"/api/jobs/{name}/logs", cluster.token)["logs"]
        print(logs)
    say(f"the sweep has ended: {status}")
    return Sweep(logs, status, known, sweeps.load(cluster.storage))


def part_known(cluster: Cluster, name: str) -> int:
    """How many trials are known, as soon as a quarter are."""
    assert not (status := ended(cluster, name)), f"the sweep has ended early: {status}"
    try:
        known = len(sweeps.load(cluster.storage))
    except InputError:  # no row yet
        return 0
    return known if known >= TRIALS // 4 else 0


def ended(cluster: Cluster, name: str) -> str:
    """How a job has ended; empty while it runs."""
    status = asked(f"/api/jobs/{name}", cluster.token)["status"]
    return status if status in ("SUCCEEDED", "FAILED", "STOPPED") else ""


def test_the_dashboard_answers_with_the_token_through_the_tunnel_alone(cluster: Cluster) -> None:
    assert asked("/api/version", cluster.token)["ray_version"]
    assert "<html" in asked("/", cluster.token)
    with pytest.raises(urllib.error.HTTPError, match="40"):
        asked("/api/version", None)
    with pytest.raises(urllib.error.HTTPError, match="40"):
        asked("/api/version", "not-the-token")
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://{cluster.head.address}:8265/api/version", timeout=10)


def test_every_machine_was_set_up_as_the_file_says(cluster: Cluster) -> None:
    for machine in (cluster.head, *cluster.workers):
        assert machine.ssh("stat -c %a ~/.ray/auth_token").strip() == "600"
        assert "sweeps" in machine.ssh("ls ~/cortex-sweeps")
        assert machine.ssh("cd ~/cortex-sweeps && ls -d .git .venv data results 2>/dev/null || true").strip() == ""
        assert machine.ssh("test -d ~/.cache/cortex-sweeps && grep -c RAY_AUTH_MODE=token ~/.bashrc").strip() == "1"


def test_ray_exec_speaks_to_the_head(cluster: Cluster) -> None:
    assert "Resources" in ray("exec", str(cluster.file), "ray status", seconds=60)


def test_a_sweep_outlives_a_worker_and_ends_with_every_trial_once(cluster: Cluster, sweep: Sweep) -> None:
    assert 0 < sweep.known < TRIALS
    assert sweep.status == "SUCCEEDED"
    assert len(sweep.trials) == TRIALS
    assert sweep.trials["trial_id"].is_unique
    assert set(sweep.trials["status"]) == {"done"}
    assert nodes(cluster)[cluster.workers[1].address] == "DEAD"


def test_the_planted_depths_are_printed(sweep: Sweep) -> None:
    assert "planted" in sweep.logs


def test_ray_down_ends_ray_everywhere(cluster: Cluster, sweep: Sweep) -> None:
    ray("down", "--yes", str(cluster.file), seconds=120)
    say("ray down has returned")
    for machine in (cluster.head, cluster.workers[0]):
        until(lambda m=machine: not raylets(m), 120, f"the end of Ray on {machine.name}")
    say("no process of Ray is left")


def raylets(machine: Machine) -> str:
    """Processes of Ray on a machine."""
    return machine.ssh("pgrep -l 'raylet|gcs_server' || true").strip()
