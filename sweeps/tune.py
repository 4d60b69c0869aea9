"""The only file that knows Ray Tune: packs as Tune trials, the sweep as its searcher.

Imports nothing of `models` or `metrics` at the top: a worker imports this module before it knows whether those
names are ours (see guard).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray._private.accelerators import NvidiaGPUAcceleratorManager
from ray.tune.search import Searcher

from sweeps.errors import InputError, Refusal
from sweeps.guard import claim_names

if TYPE_CHECKING:
    from sweeps.context import Context
    from sweeps.schedule import Sweep
    from sweeps.truth import Truth

REPORT_SECONDS, REPORT_MOST = 2.0, 120.0
"""A pack writes its finished rows as one part about this often, a new process its first ones at once; with many workers
less often, see PackSearcher."""

STEP_SECONDS = 0.005
"""What Tune itself takes for the report of a step."""

MANY_NODES = 1000
"""Stands for a node kind without a limit."""

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class SweepPack(tune.Trainable):
    """One pack at a time, in a process that lives through many packs.

    Each step fits cells for about two seconds (longer with many workers; the first one: what is fitted in one go),
    writes their rows as one part and reports the part's name: a row is durable before the driver hears of it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Check the code of this process, then open the workshop."""
        self._refused = ""
        self._fresh = True
        self._bench: Any = None
        self._context = dict(config["context"])
        try:
            claim_names(config["context"]["digest"])
            self._open(config["context"])
        except Refusal as error:
            self._refused = str(error)
        else:
            self._load(config)

    def _open(self, context: Mapping[str, Any]) -> None:
        import torch

        from sweeps.context import Context
        from sweeps.measure import Bench
        from sweeps.storage import Store
        from sweeps.workshop import Workshop

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self._bench = Bench(Workshop(Context(**context), rungs_of(context)))
        self._store = Store(context["storage"])

    def _load(self, config: Mapping[str, Any]) -> None:
        """Take up a pack. What goes wrong is raised by its first step, so that the pack is tried again."""
        self._broken: Exception | None = None
        try:
            self._take(config)
        except Refusal as error:
            self._refused = str(error)
        except Exception as error:
            self._broken = error

    def _take(self, config: Mapping[str, Any]) -> None:
        from sweeps.cells import Pack, jobs_of

        pack = Pack.from_config(config["pack"])
        self._text, self._seconds = str(pack), float(config["report"])
        for name in {cell.recording for cell in pack.cells}:
            self._bench.workshop.recording(name)
        self._rows: Iterator[Any] = self._bench.rows(jobs_of(pack.cells), pack.attempt, pack.earlier)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another pack in this process; a new sweep asks for a new process."""
        if dict(new_config["context"]) != self._context:
            return False
        if self._bench is not None:
            self._load(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Fit and score cells until it is time to report."""
        if self._refused:
            return {"refused": self._refused, "part": "", "done": True}
        if self._broken is not None:
            raise self._broken
        cells: list[dict[str, Any]] = []
        replicates: list[dict[str, Any]] = []
        until, done = time.monotonic() + (0.0 if self._fresh else self._seconds), True
        self._fresh = False
        for rows, held in self._rows:
            cells += rows
            replicates += held
            if time.monotonic() > until:
                done = False
                break
        if replicates:
            self._store.write_part("bootstraps", replicates)
        part = self._store.write_part("cells", cells) if cells else ""
        return {"part": part, "cells": len(cells), "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: rows are the only state, and they are durable."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What one pack asks of the cluster."""
        return tune.PlacementGroupFactory([dict(config["resources"])])

    def __repr__(self) -> str:
        return f"SweepPack({getattr(self, '_text', 'starting')})"


def report_seconds(workers: int, absorbing: float) -> float:
    """Seconds between two reports of a pack, where the driver takes `absorbing` seconds for the rows of one."""
    return min(REPORT_MOST, max(REPORT_SECONDS, 2 * workers * (STEP_SECONDS + absorbing)))


class Unsaved:
    """Not part of the state that Tune pickles: the rows are the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class PackSearcher(Unsaved, Searcher):
    """Hands the sweep's packs to Tune, and what comes back to the sweep.

    There is one driver for all workers, and reading a part from an object store takes it tens of milliseconds: packs
    report so seldom that reports take half of its time.
    """

    def __init__(self, sweep: Sweep, context: Context, resources: Mapping[str, float], workers: int) -> None:
        super().__init__()
        self.workers = workers
        self.absorbing = 0.0
        self.sweep = sweep
        self.context = asdict(context)
        self.resources = dict(resources)
        self.tokens: dict[str, str] = {}
        self.problem: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next pack, None to wait for scores, or the end."""
        found = None if self.problem else self._guarded(self.sweep.next_pack)
        if found is None:
            over = self.problem is not None or self.sweep.finished
            return Searcher.FINISHED if over else None
        token, pack = found
        self.tokens[trial_id] = token
        report = report_seconds(self.workers, self.absorbing)
        return {"context": self.context, "resources": self.resources, "pack": pack.as_config(), "report": report}

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Run an action of the sweep; its first error ends the run and is raised when Tune has stopped."""
        try:
            return action()
        except Exception as error:
            self.problem = self.problem or error
            return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take up the rows of a step."""
        if result.get("refused"):
            self.problem = self.problem or InputError(result["refused"])
        elif result.get("part"):
            began = time.monotonic()
            self._guarded(lambda: self.sweep.absorb(result["part"]))
            self.absorbing += 0.1 * (time.monotonic() - began - self.absorbing)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take up the last step of a pack; a dead one is heard of through `trial_died`."""
        if error:
            return
        if result:
            self.on_trial_result(trial_id, result)
        token = self.tokens.pop(trial_id, None)
        if token is not None and self.problem is None:
            self._guarded(lambda: self.sweep.done(token))

    def trial_died(self, trial_id: str, error: str) -> None:
        """The process of a pack is gone."""
        token = self.tokens.pop(trial_id, None)
        if token is not None:
            self._guarded(lambda: self.sweep.died(token, last_line(error), node_lost(error)))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """There is nothing that Tune could tell."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class Watch(Unsaved, tune.Callback):
    """Tells the searcher of dead packs and the display of every step."""

    def __init__(self, searcher: PackSearcher, update: Callable[[], None]) -> None:
        self.searcher = searcher
        self.update = update

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack's process died, or its step raised."""
        file = trial.error_file
        self.searcher.trial_died(trial.trial_id, Path(file).read_text() if file else "no error was recorded")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the display and the fold keep time."""
        self.searcher._guarded(self.searcher.sweep.flush_if_due)
        self.update()


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


def node_lost(error: str) -> bool:
    """Whether an error says that the node is gone, not the process."""
    return any(words in error for words in ("its node has died", "node was preempted", "NodeDiedError"))


def last_line(error: str) -> str:
    """The most telling line of a traceback: the last that names an error, else the last of all."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] and not line.startswith("File")]
    return " ".join((named or lines or ["the process of the pack died"])[-1].split())


@contextmanager
def cluster(address: str | None, cpus: int | None = None) -> Iterator[str]:
    """A connection to Ray: the given address, else RAY_ADDRESS, else an own local cluster; yields its dashboard.

    A cluster that is up already (a notebook's own) is used as it is and left running; an own one is shut down.
    """
    own = not ray.is_initialized()
    if own:
        joins = not starts_own(address)
        local: dict[str, Any] = {"num_cpus": cpus, "dashboard_host": "127.0.0.1"}
        try:
            check_answers(address or os.environ.get("RAY_ADDRESS", ""))
            ray.init(
                address=address if joins else "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if joins else local),
            )
        except (OSError, ValueError, RuntimeError) as error:
            where = address or os.environ.get("RAY_ADDRESS", "local")
            raise InputError(f"no Ray cluster can be reached: {error}", key="address", value=where) from None
    try:
        yield getattr(ray._private.worker._global_node, "webui_url", None) or ""
    finally:
        if own:
            ray.shutdown()


def check_answers(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def starts_own(address: str | None) -> bool:
    """Whether a run would start a Ray of its own."""
    return address is None and "RAY_ADDRESS" not in os.environ and not ray.is_initialized()


def node_kinds() -> list[tuple[dict[str, float], float]]:
    """Resources of each node that is up, and of each kind that the autoscaler may start, with their number."""
    kinds = [(dict(node["Resources"]), 1.0) for node in ray.nodes() if node["Alive"]]
    config = ray._private.state.state.get_cluster_config()
    startable = [
        ({key: float(amount) for key, amount in group.resources.items()}, float(group.max_count))
        for group in (config.node_group_configs if config else ())
        if group.max_count
    ]
    return startable or kinds


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


def run_packs(
    sweep: Sweep,
    context: Context,
    resources: Mapping[str, float],
    workers: int,
    update: Callable[[], None],
    trainable: type[SweepPack] = SweepPack,
) -> None:
    """Run the sweep's packs under Ray Tune until it is finished; Tune's own state lies in a temporary folder.

    `trainable` is what runs them; the benchmark of scheduling gives one whose cells sleep.
    """
    searcher = PackSearcher(sweep, context, resources, workers)
    folder = tempfile.mkdtemp(prefix="cortex-sweeps-tune-")
    before = {name: os.environ.get(name) for name in TUNE_ENVIRONMENT}
    os.environ.update(TUNE_ENVIRONMENT)
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=workers, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=context.sweep,
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[Watch(searcher, update)],
            ),
        ).fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    if searcher.problem is not None:
        raise searcher.problem
