"""`ray up cluster.yaml` against an imitation of AWS (moto), up to the first SSH connection, which nothing answers."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import boto3  # type: ignore[import-untyped]
import pytest
import yaml
from commands import ROOT, make_token, ray
from machines import inside_laboratory
from moto.server import ThreadedMotoServer
from ray.autoscaler._private import util
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

pytestmark = pytest.mark.cluster

ACCOUNT = "123456789012"
EC2_MAY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Launch(NamedTuple):
    """What `ray up` printed, and the account that it has been at work in."""

    printed: str
    ec2: Any
    iam: Any

    def instances(self, node_type: str) -> list[dict[str, Any]]:
        """The instances of a node type of cluster.yaml."""
        wanted = [{"Name": "tag:ray-user-node-type", "Values": [node_type]}]
        found = self.ec2.describe_instances(Filters=wanted)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]


def declared() -> dict[str, Any]:
    """cluster.yaml as it is written."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


@pytest.fixture(scope="module")
def account() -> Iterator[dict[str, str]]:
    """The imitation, and the variables that point this process and `ray up` at it."""
    if not inside_laboratory():
        pytest.skip("make test-cluster runs this in namespaces of its own")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": declared()["provider"]["region"],
        "AUTOSCALER_NODE_START_WAIT_S": "3",  # seconds that it waits for SSH
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield settings
    server.stop()


@pytest.fixture(scope="module")
def launch(account: dict[str, str]) -> Launch:
    """The account prepared as the head of cluster.yaml says, then `ray up`."""
    region = {"region_name": account["AWS_DEFAULT_REGION"]}
    iam, ec2 = boto3.client("iam", **region), boto3.client("ec2", **region)
    for node in ("head", "worker"):
        make_role(iam, node)
    make_token()
    printed = ray("up", "--yes", "--no-config-cache", "cluster.yaml", seconds=240, status=1)
    return Launch(printed, ec2, iam)


def make_role(iam: Any, node: str) -> None:
    """A role from its policy in cluster/, and an instance profile of the same name."""
    name = f"cortex-sweeps-{node}"
    policy = (ROOT / "cluster" / f"iam-{node}.json").read_text()
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(EC2_MAY))
    iam.put_role_policy(RoleName=name, PolicyName="sweeps", PolicyDocument=policy.replace("ACCOUNT-ID", ACCOUNT))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


@pytest.fixture(scope="module")
def workers(launch: Launch) -> dict[str, dict[str, Any]]:
    """One instance of each worker type, started as the head's autoscaler does."""
    config = util.prepare_config(declared())
    config = _bootstrap_config(config, no_config_cache=True)
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    found = {}
    for name, node in config["available_node_types"].items():
        if name != config["head_node_type"]:
            tags = {
                TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                TAG_RAY_USER_NODE_TYPE: name,
                TAG_RAY_NODE_NAME: f"ray-{config['cluster_name']}-worker",
                TAG_RAY_NODE_STATUS: "uninitialized",
            }
            provider.create_node(copy.deepcopy(node["node_config"]), tags, 1)
            (found[name],) = launch.instances(name)
    return found


def test_ray_up_comes_as_far_as_ssh(launch: Launch) -> None:
    assert re.search(r"Launched instance .*i-[0-9a-f]+", launch.printed, re.DOTALL), launch.printed
    assert "SSH" in launch.printed, launch.printed
    assert "Failed to setup head node" in launch.printed, launch.printed


def test_one_head_of_the_declared_type_is_up(launch: Launch) -> None:
    (head,) = launch.instances("head")
    config = declared()
    wanted = config["available_node_types"]["head"]["node_config"]
    assert head["State"]["Name"] == "running"
    assert head["InstanceType"] == wanted["InstanceType"]
    assert head["ImageId"] == wanted["ImageId"]
    assert "InstanceLifecycle" not in head
    assert head["KeyName"].startswith("ray-autoscaler")


def test_the_head_has_the_tags_that_its_policy_asks_for(launch: Launch) -> None:
    (head,) = launch.instances("head")
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert tags["ray-cluster-name"] == declared()["cluster_name"]
    assert tags["ray-node-type"] == "head"
    assert tags["Name"] == f"ray-{declared()['cluster_name']}-head"


def test_ray_makes_no_role_of_its_own(launch: Launch, workers: dict[str, dict[str, Any]]) -> None:
    assert {role["RoleName"] for role in launch.iam.list_roles()["Roles"]} == {
        "cortex-sweeps-head",
        "cortex-sweeps-worker",
    }
    (head,) = launch.instances("head")
    assert head["IamInstanceProfile"]["Arn"].endswith(":instance-profile/cortex-sweeps-head")
    for worker in workers.values():
        assert worker["IamInstanceProfile"]["Arn"].endswith(":instance-profile/cortex-sweeps-worker")


def test_spot_workers_are_spot_and_the_others_are_not(workers: dict[str, dict[str, Any]]) -> None:
    types = {name: node["node_config"]["InstanceType"] for name, node in declared()["available_node_types"].items()}
    assert {name: worker["InstanceType"] for name, worker in workers.items()} == {
        name: types[name] for name in ("gpu_spot", "gpu_on_demand")
    }
    assert workers["gpu_spot"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in workers["gpu_on_demand"]


def test_the_world_reaches_port_22_alone(launch: Launch, workers: dict[str, dict[str, Any]]) -> None:
    (head,) = launch.instances("head")
    groups = {group["GroupId"] for instance in (head, *workers.values()) for group in instance["SecurityGroups"]}
    (group,) = launch.ec2.describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
    assert group["GroupName"] == f"ray-autoscaler-{declared()['cluster_name']}"
    from_outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule.get("Ipv6Ranges")]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in from_outside] == [(22, 22, "tcp")]
    for rule in group["IpPermissions"]:
        assert rule in from_outside or {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} == groups


def test_metadata_needs_a_session_token_everywhere(launch: Launch, workers: dict[str, dict[str, Any]]) -> None:
    for instance in (*launch.instances("head"), *workers.values()):
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def test_every_disk_is_encrypted_and_goes_with_its_node(launch: Launch, workers: dict[str, dict[str, Any]]) -> None:
    for instance in (*launch.instances("head"), *workers.values()):
        disks = [mapping["Ebs"] for mapping in instance["BlockDeviceMappings"]]
        assert disks
        assert all(disk["DeleteOnTermination"] for disk in disks)
        volumes = launch.ec2.describe_volumes(VolumeIds=[disk["VolumeId"] for disk in disks])["Volumes"]
        assert [(volume["Encrypted"], volume["VolumeType"]) for volume in volumes] == [(True, "gp3")] * len(disks)


def test_ray_down_ends_every_instance(launch: Launch, workers: dict[str, dict[str, Any]]) -> None:
    ray("down", "--yes", "cluster.yaml", seconds=240)
    left = [*launch.instances("head"), *launch.instances("gpu_spot"), *launch.instances("gpu_on_demand")]
    assert {instance["State"]["Name"] for instance in left} == {"terminated"}
