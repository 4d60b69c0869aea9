"""The cluster that packs run on: a connection to Ray, what its nodes can hold, and what runs on it beside the packs.

Knows Ray, but not Ray Tune. Imports nothing of `models` or `metrics` at the top: a worker imports this module before it
knows whether those names are ours (see guard).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import yaml
from ray._private.accelerators import NvidiaGPUAcceleratorManager
from ray.job_config import JobConfig

from sweeps.errors import InputError
from sweeps.guard import claim_names

if TYPE_CHECKING:
    from sweeps.context import Context
    from sweeps.truth import Truth

MANY_NODES = 1000
"""Stands for a node kind without a limit."""

CLUSTER_FILE = "~/ray_bootstrap_config.yaml"
"""Where `ray up` puts the cluster file on the head; `cluster/rayjob.yaml` puts what it declares there."""

HEAD = "node:__internal_head__"
"""The resource that Ray gives to a cluster's head alone."""

NodeKind = tuple[dict[str, float], float]
"""Resources of a node, and how many such nodes there are or may be; -1 is without a limit."""


@contextmanager
def connected(address: str | None, cpus: int | None = None, about: Mapping[str, str] | None = None) -> Iterator[str]:
    """A connection to Ray: the given address, else RAY_ADDRESS, else an own local cluster; yields its dashboard.

    A cluster that is up already (a notebook's own) is used as it is and left running; an own one is shut down.
    `about` becomes metadata of the job, by which the dashboard's job list can be told apart.
    """
    own = not ray.is_initialized()
    if own:
        joins, given = not starts_own(address), address or os.environ.get("RAY_ADDRESS", "")
        local: dict[str, Any] = {"num_cpus": cpus, "dashboard_host": "127.0.0.1"}
        try:
            check_answers(given)
            with _on_loopback() if not joins or is_on_loopback(given) else nullcontext():
                ray.init(
                    address=address if joins else "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=JobConfig(metadata=dict(about or {})),
                    **({} if joins else local),
                )
        except (OSError, ValueError, RuntimeError) as error:
            problem = f"no Ray cluster can be reached: {error}"
            raise InputError(problem, key="address", value=given or "local") from None
    try:
        yield getattr(ray._private.worker._global_node, "webui_url", None) or ""
    finally:
        if own:
            ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started inside listens on 127.0.0.1 alone, as it does on macOS; else on every interface.

    Ray has no argument for it: `_node_ip_address="127.0.0.1"` is replaced by the machine's address. Other processes
    join such a Ray only in here, too.
    """
    constants = ray._private.ray_constants
    usual, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual


def is_on_loopback(address: str) -> bool:
    """Whether an address is that of a Ray of this machine that listens on 127.0.0.1 alone."""
    services = ray._private.services
    if address == "auto":
        address = services.find_bootstrap_address(None) or next(iter(services.find_gcs_addresses()), "")
    host, _, port = address.rpartition(":")
    return host in ("127.0.0.1", "localhost") and f"127.0.0.1:{port}" in services.find_gcs_addresses()


def check_answers(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def token_command() -> str:
    """The command that prints the token that the dashboard asks for; empty where it asks for none.

    Ray keeps its mode in the environment: a local Ray of version 2.59 or later turns the token on there.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return ""
    command = "ray" if shutil.which("ray") else str(Path(sys.executable).with_name("ray"))
    return f"{command} get-auth-token"


def starts_own(address: str | None) -> bool:
    """Whether a run would start a Ray of its own."""
    return address is None and "RAY_ADDRESS" not in os.environ and not ray.is_initialized()


def node_kinds() -> list[NodeKind]:
    """Resources of each node that is up, or of each kind that the autoscaler may start, with their number."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    declared = declared_kinds(Path(CLUSTER_FILE).expanduser())
    startable = reported_kinds() or (declared if declared and on_head(nodes) else [])
    return startable or [(dict(node["Resources"]), 1.0) for node in nodes]


def reported_kinds() -> list[NodeKind]:
    """Kinds of node that an autoscaler has told Ray of. Those of Ray 2.60 do not: see `declared_kinds`."""
    config = ray._private.state.state.get_cluster_config()
    return [
        ({key: float(amount) for key, amount in group.resources.items()}, float(group.max_count))
        for group in (config.node_group_configs if config else ())
        if group.max_count
    ]


def declared_kinds(file: Path) -> list[NodeKind]:
    """Kinds of worker in a cluster file with stated resources; none where there is no file."""
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
    """Whether this process runs on the head of a cluster that somebody else started."""
    if getattr(ray._private.worker._global_node, "head", False):  # an own local Ray: it starts no further nodes
        return False
    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and HEAD in node["Resources"] for node in nodes)


def this_machine(cpus: int | None = None) -> dict[str, float]:
    """Resources that an own local Ray would have here, with `cpus` cores or all."""
    gpus = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    return {"CPU": float(cpus or os.cpu_count() or 1), "GPU": float(gpus)}


def check_resources(resources: Mapping[str, float]) -> None:
    """Refuse a pack that no node of the cluster can hold. Raises InputError."""
    check_kinds([held for held, _ in node_kinds()], resources)


def check_kinds(kinds: Sequence[Mapping[str, float]], resources: Mapping[str, float]) -> None:
    """Refuse a pack that no kind of node can hold: Ray Tune would wait for it for ever. Raises InputError."""
    if any(all(held.get(key, 0.0) >= amount for key, amount in resources.items()) for held in kinds):
        return
    largest = {key: max(held.get(key, 0.0) for held in kinds) for key in resources}
    short = next((key for key in resources if largest[key] < resources[key]), next(iter(resources)))
    raise InputError(
        f"no node can hold a pack; the largest has {largest[short]:g} {short}",
        key=f"compute.{short.lower()}s_per_pack",
        value=resources[short],
    )


def worker_count(resources: Mapping[str, float]) -> int:
    """How many packs the cluster can run at once, with every node that it may start."""
    per_kind = [
        (min(held.get(key, 0.0) // amount for key, amount in resources.items() if amount), count)
        for held, count in node_kinds()
    ]
    return max(1, int(sum(packs * (count if count > 0 else MANY_NODES) for packs, count in per_kind)))


def has_gpu() -> bool:
    """Whether some node of the cluster has a GPU, or would have one when it is started."""
    return any(held.get("GPU", 0.0) > 0 for held, _ in node_kinds())


def end_process(actor: Any) -> None:
    """End the process of an actor, whatever it is at; one that is gone is fine."""
    if actor is not None:
        ray.kill(actor)


def find_truths(context: Context, resources: Mapping[str, float]) -> list[Truth]:
    """Make simulated recordings and their truths in a worker; the driver imports no torch."""

    @ray.remote(num_cpus=resources.get("CPU", 1), num_gpus=resources.get("GPU", 0), max_retries=1)
    def task(held: dict[str, Any]) -> Any:
        try:
            claim_names(held["digest"])
            import torch

            from sweeps.context import Context as Held
            from sweeps.truth import truths

            torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
            return truths(Held(**held))
        except InputError as error:
            return str(error)

    found: Any = ray.get(task.remote(asdict(context)))
    if isinstance(found, str):
        raise InputError(found)
    return list(found)


class Rungs:
    """The actor of a sweep that successive halving asks; see `sweeps.halving.Rungs`."""

    def __init__(self, factor: int) -> None:
        from sweeps.halving import Rungs as Held

        self.held = Held(factor)

    def stays(self, group: str, epochs: int, fit: str, score: float) -> bool:
        """Whether a fit goes on."""
        return self.held.stays(group, epochs, fit, score)


@contextmanager
def halved(context: Context) -> Iterator[Context]:
    """The context with the actor that its halving asks; the actor ends with the sweep."""
    if not context.halving:
        yield context
        return
    name = f"cortex-sweeps-halving-{uuid.uuid4().hex}"
    actor: Any = ray.remote(Rungs).options(name=name, num_cpus=0).remote(context.halving["factor"])
    try:
        yield replace(context, rungs=name)
    finally:
        ray.kill(actor)


def rungs_of(context: Mapping[str, Any]) -> Callable[..., bool] | None:
    """What asks a sweep's actor; a fit goes on where the actor is gone."""
    if not context["rungs"]:
        return None
    actor = ray.get_actor(context["rungs"])

    def ask(*given: Any) -> bool:
        try:
            return bool(ray.get(actor.stays.remote(*given)))
        except ray.exceptions.RayActorError:
            return True

    return ask
