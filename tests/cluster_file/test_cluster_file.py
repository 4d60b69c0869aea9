"""cluster.yaml and its IAM policies, judged by Ray's own preparation and validation of a cluster file."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.execution.nodes.node_resources import declared_kinds

jsonschema = pytest.importorskip("jsonschema")
util = pytest.importorskip("ray.autoscaler._private.util")

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("iam-head.json", "iam-worker.json")


def raw() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` does before it calls AWS: fill in the defaults, merge the commands, check the schema."""
    ready = util.prepare_config(copy.deepcopy(config))
    util.validate_config(ready)
    return ready


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return prepared(raw())


@pytest.fixture(scope="module")
def workers(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in config["available_node_types"].items() if k != config["head_node_type"]}


def strings(value: Any) -> list[str]:
    """Every string in a nested value, keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def starts(config: dict[str, Any], node: str) -> list[str]:
    return [command for command in config[f"{node}_start_ray_commands"] if "ray start" in command]


def test_ray_accepts_the_file(config: dict[str, Any]) -> None:
    assert config["provider"]["type"] == "aws"
    assert config["max_workers"] >= 1
    assert config["idle_timeout_minutes"] > 0


def test_head_runs_no_trials(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert [("--num-cpus=0" in command) for command in starts(config, "head")] == [True]


def test_workers_scale_from_zero_and_say_what_they_offer(workers: dict[str, dict[str, Any]]) -> None:
    assert workers
    for node in workers.values():
        assert node["min_workers"] == 0
        assert node["max_workers"] > 0
        assert node["resources"]["CPU"] > 0
        assert node["resources"]["GPU"] > 0


def test_spot_is_larger_and_tried_before_on_demand(workers: dict[str, dict[str, Any]]) -> None:
    market = {name: "InstanceMarketOptions" in node["node_config"] for name, node in workers.items()}
    spot = [workers[name] for name in workers if market[name]]
    on_demand = [workers[name] for name in workers if not market[name]]
    assert spot
    assert on_demand
    assert all(node["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot" for node in spot)
    assert min(node["max_workers"] for node in spot) > max(node["max_workers"] for node in on_demand)
    assert min(node.get("priority", 0) for node in spot) > max(node.get("priority", 0) for node in on_demand)


def test_dashboard_is_reached_through_the_tunnel_only(config: dict[str, Any]) -> None:
    assert not [text for text in strings(config) if "0.0.0.0" in text or "::/0" in text]
    assert all("--dashboard-host=127.0.0.1" in command for command in starts(config, "head"))
    assert "IpPermissions" not in config["provider"].get("security_group", {})


@pytest.mark.parametrize("node", ["head", "worker"])
def test_every_ray_start_uses_the_token(config: dict[str, Any], node: str) -> None:
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for command in starts(config, node):
        assert command.index("export RAY_AUTH_MODE=token") < command.index("ray start")


@pytest.mark.parametrize("node", ["head", "worker"])
def test_starts_keep_what_ray_needs(config: dict[str, Any], node: str) -> None:
    defaults = util._get_default_config(config["provider"])
    ours = " ".join(starts(config, node))
    theirs = re.sub(r"--dashboard-host=\S+", "", " ".join(starts(defaults, node)))
    assert set(theirs.split()) <= set(ours.split())
    assert "unset OMP_NUM_THREADS" in ours


@pytest.mark.parametrize("node", ["head", "worker"])
def test_the_project_is_installed_from_its_mount(config: dict[str, Any], node: str) -> None:
    target = next(remote for remote, local in config["file_mounts"].items() if local == ".")
    installs = [command for command in config[f"{node}_setup_commands"] if "pip install" in command]
    assert len(installs) == 1
    assert f"-e {target} " in installs[0]
    assert f"-c {target}/constraints.txt" in installs[0]
    assert "+cpu" not in installs[0]


def test_constraints_leave_the_build_of_torch_open() -> None:
    constraints = ROOT / "constraints.txt"
    if not constraints.exists():
        pytest.skip("no constraints.txt in this checkout")
    assert not re.findall(r"^torch\s*==.*\+.*$", constraints.read_text(), flags=re.MULTILINE)


def test_history_environments_and_results_stay_at_home(config: dict[str, Any]) -> None:
    assert {"/.git", "/.venv", "/data", "/results"} <= set(config["rsync_exclude"])


def test_every_node_brings_its_own_narrow_role(config: dict[str, Any]) -> None:
    for name, node in config["available_node_types"].items():
        wanted = "cortex-sweeps-head" if name == config["head_node_type"] else "cortex-sweeps-worker"
        assert node["node_config"]["IamInstanceProfile"] == {"Name": wanted}
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_no_secret_in_the_files() -> None:
    secret = re.compile(r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|-----BEGIN|aws_secret|\b[0-9a-f]{64}\b|\b\d{12}\b", re.I)
    for path in (ROOT / "cluster.yaml", *(ROOT / "cluster" / name for name in POLICIES)):
        assert not secret.findall(path.read_text()), path.name


def statements(name: str) -> list[dict[str, Any]]:
    return json.loads((ROOT / "cluster" / name).read_text())["Statement"]


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("name", POLICIES)
def test_policies_name_their_actions_and_resources(name: str) -> None:
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action], statement["Sid"]
        if not all(action.startswith("ec2:Describe") for action in actions):
            assert "*" not in listed(statement["Resource"]), statement["Sid"]


@pytest.mark.parametrize("name", POLICIES)
def test_policies_write_to_the_results_prefix_only(name: str) -> None:
    writes = [s for s in statements(name) if "s3:PutObject" in listed(s["Action"])]
    assert [listed(s["Resource"]) for s in writes] == [["arn:aws:s3:::LAB-BUCKET/sweeps/*"]]
    assert not [s for s in statements(name) if any("Delete" in action for action in listed(s["Action"]))]


def test_workers_may_use_s3_only() -> None:
    assert {a.split(":")[0] for s in statements("iam-worker.json") for a in listed(s["Action"])} == {"s3"}


def test_the_head_touches_its_own_cluster_only(config: dict[str, Any]) -> None:
    head = statements("iam-head.json")
    tag = f"ray-cluster-name': '{config['cluster_name']}'"
    for statement in head:
        actions = listed(statement["Action"])
        on_instances = any(":instance/" in resource for resource in listed(statement["Resource"]))
        if {"ec2:TerminateInstances", "ec2:CreateTags"} & set(actions) or on_instances:
            assert tag in str(statement["Condition"]), statement["Sid"]
    passed = [s["Resource"] for s in head if "iam:PassRole" in listed(s["Action"])]
    assert passed == ["arn:aws:iam::ACCOUNT-ID:role/cortex-sweeps-worker"]


def test_a_sweep_knows_what_the_autoscaler_may_start(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(json.dumps(config))  # as `ray up` writes it onto the head
    assert declared_kinds(file) == [({"CPU": 4.0, "GPU": 1.0}, 20.0), ({"CPU": 4.0, "GPU": 1.0}, 2.0)]
    file.write_text(json.dumps({**config, "max_workers": 5}))
    assert [count for _, count in declared_kinds(file)] == [5.0, 2.0]


def test_machines_without_stated_resources_are_not_declared(tmp_path: Path) -> None:
    provider = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(json.dumps(prepared({"cluster_name": "lab", "provider": provider, "auth": {"ssh_user": "it"}})))
    assert declared_kinds(file) == []
    assert declared_kinds(tmp_path / "none.yaml") == []


@pytest.mark.parametrize(
    "where",
    [(), ("auth",), ("available_node_types", "gpu_spot")],
    ids=["top level", "auth", "node type"],
)
def test_a_misspelt_key_is_refused(where: tuple[str, ...]) -> None:
    config = raw()
    place = config
    for key in where:
        place = place[key]
    place["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        prepared(config)


def test_a_fractional_resource_is_refused() -> None:
    config = raw()
    config["available_node_types"]["gpu_spot"]["resources"]["GPU"] = 0.5
    with pytest.raises(jsonschema.ValidationError):
        prepared(config)
