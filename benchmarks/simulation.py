"""A simulation of the scheduler, checked against `scaling.py`, and what it says of 1,000 GPUs and 10^6 trials.

    python benchmarks/simulation.py [--cells 72] [--measure 1 2 4 8 16 32 64] [--file FOUND.json]

One driver serves one event at a time: the end of a step (its rows), the end of a pack, an actor that took the next
one. Workers run a pack's cells, report as packs do, and wait for the driver where a step or a pack ends. Everything
that the driver or a worker computes takes one of `cores` for its time (none are shared on a cluster). Costs come from
the runs of `scaling.py` with at most two workers; those with more are what the simulation is checked against. What
grows with a sweep is measured here besides: Tune waits for a future of every worker, and a fold writes all rows.
`--file` keeps the measured runs, or takes them from there if it exists.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from machine import describe_machine
from scaling import measured

from sweeps.execution.report_times import REPORT_SECONDS, report_seconds
from sweeps.planning.packs import pack_size
from sweeps.search.proposer import ALL_AT_ONCE
from sweeps.storage.columns import as_table
from sweeps.storage.parquet import fold, to_bytes
from sweeps.storage.row_log import FOLD_PAUSE, FOLD_SECONDS

CALIBRATION = 2
"""Runs with so many workers or fewer give the costs, the others check them."""


@dataclass(frozen=True)
class Costs:
    """Seconds. Driver: `loop` an event, `wait` more for every worker there is, `step`, `row` and `pack` more each,
    `fold` a row that is folded. Worker: `burst` of its processor where a step ends. `message` from driver to worker or
    back, `put` and `get` a request to the object store; `cores` that all of them share, 0: each has its own.
    """

    loop: float
    step: float
    row: float
    pack: float
    burst: float
    message: float
    wait: float = 0.0
    fold: float = 0.0
    put: float = 0.0
    get: float = 0.0
    cores: int = 0


@dataclass
class Run:
    """What came of a simulated sweep: efficiencies as `scaling.py` has them, the driver's load, counts."""

    whole: float
    steady: float
    load: float
    wall: float
    steps: int
    packs: int
    wait: float
    """Mean seconds that a worker waits where a step ends."""


@dataclass
class Simulation:
    """Events in time; see `simulate`."""

    times: np.ndarray
    workers: int
    size: Callable[[int], int]
    costs: Costs
    report: float = REPORT_SECONDS
    events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = itertools.count()
        self.next_cell = 0
        self.held: list[deque[float]] = [deque() for _ in range(self.workers)]
        self.spans: list[list[tuple[float, float]]] = [[] for _ in range(self.workers)]
        self.inbox: deque[tuple[str, int, int]] = deque()
        self.busy = False
        self.cores = [0.0] * self.costs.cores
        self.served = self.waited = 0.0
        self.steps = self.packs = self.rows = 0
        self.fold_at = FOLD_SECONDS

    def run(self) -> Run:
        """Until nothing happens any more."""
        for worker in range(self.workers):
            self.held[worker].extend(self._take())
            self.at(0.0, self.begin_step, worker)
        while self.events:
            now, _, action, given = heapq.heappop(self.events)
            action(now, *given)
        return self._found()

    def at(self, when: float, action: Callable[..., None], *given: Any) -> None:
        """Let something happen."""
        heapq.heappush(self.events, (when, next(self.order), action, given))

    def compute(self, now: float, seconds: float) -> float:
        """When so much processor time from now on is over."""
        if not self.cores:
            return now + seconds
        end = max(self.cores[0], now) + seconds
        heapq.heapreplace(self.cores, end)
        return end

    def _take(self) -> Sequence[float]:
        left = len(self.times) - self.next_cell
        if not left:
            return ()
        begin, self.next_cell = self.next_cell, self.next_cell + min(left, self.size(left))
        self.packs += 1
        return self.times[begin : self.next_cell].tolist()

    # -- workers ------------------------------------------------------------------------------------

    def begin_step(self, now: float, worker: int) -> None:
        """Cells until it is time to report; then their part is written and the driver told."""
        end, count = now, 0
        while self.held[worker] and end - now <= self.report:
            end += self.held[worker].popleft()
            count += 1
        self.spans[worker].append((now, end))
        self.at(end, self.end_step, worker, count)

    def end_step(self, now: float, worker: int, rows: int) -> None:
        """Write the part, tell the driver."""
        told = self.compute(now, self.costs.burst) + self.costs.put + self.costs.message
        self.at(told, self.ask, "step", worker, rows)

    # -- the driver ---------------------------------------------------------------------------------

    def ask(self, now: float, what: str, worker: int, rows: int = 0) -> None:
        """Put an event in the driver's inbox."""
        self.inbox.append((what, worker, rows))
        self.serve(now)

    def serve(self, now: float) -> None:
        """Take up the next event, if the driver is free."""
        if self.busy or not self.inbox:
            return
        self.busy = True
        what, worker, rows = self.inbox.popleft()
        seconds = self.costs.loop + self.costs.wait * self.workers
        if what == "step":
            seconds += self.costs.step + self.costs.row * rows
            self.steps += 1
            self.rows += rows
            if now >= self.fold_at:
                taken = self.costs.fold * self.rows
                seconds += taken
                self.fold_at = now + max(FOLD_SECONDS, FOLD_PAUSE * taken)
        elif what == "pack":
            seconds += self.costs.pack
        waits = self.costs.get if what == "step" else 0.0
        self.served += seconds + waits
        end = self.compute(now, seconds) + waits
        self.at(end, self.served_event, what, worker)

    def served_event(self, now: float, what: str, worker: int) -> None:
        """The driver is free; what it did reaches the worker, or leads to its next loop."""
        self.busy = False
        if what == "step" and not self.held[worker]:
            self.held[worker].extend(self._take())
            if self.held[worker]:
                self.inbox.append(("pack", worker, 0))
        elif what == "pack":  # the actor takes the pack, and says so
            self.at(now + 2 * self.costs.message, self.ask, "taken", worker)
        else:
            self.at(now + self.costs.message, self.begin_step, worker)
        self.serve(now)

    def _found(self) -> Run:
        spans = np.array([span for held in self.spans for span in held])
        begin, end = max(held[0][0] for held in self.spans), min(held[-1][1] for held in self.spans)
        inside = (spans.clip(begin, end) @ [-1, 1]).sum()
        wall = spans[:, 1].max()
        gaps = [after[0] - before[1] for held in self.spans for before, after in itertools.pairwise(held)]
        return Run(
            whole=self.times.sum() / (self.workers * wall),
            steady=inside / (self.workers * (end - begin)),
            load=self.served / wall,
            wall=wall,
            steps=self.steps,
            packs=self.packs,
            wait=float(np.mean(gaps)),
        )


def simulate(times: np.ndarray, workers: int, size: Callable[[int], int], costs: Costs, report: float) -> Run:
    """A sweep of cells that take `times` seconds in packs of `size`, which report every `report` seconds."""
    return Simulation(times, workers, size, costs, report).run()


def costs_of(runs: Sequence[dict[str, float]], cores: int) -> Costs:
    """Costs from measured runs: the driver's by least squares there, a message from what else a step's end takes."""
    mean = {
        name: max(0.0, float(np.mean([run[name] for run in runs]))) for name in ("loop", "step", "row", "pack", "burst")
    }
    rows = np.mean([run["cells"] / run["steps"] for run in runs])
    gap = np.mean([run["between steps"] for run in runs])
    message = (gap - mean["burst"] - mean["loop"] - mean["step"] - rows * mean["row"]) / 2
    return Costs(**mean, message=max(0.0, float(message)), cores=cores)


def wait_costs(counts: Sequence[int] = (16, 64, 256, 1000, 4000)) -> tuple[float, float]:
    """Processor seconds of one shuffled `ray.wait` over so many futures: of none, and more for each (least squares)."""
    ray.init(address="local", num_cpus=1, log_to_driver=False, include_dashboard=False)
    never = ray.remote(lambda: None).options(resources={"none has this": 1})
    pending, found = [], []
    try:
        for count in counts:
            pending += [never.remote() for _ in range(count - len(pending))]
            ready = ray.put(0)
            before = time.thread_time()
            for _ in range(20):
                futures = [*pending, ready]
                np.random.default_rng(0).shuffle(order := np.arange(len(futures)))
                ray.wait([futures[place] for place in order], num_returns=1, timeout=0.1)
            found.append((time.thread_time() - before) / 20)
    finally:
        ray.shutdown()
    slope, none = np.polyfit(counts, found, 1)
    return float(none), float(slope)


def fold_cost(rows: int = 100_000) -> tuple[float, float]:
    """Seconds and bytes a row of folding cells: sorting, typing and writing all that there are."""
    numbers = np.random.default_rng(0).random(rows)
    table = as_table("cells", [a_row(f"{index:064x}", value) for index, value in enumerate(numbers)])
    began = time.perf_counter()
    content = to_bytes(fold("cells", [table]))
    return (time.perf_counter() - began) / rows, len(content) / rows


def a_row(cell_id: str, value: float) -> dict[str, Any]:
    """A row of the cells table as wide as that of one ridge cell with one score."""
    texts = ("status", "recording", "area", "blocks", "config", "score_keys", "split", "components", "host", "versions")
    scores = {f"{split}.prediction": value for split in ("select", "score")}
    return {"cell_id": cell_id, "depth": 3, "seconds": value, "alpha": value} | dict.fromkeys(texts, "x" * 40) | scores


def check(runs: Sequence[dict[str, float]], costs: Costs, sleep: tuple[float, float]) -> None:
    """Simulated beside measured."""
    print("workers | whole: measured | simulated | apart | steady: measured | simulated | apart | driver's load: both")
    for run in runs:
        gave = " (gave the costs)" if run["workers"] <= CALIBRATION else ""
        workers, cells = int(run["workers"]), int(run["cells"])
        times = np.random.default_rng(0).uniform(*sleep, cells)
        found = simulate(times, workers, by_batches(pack_size("auto", workers)), costs, REPORT_SECONDS)
        print(
            f"{workers}{gave} | {run['whole']:.3f} | {found.whole:.3f} | "
            f"{found.whole - run['whole']:+.3f} | {run['steady']:.3f} | {found.steady:.3f} | "
            f"{found.steady - run['steady']:+.3f} | {run['load']:.2f}, {found.load:.2f}"
        )


CELLS = 1_000_000
PLANS: list[tuple[int, float, int | str, float | str, int]] = [
    (250, 4.0, 32, 2.0, 1),
    (1000, 4.0, 32, 2.0, 1),
    (1000, 4.0, 32, "auto", 1),
    (4000, 4.0, 32, 2.0, 1),
    (4000, 4.0, 32, "auto", 1),
    (4000, 4.0, "auto", "auto", 4),
    (4000, 4.0, 32, "auto", 4),
    (4000, 60.0, 8, 2.0, 1),
    (4000, 60.0, 8, "auto", 1),
    (4000, 60.0, 8, "auto", 4),
]
"""Workers, seconds a cell, cells_per_pack, seconds between reports (auto: as packs do), drivers."""


def plans(costs: Costs) -> None:
    """10^6 cells on many workers, each with a core of its own; several drivers have a part of them each."""
    print(f"10^6 cells; {1000 * costs.put:.0f} ms for a PUT or a GET, of which the driver waits for its GETs")
    print(
        "workers | s a cell | cells_per_pack | report s | drivers | whole | a driver's load | steps/s | packs | hours"
    )
    for workers, seconds, pack, wanted, drivers in PLANS:
        own = workers // drivers
        report = settled(own, costs, seconds) if wanted == "auto" else float(wanted)
        times = np.random.default_rng(0).gamma(16.0, seconds / 16.0, CELLS // drivers)
        found = simulate(times, own, by_batches(pack_size(pack, own)), costs, report)
        print(
            f"{workers} | {seconds:g} | {pack} | {report:.0f} | {drivers} | {found.whole:.3f} | {found.load:.2f} | "
            f"{drivers * found.steps / found.wall:.0f} | {drivers * found.packs} | {found.wall / 3600:.2f}",
            flush=True,
        )


def settled(workers: int, costs: Costs, seconds: float) -> float:
    """Where the time between reports and what a report takes come to rest."""
    report = REPORT_SECONDS
    for _ in range(20):
        report = report_seconds(workers, costs.get + costs.step + costs.row * max(1.0, report / seconds))
    return report


def by_batches(size: Callable[[int], int]) -> Callable[[int], int]:
    """Packs are formed of so many cells at a time as configurations are proposed."""
    return lambda left: size((left - 1) % ALL_AT_ONCE + 1)


def main() -> None:
    """Measure, or read what was measured; check; plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="*", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--cells", type=int, default=72, help="cells for every worker")
    parser.add_argument("--low", type=float, default=0.25)
    parser.add_argument("--high", type=float, default=1.0)
    parser.add_argument("--file", type=Path, default=None)
    given = parser.parse_args()
    print(describe_machine())
    if given.file and given.file.exists():
        runs = json.loads(given.file.read_text())
    else:
        runs = [measured(workers, given.cells, (given.low, given.high)) for workers in given.measure]
        if given.file:
            given.file.write_text(json.dumps(runs))
    few = [run for run in runs if run["workers"] <= CALIBRATION]
    none, each = wait_costs()
    costs = replace(costs_of(few, os.cpu_count() or 1), wait=each)
    print(
        "milliseconds:",
        ", ".join(f"{name} {1000 * value:.2f}" for name, value in asdict(costs).items() if name != "cores"),
    )
    check(runs, costs, (given.low, given.high))
    seconds, size = fold_cost()
    print(f"a fold: {1e6 * seconds:.1f} us and {size:.0f} bytes a row")
    print(f"ray.wait: {1000 * none:.2f} ms, {1e6 * each:.2f} us more for every future")
    plans(replace(costs, cores=0, fold=seconds, put=0.05, get=0.05))


if __name__ == "__main__":
    main()
