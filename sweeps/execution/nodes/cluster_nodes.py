"""Which nodes of the cluster may run packs: those that have proven themselves, and those still to come.

One that cannot is left out, lest it takes pack after pack and fails them all.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.errors import InputError, shortened
from sweeps.execution.nodes.node_proof import Finding, own_versions, prove
from sweeps.execution.nodes.node_resources import is_own
from sweeps.experiment.worker_context import WorkerContext
from sweeps.planning.failures import last_line

PROOF_SECONDS, INSTALL_SECONDS = 60.0, 600.0
"""How long the driver waits for proofs; and where the job's runtime environment has to be installed first."""

INSTALLED = ("pip", "conda", "uv", "image_uri", "container")
"""What in a runtime environment takes long to set up."""

FOLDER = ".proof"
"""Where in the storage the driver writes what nodes have to see."""

NODE_ID = "ray.io/node-id"
"""The label by which Ray knows a node."""

NAMED, LINES, LONGEST = 4, 6, 500
"""How many nodes a line names, how many lines an error has, and the characters of a problem, at most."""


@dataclass
class ClusterNodes:
    """Nodes that have proven themselves, and those left out with their problem, both by id.

    `proof` is the object in the storage by which a node shows that it sees what the driver writes; without one (an own
    local Ray) nothing is proven. `resources` are those of a pack. With `require_all` a node that is left out ends the
    run. `say` prints a line.
    """

    resources: Mapping[str, float] = field(default_factory=dict)
    proof: str = ""
    require_all: bool = False
    say: Callable[[str], None] = lambda text: None
    proven: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def selector(self) -> dict[str, str] | None:
        """Give Ray's label selector for every other node than those left out; None where there are none."""
        return {NODE_ID: f"!in({','.join(sorted(self.left_out))})"} if self.left_out else None

    def told(self, context: WorkerContext) -> WorkerContext:
        """Give the context with what a process has to know to tell whether its node must prove itself."""
        return replace(context, proof=self.proof, proven=list(self.proven))

    def leave_out(self, problems: Mapping[str, str]) -> InputError | None:
        """Leave out nodes by id for a problem, and say so; gives the error that ends the run where none is left.

        What was left out before is not said again.
        """
        fresh = {node: shortened(problem, LONGEST) for node, problem in problems.items() if node not in self.left_out}
        self.left_out |= fresh
        lines = summarized(fresh)
        if fresh and self.require_all:
            return InputError(f"{_joined(lines)}: every node has to be ready (--require-all-nodes)", key="cluster")
        for line in lines:
            self.say(f"left out: {line}")
        if fresh and not any(node["NodeID"] not in self.left_out for node in nodes_for(self.resources)):
            return InputError(f"no node is ready: {_joined(summarized(self.left_out))}", key="cluster")
        return None


@contextmanager
def proven_nodes(
    context: WorkerContext, resources: Mapping[str, float], require_all: bool, say: Callable[[str], None]
) -> Iterator[ClusterNodes]:
    """Let every node that can hold a pack prove itself; gives those left out, to which later nodes may be added.

    Nodes that come later prove the same before their first pack (see `late_problem`). A Ray of this process's own is
    this machine alone, which the driver has checked. Raises InputError where no node is ready, or, with `require_all`,
    where one is not.
    """
    if is_own():
        yield ClusterNodes(resources)
        return
    from sweeps.storage.objects import attempt
    from sweeps.storage.retry import RETRY_SECONDS
    from sweeps.storage.store import Store

    nodes = ClusterNodes(resources, f"{FOLDER}/{uuid.uuid4().hex}", require_all, say)
    store = Store(context.storage, RETRY_SECONDS)
    attempt(lambda: store.put(nodes.proof, nodes.proof.encode()), context.storage)
    try:
        _prove(nodes, nodes.told(context))
        yield nodes
    finally:
        with suppress(Exception):  # a role that may not delete, a store that is away: an object of 40 bytes stays
            Store(context.storage).remove([nodes.proof])
            if store.local:
                Path(store.root, FOLDER).rmdir()


def _prove(nodes: ClusterNodes, context: WorkerContext) -> None:
    """Ask every node at once; raises InputError where the run cannot begin."""
    wanted = [node["NodeID"] for node in nodes_for(nodes.resources)]
    findings = _answers(wanted, context, float(nodes.resources.get("GPU", 0.0)))
    problems = {node: problem for node, (problem, _) in findings.items() if problem}
    nodes.proven += [node for node in wanted if node not in problems]
    ready = f"{len(nodes.proven)} of {len(wanted)} node{'s are' if len(wanted) > 1 else ' is'} ready"
    nodes.say(ready if wanted else "no node is up yet: each proves itself when it comes")
    names = node_names()
    for node, (problem, notes) in findings.items():
        for note in notes if not problem else ():
            nodes.say(f"node {names.get(node, node[:8])}: {note}")
    error = nodes.leave_out(problems)
    if error is not None:
        raise error


def _answers(nodes: Sequence[str], context: WorkerContext, gpus: float) -> dict[str, Finding]:
    """Run the proofs on nodes by id, side by side; one that dies or is late is a problem of its node, too.

    A GPU is proven by a task of its own: where another job has all of a node's, its packs would wait for them as well.
    """
    environment = dict(ray.get_runtime_context().runtime_env or {})
    seconds = INSTALL_SECONDS if any(environment.get(name) for name in INSTALLED) else PROOF_SECONDS
    arguments = (context.as_config(), own_versions())
    tasks: dict[Any, tuple[str, bool]] = {_on(node, 0.0).remote(*arguments, False): (node, False) for node in nodes}
    tasks |= {_on(node, gpus).remote(*arguments, True): (node, True) for node in nodes if gpus}
    answered, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=seconds) if tasks else ([], [])
    findings: dict[str, Finding] = {node: ("", []) for node in nodes}
    for task in answered:
        problem, notes = _answer(task)
        before, others = findings[tasks[task][0]]
        findings[tasks[task][0]] = before or problem, others + notes
    for task in late:
        node, of_gpu = tasks[task]
        ray.cancel(task, force=True)
        before, others = findings[node]
        slow = f"did not prove itself within {seconds:g} s: see its log in Ray's dashboard, or start Ray there anew"
        busy = [f"had no GPU free within {seconds:g} s: its first pack proves that"]
        findings[node] = (before, others + busy) if of_gpu else (before or slow, others)
    return findings


def _on(node: str, gpus: float) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(prove)
    return task.options(num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=strategy)


def _answer(task: Any) -> Finding:
    try:
        problem, notes = ray.get(task)
    except ray.exceptions.RayError as error:
        line = last_line(str(error))
        advice = ": install the same cortex-sweeps on every node" if "ModuleNotFoundError" in line else ""
        return f"{line}{advice}", []
    return str(problem), list(notes)


def nodes_for(resources: Mapping[str, float]) -> list[dict[str, Any]]:
    """List the nodes that are up and can hold a pack."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [
        node for node in alive if all(node["Resources"].get(key, 0.0) >= amount for key, amount in resources.items())
    ]


def summarized(problems: Mapping[str, str]) -> list[str]:
    """Write a line for each distinct problem of nodes, which names some of its nodes."""
    nodes_of: dict[str, list[str]] = defaultdict(list)
    names = node_names()
    for node, problem in problems.items():
        nodes_of[problem].append(names.get(node, node[:8]))
    return [f"{_listed(nodes)}: {problem}" for problem, nodes in nodes_of.items()]


def node_names() -> dict[str, str]:
    """Give every node's address by its id; several at one address have the beginning of their id beside it."""
    addresses = {node["NodeID"]: str(node["NodeManagerAddress"]) for node in ray.nodes()}
    count = Counter(addresses.values())
    return {node: name if count[name] == 1 else f"{name} ({node[:8]})" for node, name in addresses.items()}


def _listed(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    return f"{'nodes' if len(nodes) > 1 else 'node'} {', '.join(nodes[:NAMED])}{more}"


def _joined(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - LINES} more" if len(lines) > LINES else ""
    return "; ".join(lines[:LINES]) + more
