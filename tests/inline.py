"""Runs a sweep in this process, without Ray: what packs do, and nothing else."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.commands.run import scheduler_of, settle
from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.planning.failures import ProcessFailure
from sweeps.planning.packs import Pack, jobs_of
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.scheduler import Scheduler
from sweeps.report.planned import note_contrasts
from sweeps.storage.load import load
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store


def plan_of(experiment: Mapping[str, Any], folder: Path, data: str | None = None) -> Plan:
    """A checked plan whose storage and cache lie in `folder`."""
    return make_plan(experiment, data=data, storage=str(folder / "results"), cache=str(folder / "cache"))


def run_inline(
    plan: Plan, pack_size: int = 8, before: Callable[[Pack], None] | None = None, retry_failed: bool = False
) -> Scheduler:
    """Run a plan to its end; an exception from `before` stands for the failure of a pack's process."""
    row_log = RowLog(Store(plan.storage), plan.columns())
    note_contrasts(plan, row_log)
    sweep = scheduler_of(plan, row_log, retry_failed)
    sweep.pack_size = lambda cells: pack_size
    runner = CellRunner(WorkerData(plan.context()))
    store = Store(plan.storage)
    while (found := sweep.next_pack()) is not None:
        token, pack = found
        try:
            for job in jobs_of(pack.cells):
                if before is not None:
                    before(Pack(tuple(job), pack.attempt))
                for rows, replicates in runner.rows([job], pack.attempt, pack.earlier):
                    for table, beside in (("bootstraps", replicates), ("folds", runner.take_folds())):
                        if beside:
                            store.write_part(table, beside)
                    sweep.absorb(store.write_part("cells", rows))
            sweep.done(token)
        except ProcessDied as error:
            sweep.failed(token, str(error), ProcessFailure.NODE if error.node else ProcessFailure.PROCESS)
    settle(sweep)
    return sweep


def run_simulated(plan: Plan, workers: int, seconds: Callable[[Pack], float]) -> tuple[Scheduler, list[int]]:
    """Run a plan with several workers on a simulated clock: a pack takes so many `seconds`, asking takes none.

    Beside the sweep, for every time that a worker got no pack although more was to be proposed: how many trials
    had been proposed by then.
    """
    store = Store(plan.storage)
    sweep = scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), False)
    runner = CellRunner(WorkerData(plan.context()))
    now, in_vain = 0.0, []
    busy: list[tuple[float, str, Pack]] = []
    while True:
        while len(busy) < workers and (found := sweep.next_pack()) is not None:
            heapq.heappush(busy, (now + seconds(found[1]), *found))
        in_vain += [sweep.progress.trials] * (workers - len(busy)) * (not sweep.proposals.exhausted)
        if not busy:
            break
        now, token, pack = heapq.heappop(busy)
        rows = [row for found, _ in runner.rows(jobs_of(pack.cells), pack.attempt, pack.earlier) for row in found]
        sweep.absorb(store.write_part("cells", rows))
        sweep.done(token)
    settle(sweep)
    return sweep, in_vain


class ProcessDied(Exception):
    """Stands for the failure of a pack's process, or of its node."""

    def __init__(self, text: str = "the process died", node: bool = False) -> None:
        super().__init__(text)
        self.node = node


def trials_of(plan: Plan) -> pd.DataFrame:
    """The trials of a plan, by id."""
    return load(plan.storage).set_index("trial_id").sort_index()
