"""Running an experiment, and checking one without running it."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps import interrupts
from sweeps.commands.truth_rows import truth_ids, truths_known, write_truths
from sweeps.errors import InputError, Unavailable
from sweeps.experiment.plugins import other_code
from sweeps.experiment.schema import as_yaml
from sweeps.hashing import canonical
from sweeps.io.guards.private_folder import check_cache
from sweeps.planning.packs import pack_size
from sweeps.planning.plan import Plan
from sweeps.planning.run_progress import RunProgress
from sweeps.planning.scheduler import Scheduler
from sweeps.search.methods import make_proposer
from sweeps.search.proposer import Listed, Proposer
from sweeps.storage.current_rows import NAME, CurrentRows
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import describe_error
from sweeps.storage.retry import RETRY_SECONDS, is_environment, is_of_ray, meaning_of, warn
from sweeps.storage.row_log import RowLog
from sweeps.storage.run_lock import RunLock
from sweeps.storage.store import Store, warn_foreign

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.execution.nodes.cluster_nodes import ClusterNodes
    from sweeps.report.progress import ProgressDisplay


@dataclass(frozen=True)
class Result:
    """What a run left behind: `trials` and `areas` as DataFrames, `progress` of this run, the storage place.

    `finished` is False when it was interrupted, by the signal of number `signal`: the same call goes on.
    """

    storage: str
    progress: RunProgress
    notices: list[str]
    finished: bool
    signal: int = 0

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial."""
        from sweeps.storage.load import load

        return load(self.storage)

    @property
    def areas(self) -> pd.DataFrame:
        """One row per (trial, recording, area)."""
        from sweeps.storage.load import load

        return load(self.storage, table="areas")


def run_plan(
    plan: Plan,
    address: str | None = None,
    retry_failed: bool = False,
    cpus: int | None = None,
    quiet: bool = True,
    join: bool = False,
    require_all_nodes: bool = False,
) -> Result:
    """Run a checked plan to its end, or go on with it; the arguments are those of `sweeps.run`."""
    from sweeps.report.planned import note_contrasts
    from sweeps.report.progress import ProgressDisplay

    check_cache(plan.cache, plan.shared_cache)
    store = Store(plan.storage, 60 * plan.experiment.compute.storage_patience_minutes)
    warn_foreign(store)
    lock = RunLock(Store(plan.storage, RETRY_SECONDS), "run", join, (lambda _: None) if quiet else print)
    with interrupts.handled(), named_environment(plan.storage), ExitStack() as stack:
        stack.enter_context(lock)
        row_log = attempt(lambda: RowLog(store, plan.columns()), plan.storage)
        note_contrasts(plan, row_log)
        scheduler = scheduler_of(plan, row_log, retry_failed, lambda: lock.shared)
        display = stack.enter_context(ProgressDisplay(plan, scheduler.progress, quiet))
        store.begin(warn if quiet else display.say)
        number = 0
        try:
            if scheduler.finished and truths_known(plan, row_log):
                display.say("nothing to fit: every cell is known")
                settle(scheduler)
                write_experiment(plan)
            else:
                _execute(plan, scheduler, address, cpus, display, require_all_nodes)
        except KeyboardInterrupt:
            number = interrupts.received() or signal.SIGINT
    notices = scheduler.proposals.proposer.notices()
    return Result(plan.storage, scheduler.progress, notices, scheduler.finished and not number, number)


def write_experiment(plan: Plan) -> None:
    """Write the experiment beside its rows, and what tells its rows from those of earlier versions of it."""
    if plan.chosen is not None:
        return
    store = Store(plan.storage, RETRY_SECONDS)
    prints = {recording.name: recording.fingerprint for recording in plan.facts}
    split = canonical(plan.experiment.split.model_dump())
    stated = [plugin.stated for plugin in plan.plugins]
    places = {facts.name: [area for area in facts.areas if area in plan.space.areas] for facts in plan.facts}
    texts = {recording.fingerprint: plan.planner.split_text(recording.name) for recording in plan.facts}
    own = {fingerprint: text for fingerprint, text in texts.items() if text != split}
    ids = list(truth_ids(plan).values())
    current = CurrentRows(split, prints, ids, plan.base, plan.cache, stated, places=places, splits=own)
    attempt(lambda: store.put("experiment.yaml", as_yaml(plan.experiment).encode()), plan.storage)
    attempt(lambda: store.put(NAME, current.as_json()), plan.storage)


def scheduler_of(
    plan: Plan, row_log: RowLog, retry_failed: bool, shared: Callable[[], bool] = lambda: False
) -> Scheduler:
    """Make the scheduler of a plan, and let it propose the first trials."""
    proposer: Proposer = make_proposer(plan.space, plan.experiment.search)
    if plan.chosen is not None:
        proposer = Listed(iter(plan.chosen))
    scheduler = Scheduler(plan, proposer, row_log, retry_failed, shared)
    changed = ", ".join(other_code(plan.plugins, scheduler.finished_rows.plugins))
    if changed:
        warnings.warn(
            f"rows here were made by other code of {changed}: raise the version if numbers moved", stacklevel=2
        )
    scheduler.propose()
    return scheduler


def _execute(
    plan: Plan,
    scheduler: Scheduler,
    address: str | None,
    cpus: int | None,
    display: ProgressDisplay,
    require_all_nodes: bool,
) -> None:
    from sweeps.execution.connection import ray_connection
    from sweeps.execution.nodes import cluster_nodes, node_resources

    if ray_connection.starts_own(address):
        here = [node_resources.this_machine(cpus)]
        _naming(plan, lambda: node_resources.check_kinds(here, _resources(plan, gpu=False)))
    about = {"sweep": plan.experiment.name, "storage": plan.storage}
    with ray_connection.connected(address, cpus, about) as dashboard:
        resources = _resources(plan, node_resources.has_gpu())
        _naming(plan, lambda: node_resources.check_resources(resources))
        with cluster_nodes.proven_nodes(plan.context(), resources, require_all_nodes, display.say) as nodes:
            workers = plan.experiment.compute.workers
            count = node_resources.worker_count(resources, nodes.left_out) if workers == "auto" else int(workers)
            scheduler.pack_size = pack_size(plan.experiment.compute.cells_per_pack, count)
            display.started(dashboard, count, ray_connection.token_command())
            scheduler.row_log.fold()
            write_experiment(plan)
            write_truths(plan, scheduler.row_log, nodes, display)
            _run_packs(plan, scheduler, nodes, count, display)


def _run_packs(plan: Plan, scheduler: Scheduler, nodes: ClusterNodes, workers: int, display: ProgressDisplay) -> None:
    from sweeps.execution import remote_tasks, telemetry, tune

    metrics = telemetry.SweepTelemetry(plan.experiment.name, scheduler, display.say)

    def update() -> None:
        display.update()
        metrics.update()

    with interrupts.postponed():
        try:
            with remote_tasks.halved(nodes.told(plan.context()), nodes.selector()) as context:
                tune.run_packs(scheduler, context, nodes, workers, update, say=scheduler.row_log.store.waiting.say)
        finally:
            if not interrupts.is_urgent():
                metrics.update(force=True)
                settle(scheduler)
    check_complete(scheduler)


def check_complete(scheduler: Scheduler) -> None:
    """Raise Unavailable where cells are left that their environment kept from their rows."""
    left = scheduler.unfinished
    if left:
        cells = sum(len(pack.cells) for pack, _ in left)
        pack, why = left[0]
        problem = f"{cells} cells are not finished ({pack}: {why}); the same command goes on with them"
        raise Unavailable(problem)


@contextmanager
def named_environment(storage: str) -> Iterator[None]:
    """Let what a store, a disk, credentials or Ray raise be one line: every row that is durable stays."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_environment(error):
            raise
        goes_on = "what was finished is there, and the same command goes on"
        if is_of_ray(error):
            raise Unavailable(f"Ray failed ({describe_error(error)}); {goes_on}") from error
        raise Unavailable(f"{meaning_of(error)}; {goes_on}", key="storage", value=storage) from error


def settle(scheduler: Scheduler) -> None:
    """Write what is left to write, and fold every part that is there, whoever wrote it."""
    scheduler.trials.flush()
    for table in scheduler.row_log.tables:
        scheduler.row_log.follow(table)
    scheduler.row_log.fold()


def _resources(plan: Plan, gpu: bool) -> dict[str, float]:
    compute = plan.experiment.compute
    gpus = (1.0 if gpu else 0.0) if compute.gpus_per_pack == "auto" else float(compute.gpus_per_pack)
    return {"CPU": float(compute.cpus_per_pack), **({"GPU": gpus} if gpus else {})}


def check_demand(plan: Plan, address: str | None) -> None:
    """Refuse demands that no node of a running cluster, or of this machine, can meet. Raises InputError."""
    from sweeps.execution.connection import ray_connection
    from sweeps.execution.nodes import node_resources

    if ray_connection.starts_own(address):
        _naming(plan, lambda: node_resources.check_kinds([node_resources.this_machine()], _resources(plan, gpu=False)))
        return
    with ray_connection.connected(address):
        _naming(plan, lambda: node_resources.check_resources(_resources(plan, node_resources.has_gpu())))


def _naming(plan: Plan, check: Callable[[], None]) -> None:
    """Run a check; its InputError names the experiment's file."""
    try:
        check()
    except InputError as error:
        error.file = error.file or plan.source
        raise
