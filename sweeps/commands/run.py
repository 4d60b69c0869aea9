"""Running an experiment, and checking one without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import InputError
from sweeps.experiment.schema import as_yaml
from sweeps.hashing import canonical
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.scheduler import Progress, Sweep
from sweeps.search.methods import make_proposer
from sweeps.search.proposer import Listed, Proposer
from sweeps.storage.current_rows import NAME, Current
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import commit, provenance
from sweeps.storage.retry import PATIENCE
from sweeps.storage.row_log import TABLES, Ledger
from sweeps.storage.run_lock import Claim
from sweeps.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.report.progress import ProgressDisplay
from sweeps.commands.truth_rows import _find_truths, _truth_ids, _truths_known
from sweeps.planning.packs import _pack_size


@dataclass(frozen=True)
class Result:
    """What a run left behind: `trials` and `areas` as DataFrames, `progress` of this run, the storage place.

    `finished` is False when it was interrupted: the same call goes on.
    """

    storage: str
    progress: Progress
    notices: list[str]
    finished: bool

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


def run(
    experiment: str | Path | Mapping[str, Any],
    storage: str | None = None,
    address: str | None = None,
    data: str | None = None,
    cache: str | None = None,
    retry_failed: bool = False,
    cpus: int | None = None,
    quiet: bool = True,
    join: bool = False,
) -> Result:
    """Run an experiment to its end, or go on with it; what is finished is never done again.

    `experiment` is a file, a shipped experiment's name or a mapping; `storage` a folder or URL (default: the
    experiment's, else results/<name>); `address` a Ray cluster (None: an own local one unless RAY_ADDRESS is set,
    with `cpus` cores or all); `data` the folder or URL that recording paths are relative to; `join` works beside a run
    of the same experiment. Raises InputError for bad input before anything is written, and where another run is at
    work in the same storage.
    """
    return run_plan(make_plan(experiment, data, storage, cache), address, retry_failed, cpus, quiet, join)


def run_plan(
    plan: Plan,
    address: str | None = None,
    retry_failed: bool = False,
    cpus: int | None = None,
    quiet: bool = True,
    join: bool = False,
) -> Result:
    """Run a checked plan."""
    from sweeps.report.progress import ProgressDisplay

    store = Store(plan.storage, PATIENCE)
    claim = Claim(store, "run", join, (lambda _: None) if quiet else print)
    with ExitStack() as stack:
        stack.enter_context(claim)
        ledger = attempt(lambda: Ledger(store, plan.columns()), plan.storage)
        sweep = _sweep(plan, ledger, retry_failed, lambda: claim.shared)
        display = stack.enter_context(ProgressDisplay(plan, sweep.progress, quiet))
        if sweep.finished and _truths_known(plan, ledger):
            display.say("nothing to fit: every cell is known")
            _settle(sweep, ledger)
            _keep_experiment(plan)
        else:
            _execute(plan, sweep, ledger, address, cpus, display)
    return Result(plan.storage, sweep.progress, sweep.proposer.notices(), sweep.finished)


def _keep_experiment(plan: Plan) -> None:
    """Write the experiment beside its rows, and what tells its rows from those of earlier versions of it."""
    if plan.chosen is not None:
        return
    store = Store(plan.storage, PATIENCE)
    prints = {facts.name: facts.fingerprint for facts in plan.facts}
    split = canonical(plan.experiment.split.model_dump())
    current = Current(split, prints, list(_truth_ids(plan).values()), plan.base, plan.cache)
    attempt(lambda: store.put("experiment.yaml", as_yaml(plan.experiment).encode()), plan.storage)
    attempt(lambda: store.put(NAME, current.as_json()), plan.storage)


def _sweep(plan: Plan, ledger: Ledger, retry_failed: bool, shared: Callable[[], bool] = lambda: False) -> Sweep:
    common = {**provenance(commit(), None), "peak_memory_mb": None}
    proposer: Proposer = make_proposer(plan.space, plan.experiment.search)
    if plan.chosen is not None:
        proposer = Listed(iter(plan.chosen))
    sweep = Sweep(plan.experiment, plan.planner, proposer, ledger, plan.score_keys, common, retry_failed, shared)
    sweep.plan()
    return sweep


def _execute(
    plan: Plan, sweep: Sweep, ledger: Ledger, address: str | None, cpus: int | None, display: ProgressDisplay
) -> None:
    from sweeps.execution import node_resources, ray_connection, remote_tasks, telemetry, tune

    if ray_connection.starts_own(address):
        _naming(
            plan, lambda: node_resources.check_kinds([node_resources.this_machine(cpus)], _resources(plan, gpu=False))
        )
    about = {"sweep": plan.experiment.name, "storage": plan.storage}
    with ray_connection.connected(address, cpus, about) as dashboard:
        resources = _resources(plan, node_resources.has_gpu())
        _naming(plan, lambda: node_resources.check_resources(resources))
        workers = plan.experiment.compute.workers
        count = node_resources.worker_count(resources) if workers == "auto" else int(workers)
        sweep.pack_size = _pack_size(plan.experiment.compute.cells_per_pack, count)
        display.started(dashboard, count, ray_connection.token_command())
        ledger.fold()
        _keep_experiment(plan)
        _find_truths(plan, ledger, resources, display)
        measured = telemetry.SweepMeters(plan.experiment.name, sweep, display.say)

        def update() -> None:
            display.update()
            measured.update()

        try:
            with remote_tasks.halved(plan.context()) as context:
                tune.run_packs(sweep, context, resources, count, update)
        finally:
            measured.update(force=True)
            _settle(sweep, ledger)


def _settle(sweep: Sweep, ledger: Ledger) -> None:
    """Write what is left to write, and fold every part that is there, whoever wrote it."""
    sweep.flush()
    for table in TABLES:
        ledger.follow(table)
    ledger.fold()


def _resources(plan: Plan, gpu: bool) -> dict[str, float]:
    compute = plan.experiment.compute
    gpus = (1.0 if gpu else 0.0) if compute.gpus_per_pack == "auto" else float(compute.gpus_per_pack)
    return {"CPU": float(compute.cpus_per_pack), **({"GPU": gpus} if gpus else {})}


def check(
    experiment: str | Path | Mapping[str, Any],
    storage: str | None = None,
    data: str | None = None,
    cache: str | None = None,
) -> Plan:
    """Check an experiment without running it: reads one stimulus of every recording. Raises InputError."""
    return make_plan(experiment, data, storage, cache)


def check_demand(plan: Plan, address: str | None) -> None:
    """Refuse demands that no node of a running cluster, or of this machine, can meet. Raises InputError."""
    from sweeps.execution import node_resources, ray_connection

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
