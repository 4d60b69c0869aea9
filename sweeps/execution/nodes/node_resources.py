"""What the nodes of a cluster have, and demands that none of them can meet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from sweeps.errors import InputError
from sweeps.execution.connection import ray_internals

MANY_NODES = 1000
"""Stands for a node kind without a limit."""


CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
"""Where `ray up` puts the cluster file on the head; `cluster/rayjob.yaml` puts what it declares there."""


HEAD = "node:__internal_head__"
"""The resource that Ray gives to a cluster's head alone."""


NodeKind = tuple[dict[str, float], float]
"""Resources of a node, and how many such nodes there are or may be; -1 is without a limit."""


def node_kinds(left_out: Collection[str] = ()) -> list[NodeKind]:
    """List the resources of each node that is up, or of each kind that the autoscaler may start, with their number.

    Nodes `left_out` by their id do not count.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in left_out]
    declared = declared_kinds(Path(CLUSTER_FILE).expanduser())
    startable = reported_kinds() or (declared if declared and on_head(nodes) else [])
    return startable or [(dict(node["Resources"]), 1.0) for node in nodes]


def reported_kinds() -> list[NodeKind]:
    """List kinds of node that an autoscaler has reported to Ray. Those of Ray 2.60 do not: see `declared_kinds`."""
    return [
        ({key: float(amount) for key, amount in group.resources.items()}, float(group.max_count))
        for group in ray_internals.reported_groups()
        if group.max_count
    ]


def declared_kinds(file: Path) -> list[NodeKind]:
    """List kinds of worker in a cluster file with stated resources; none where there is no file."""
    if not file.is_file():
        return []
    config = yaml.safe_load(file.read_text())
    total = config.get("max_workers", MANY_NODES)
    return [
        ({key: float(amount) for key, amount in kind["resources"].items()}, float(min(kind["max_workers"], total)))
        for name, kind in config["available_node_types"].items()
        if name != config.get("head_node_type") and kind.get("resources") and kind.get("max_workers")
    ]


def on_head(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether this process runs on the head of a cluster that somebody else started."""
    if is_own():  # it starts no further nodes
        return False
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and HEAD in node["Resources"] for node in nodes)


def is_own() -> bool:
    """Tell whether this process has started the Ray that it is connected to, which is this machine alone."""
    return ray_internals.has_started_head()


def this_machine(cpus: int | None = None) -> dict[str, float]:
    """Give the resources that an own local Ray would have here, with `cpus` cores or all that its group may use."""
    from models.machine import core_count

    return {"CPU": float(cpus or core_count()), "GPU": ray_internals.gpus_here()}


def check_resources(resources: Mapping[str, float]) -> None:
    """Refuse a pack that no node of the cluster can hold. Raises InputError."""
    check_kinds([kind for kind, _ in node_kinds()], resources)


def check_kinds(kinds: Sequence[Mapping[str, float]], resources: Mapping[str, float]) -> None:
    """Refuse a pack that no kind of node can hold: Ray Tune would wait for it for ever. Raises InputError."""
    if any(all(kind.get(key, 0.0) >= amount for key, amount in resources.items()) for kind in kinds):
        return
    largest = {key: max(kind.get(key, 0.0) for kind in kinds) for key in resources}
    short = next((key for key in resources if largest[key] < resources[key]), next(iter(resources)))
    raise InputError(
        f"no node can hold a pack; the largest has {largest[short]:g} {short}",
        key=f"compute.{short.lower()}s_per_pack",
        value=resources[short],
    )


def worker_count(resources: Mapping[str, float], left_out: Collection[str] = ()) -> int:
    """Count how many packs the cluster can run at once, with every node that it may start, without those left out."""
    per_kind = [
        (min(kind.get(key, 0.0) // amount for key, amount in resources.items() if amount), count)
        for kind, count in node_kinds(left_out)
    ]
    return max(1, int(sum(packs * (count if count > 0 else MANY_NODES) for packs, count in per_kind)))


def has_gpu() -> bool:
    """Tell whether some node of the cluster has a GPU, or would have one when it is started."""
    return any(kind.get("GPU", 0.0) > 0 for kind, _ in node_kinds())
