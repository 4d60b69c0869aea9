"""A sweep on a cluster whose workers come with the work: at its start there is a head without CPUs, nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from commands import ROOT, make_token, ray
from machines import inside_laboratory
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

import sweeps
from sweeps.execution.nodes.node_resources import CLUSTER_FILE

pytestmark = pytest.mark.cluster

ADDRESS = "127.0.0.1:6379"
HEAD_TYPE = "ray.head.default"  # which that provider calls its head
CLUSTER = {
    "cluster_name": "from-zero",
    "max_workers": 2,
    "provider": {
        "type": "external",  # Ray's wheel lacks a file that its own name for this provider needs
        "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
    },
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    **{
        f"{which}_commands": []
        for which in ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    },
    "head_node_type": HEAD_TYPE,
    "available_node_types": {
        HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
}
EXPERIMENT = {
    "name": "from-zero",
    "recordings": [{"format": "simulated"}],
    "probes": {},
    "space": {"backbone": "efficientnet-lite0", "depth": {"V1": [0, 1], "IT": [12, 13]}, "readout": {"ridge": {}}},
    "scores": ["prediction"],
}


@pytest.fixture
def head() -> Iterator[str]:
    """A head with an autoscaler, whose nodes are processes of this machine; its file lies where `ray up` puts it."""
    if not inside_laboratory():
        pytest.skip("make test-cluster runs this in namespaces of its own")
    make_token()
    file = Path(CLUSTER_FILE).expanduser()
    file.write_text(json.dumps(CLUSTER))
    fake = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    where = ["--node-ip-address=127.0.0.1", "--port=6379", "--dashboard-host=127.0.0.1", f"--autoscaling-config={file}"]
    ray("start", "--head", "--num-cpus=0", "--object-store-memory=200000000", *where, seconds=120, environment=fake)
    yield ADDRESS
    subprocess.run(["ray", "stop"], stdout=subprocess.DEVNULL, timeout=120, check=False)  # it can end itself, too
    file.unlink(missing_ok=True)


def sweep(storage: Path, experiment: Path) -> subprocess.CompletedProcess[str]:
    """`sweeps run` on that head."""
    return subprocess.run(
        [sys.executable, "-m", "sweeps", "run", str(experiment), "--storage", str(storage), "--address", ADDRESS],
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def test_workers_come_with_the_work(head: str, tmp_path: Path) -> None:
    experiment, storage = tmp_path / "experiment.yaml", tmp_path / "results"
    experiment.write_text(yaml.safe_dump(EXPERIMENT))
    file = Path(CLUSTER_FILE).expanduser()
    aside = file.rename(file.with_suffix(".aside"))
    refused = sweep(storage, experiment)
    assert "no node can hold a pack" in refused.stdout  # Ray does not say what may be started; see declared_kinds
    aside.rename(file)
    done = sweep(storage, experiment)
    assert done.returncode == 0, done.stdout
    trials = sweeps.load(str(storage))
    assert (len(trials), set(trials["status"])) == (4, {"done"})
