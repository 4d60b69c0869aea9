"""cluster/rayjob.yaml, judged by the fields that KubeRay knows, and by what cluster.yaml promises."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rayjob import RAYJOB

from sweeps.execution.nodes.node_resources import CLUSTER_FILE, declared_kinds

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "cluster" / "rayjob.yaml").read_text()


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TEXT))


@pytest.fixture
def job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (document for document in documents if document["kind"] == "RayJob")
    return found


@pytest.fixture
def cluster(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["rayClusterSpec"]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def accepts(job: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(RAYJOB).validate(job)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(RAYJOB)


def test_kuberay_knows_every_field(job: dict[str, Any]) -> None:
    accepts(job)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "entryPoint", "sweeps run quickstart"),
        (("rayClusterSpec",), "enableAutoscaling", True),
        (("rayClusterSpec", "authOptions"), "mode", "tokens"),
        (("rayClusterSpec", "autoscalerOptions"), "upscalingMode", "Fast"),
        (("rayClusterSpec", "headGroupSpec"), "rayStartParams", {"num-cpus": 0}),
        (("rayClusterSpec", "workerGroupSpecs", 0), "maxWorkers", 3),
        (("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec"), "serviceAccount_name", "it"),
    ],
)
def test_a_mistake_is_refused(job: dict[str, Any], place: tuple[str | int, ...], key: str, value: Any) -> None:
    wrong = copy.deepcopy(job)
    where: Any = wrong["spec"]
    for step in place:
        where = where[step]
    where[key] = value
    with pytest.raises(jsonschema.ValidationError):
        accepts(wrong)


def test_it_runs_a_sweep_and_goes_away(job: dict[str, Any]) -> None:
    assert job["spec"]["entrypoint"].startswith("sweeps run ")
    assert job["spec"]["shutdownAfterJobFinishes"] is True


def test_ray_is_the_one_of_the_constraints(cluster: dict[str, Any]) -> None:
    (version,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert cluster["rayVersion"] == version
    assert re.findall(r"rayproject/ray:([\d.]+)-", TEXT) == [version]


def test_the_token_is_asked_for(cluster: dict[str, Any]) -> None:
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0)  # KubeRay refuses it before


def test_head_runs_no_trials(cluster: dict[str, Any]) -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_one_group_of_gpu_workers_grows_from_nothing(cluster: dict[str, Any]) -> None:
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] > 0
    (container,) = group["template"]["spec"]["containers"]
    held = container["resources"]
    assert held["limits"] == held["requests"]  # Ray counts limits, Kubernetes places by requests
    assert int(held["limits"]["nvidia.com/gpu"]) > 0


def test_the_sweep_is_told_what_the_autoscaler_may_start(
    documents: list[dict[str, Any]], cluster: dict[str, Any], tmp_path: Path
) -> None:
    (nodes,) = (document for document in documents if document["kind"] == "ConfigMap")
    (mount,) = (m for m in pods(cluster)[0]["containers"][0]["volumeMounts"] if m["name"] == "nodes")
    assert mount["mountPath"] == CLUSTER_FILE.replace("~", "/home/ray")
    (tmp_path / "nodes.yaml").write_text(nodes["data"][mount["subPath"]])
    (group,) = cluster["workerGroupSpecs"]
    held = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    wanted = {"CPU": float(held["cpu"]), "GPU": float(held["nvidia.com/gpu"])}
    assert declared_kinds(tmp_path / "nodes.yaml") == [(wanted, float(group["maxReplicas"]))]


def test_every_pod_has_the_same_code(cluster: dict[str, Any]) -> None:
    assert len({container["image"] for pod in pods(cluster) for container in pod["containers"]}) == 1


def test_access_comes_from_service_accounts_alone(documents: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    made = {document["metadata"]["name"] for document in documents if document["kind"] == "ServiceAccount"}
    assert {pod["serviceAccountName"] for pod in pods(cluster)} == made
    assert {document["kind"] for document in documents} == {"ServiceAccount", "ConfigMap", "RayJob"}
    assert not [pod for pod in pods(cluster) for container in pod["containers"] if "env" in container]
    assert not re.search(r"AKIA|ASIA|aws_secret|\b[0-9a-f]{64}\b|\b\d{12}\b", TEXT)


def test_mounts_have_volumes(cluster: dict[str, Any]) -> None:
    for pod in pods(cluster):
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_experiment_is_where_the_sweep_looks(job: dict[str, Any], cluster: dict[str, Any]) -> None:
    (container,) = pods(cluster)[0]["containers"]
    folders = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "experiment"]
    path = job["spec"]["entrypoint"].split()[-1]
    assert folders == [path.rpartition("/")[0]]
