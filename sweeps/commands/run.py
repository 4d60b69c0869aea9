"""Running an experiment, and checking one without running it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.readouts import READOUTS
from sweeps.claim import Claim
from sweeps.errors import InputError
from sweeps.experiment import as_yaml
from sweeps.identity import canonical, content_id
from sweeps.ledger import TABLES, Ledger
from sweeps.objects import attempt
from sweeps.patience import PATIENCE
from sweeps.plan import Plan, commit, make_plan
from sweeps.provenance import provenance
from sweeps.report.current import NAME, Current
from sweeps.schedule import Progress, Sweep
from sweeps.search import Listed, Proposer, make_proposer
from sweeps.storage import Store
from sweeps.truth import kept_truths

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.report.progress import Display

SHARE, FEWEST = 3, 2
"""A pack takes a third of a worker's share of the cells left, but two as long as every worker finds some."""

MOST_CELLS = 256


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
        from sweeps.results import load

        return load(self.storage)

    @property
    def areas(self) -> pd.DataFrame:
        """One row per (trial, recording, area)."""
        from sweeps.results import load

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
    from sweeps.report.progress import Display

    store = Store(plan.storage, PATIENCE)
    claim = Claim(store, "run", join, (lambda _: None) if quiet else print)
    with ExitStack() as stack:
        stack.enter_context(claim)
        ledger = attempt(lambda: Ledger(store, plan.columns()), plan.storage)
        sweep = _sweep(plan, ledger, retry_failed, lambda: claim.shared)
        display = stack.enter_context(Display(plan, sweep.progress, quiet))
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


def _execute(plan: Plan, sweep: Sweep, ledger: Ledger, address: str | None, cpus: int | None, display: Display) -> None:
    from sweeps import cluster, meters, tune

    if cluster.starts_own(address):
        _naming(plan, lambda: cluster.check_kinds([cluster.this_machine(cpus)], _resources(plan, gpu=False)))
    about = {"sweep": plan.experiment.name, "storage": plan.storage}
    with cluster.connected(address, cpus, about) as dashboard:
        resources = _resources(plan, cluster.has_gpu())
        _naming(plan, lambda: cluster.check_resources(resources))
        workers = plan.experiment.compute.workers
        count = cluster.worker_count(resources) if workers == "auto" else int(workers)
        sweep.pack_size = _pack_size(plan.experiment.compute.cells_per_pack, count)
        display.started(dashboard, count, cluster.token_command())
        ledger.fold()
        _keep_experiment(plan)
        _find_truths(plan, ledger, resources, display)
        measured = meters.SweepMeters(plan.experiment.name, sweep, display.say)

        def update() -> None:
            display.update()
            measured.update()

        try:
            with cluster.halved(plan.context()) as context:
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


def _pack_size(wanted: int | str, workers: int) -> Callable[[int], int]:
    """Cells of the next pack, by how many are left.

    Packs of one size leave workers idle at the end for as long as a pack takes; here the last ones are small (guided
    self-scheduling, Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987, with a third of a share).
    """
    if wanted != "auto":
        return lambda left: max(1, int(wanted))

    def size(left: int) -> int:
        third, whole = math.ceil(left / (SHARE * workers)), math.ceil(left / workers)
        return min(MOST_CELLS, max(third, min(FEWEST, whole)))

    return size


def fewest_packs(cells: int) -> int:
    """Packs that so many cells are put in for one worker; more workers have more and smaller ones."""
    size, packs = _pack_size("auto", 1), 0
    while cells > 0:
        cells -= size(cells)
        packs += 1
    return packs


def _truth_ids(plan: Plan) -> dict[tuple[str, str], str]:
    """Identity of every simulated area's truth: the data, the split, and what computes it."""
    split = plan.experiment.split.model_dump()
    return {
        (facts.name, area): content_id([facts.fingerprint, area, split, READOUTS["ridge"].version])
        for facts in plan.facts
        for area in facts.truth
    }


def _truths_known(plan: Plan, ledger: Ledger) -> bool:
    held = {row["truth_id"] for row in ledger.rows("truths")}
    return set(_truth_ids(plan).values()) <= held


def _find_truths(plan: Plan, ledger: Ledger, resources: Mapping[str, float], display: Display) -> None:
    """Say, before the sweep, which depths of a simulated recording cannot be told apart."""
    from sweeps import cluster

    if not any("teacher" in facts.notes for facts in plan.facts):
        return
    if not _truths_known(plan, ledger) or not _truth_ids(plan):
        found = kept_truths(plan.context())
        if found is None:
            display.say("making the simulated recording, and the depths that cannot be told apart in it")
            found = cluster.find_truths(plan.context(), resources)
        ids = _truth_ids(plan)
        rows = [
            {
                **asdict(each),
                "truth_id": ids[each.recording, each.area],
                "teacher": json.dumps(each.teacher),
                "alike": list(each.alike),
                "correlations": list(each.correlations),
            }
            for each in found
        ]
        ledger.write("truths", rows)
    ledger.fold()
    held = {row["truth_id"]: row for row in ledger.rows("truths")}
    display.truths([held[truth_id] for truth_id in _truth_ids(plan).values()])


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
    from sweeps import cluster

    if cluster.starts_own(address):
        _naming(plan, lambda: cluster.check_kinds([cluster.this_machine()], _resources(plan, gpu=False)))
        return
    with cluster.connected(address):
        _naming(plan, lambda: cluster.check_resources(_resources(plan, cluster.has_gpu())))


def _naming(plan: Plan, check: Callable[[], None]) -> None:
    """Run a check; its InputError names the experiment's file."""
    try:
        check()
    except InputError as error:
        error.file = error.file or plan.source
        raise
