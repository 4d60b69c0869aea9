"""What adaptive search costs: the time of an ask by finished trials, and how long workers wait for the next pack.

    OMP_NUM_THREADS=1 python benchmarks/asking.py [--trials N] [--workers W ...] [--known N ...]

Asking: processor milliseconds of one configuration of a mixed space, median of 20, from a study of Optuna that holds
every finished trial, and from ours, which holds a bounded number of them. Waiting: a sweep whose packs run on workers
of a simulated clock, for 10 s a cell in the median (lognormal, sigma 0.5); `batches` proposes 16 configurations and
nothing more until all are finished, `ahead` is what sweeps do. Idle is the share of the workers' time until the last
trial; beside it stands the real time that one call for a pack takes.
"""

from __future__ import annotations

import argparse
import heapq
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from driver import write_recording
from machine import describe_machine

from sweeps.execution.cell_runner import CellRunner
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Space
from sweeps.features.worker_data import WorkerData
from sweeps.planning.packs import Pack, jobs_of
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.proposals import Proposals
from sweeps.planning.scheduler import Scheduler
from sweeps.search.methods import make_proposer
from sweeps.search.optuna_search import OptunaSearch
from sweeps.search.proposer import Proposer
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

AREAS = ("V1", "V2", "V4", "IT")
OBJECTIVE = "select.prediction"
REPEATS = 20
SECONDS, SPREAD, PACKS_PER_WORKER = 10.0, 0.5, 6


def mixed_space() -> Space:
    """Depths of four areas, two readouts with ranges, three seeds."""
    penalty = {"low": 1e-4, "high": 1.0, "log": True}
    readouts = [
        {"ridge": {"alpha": {"low": 0.01, "high": 100.0, "log": True}, "pool": [4, 7]}},
        {"gaussian": {"loss": ["poisson", "gaussian"], "l1": penalty}},
    ]
    depth = dict.fromkeys(AREAS, "all")
    return read_space(
        {"backbone": "efficientnet-lite0", "depth": depth, "readout": readouts, "seed": [0, 1, 2]}, list(AREAS)
    )


class Unbounded(OptunaSearch):
    """The same search with all that is known in its study."""

    def __init__(self, space: Space, search: Search) -> None:
        super().__init__(space, search)
        self.history.most = 10**9


def ask_times(kind: type[OptunaSearch], method: str, known: int) -> float:
    """Milliseconds of an ask with so many finished trials."""
    space, random = mixed_space(), np.random.default_rng(0)
    search = Search.model_validate({"method": method, "trials": 10**6, "objectives": [OBJECTIVE]})
    found = kind(space, search)
    for _ in range(known):
        found.adopt(space.sample(random), {OBJECTIVE: random.random()})
    found.propose(1)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        [asked] = found.propose(1)
        times.append(time.process_time() - start)
        found.tell(asked, {OBJECTIVE: random.random()})
    return 1000 * statistics.median(times)


class WholeBatches(Proposals):
    """Asks for a whole batch at a time."""

    def _portion(self, running: int) -> int:
        return self.proposer.batch


class InBatches(Scheduler):
    """Proposes a batch and nothing more until all its trials are finished."""

    def __init__(self, plan: Plan, proposer: Proposer, row_log: RowLog) -> None:
        super().__init__(plan, proposer, row_log)
        self.proposals = WholeBatches(proposer, self.planner, self.trials, plan.experiment.search.trials)

    def propose(self) -> None:
        """Propose a batch when nothing is open."""
        while not (self.queue or self.unpacked or self.proposals.exhausted or self.trials.open):
            self._propose()


def simulate(kind: type[Scheduler], plan: Plan, workers: int) -> tuple[float, float]:
    """Idle share of the workers, and the longest time in ms that a call for a pack took."""
    store = Store(plan.storage)
    proposer = make_proposer(plan.space, plan.experiment.search)
    sweep = kind(plan, proposer, RowLog(store, plan.columns()))
    if kind is InBatches:
        sweep.pack_size = lambda cells: math.ceil(len(sweep.unpacked) / (PACKS_PER_WORKER * workers))
    runner, now, worked, longest = CellRunner(WorkerData(plan.context())), 0.0, 0.0, 0.0
    busy: list[tuple[float, str, Pack]] = []
    while True:
        while len(busy) < workers:
            start = time.perf_counter()
            found = sweep.next_pack()
            longest = max(longest, time.perf_counter() - start)
            if found is None:
                break
            takes = sum(duration(cell.cell_id) for cell in found[1].cells)
            worked += takes
            heapq.heappush(busy, (now + takes, *found))
        if not busy:
            break
        now, token, pack = heapq.heappop(busy)
        steps = runner.rows(jobs_of(pack.cells), pack.attempt, pack.earlier)
        rows = [row for rows_of_job, _ in steps for row in rows_of_job]
        sweep.absorb(store.write_part("cells", rows))
        sweep.done(token)
    assert sweep.progress.done == plan.experiment.search.trials, sweep.progress
    return 1 - worked / (workers * now), 1000 * longest


def duration(cell_id: str) -> float:
    """Simulated seconds of a cell: the same for the same cell."""
    return float(np.random.default_rng(int(cell_id, 16)).lognormal(math.log(SECONDS), SPREAD))


def experiment(method: str, trials: int) -> dict[str, Any]:
    """A ridge of two features with its own alpha for every trial."""
    return {
        "name": "asking",
        "recordings": [{"format": "folder", "path": "data"}],
        "probes": {},
        "space": {
            "backbone": {"features": {"set": "pair"}},
            "readout": {"ridge": {"alpha": {"low": 0.001, "high": 1000.0, "log": True}}},
        },
        "search": {"method": method, "trials": trials},
        "scores": ["prediction"],
    }


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--known", type=int, nargs="+", default=[100, 1000, 10000])
    given = parser.parse_args()
    print(describe_machine())
    print("method | finished trials | ms an ask, all of them | ms an ask, ours")
    for method in ("tpe", "nsga2"):
        for known in given.known:
            times = [ask_times(kind, method, known) for kind in (Unbounded, OptunaSearch)]
            print(f"{method} | {known} | {times[0]:.1f} | {times[1]:.1f}", flush=True)
    print("method | workers | idle in batches | idle ahead | ms a call at most, in batches | ahead")
    for method in ("tpe", "nsga2"):
        for workers in given.workers:
            found = []
            for kind in (InBatches, Scheduler):
                with tempfile.TemporaryDirectory() as held:
                    write_recording(Path(held) / "data", "own")
                    places = {"storage": str(Path(held) / "rows"), "data": held, "cache": str(Path(held) / "cache")}
                    found.append(simulate(kind, make_plan(experiment(method, given.trials), **places), workers))
            (idle, call), (idle_ahead, call_ahead) = found
            print(f"{method} | {workers} | {idle:.1%} | {idle_ahead:.1%} | {call:.0f} | {call_ahead:.0f}", flush=True)


if __name__ == "__main__":
    main()
