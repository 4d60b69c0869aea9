"""Scaling efficiency of the whole scheduling path, with packs that sleep and with real ones.

    python benchmarks/scaling.py [--cells 72] [--low 0.25] [--high 1.0] [--real] [WORKERS ...]

Every cell sleeps a time of its own, uniform between `low` and `high` seconds, in a worker process without torch, and
leaves a real row; Tune, the searcher, the row log and the parts on disk are those of any sweep. So many logical CPUs
as workers are told to Ray. The workers wait for each other before their first cell: 64 processes that start on two
cores are not what is measured, and their start is printed beside. With S seconds slept in all by W workers,

    whole  = S / (W x T), T from the begin of the first cell to the end of the last: the tail included;
    steady = the same of what lies between the begin of the last worker's first cell and the first worker's last end.

`--real` fits ridges instead, up to as many workers as there are cores; S is then the time in cells, and the last
column is what tells: cells a second of a worker against one alone. The columns between are processor seconds of the
driver's thread for each second of wall time (1 is the most that one driver can do), for each loop of Tune and what
steps, rows and packs add (least squares); a process's processor time where a step ends; gaps between two cells of a
worker; and the largest worker.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from driver import experiment, write_recording
from machine import describe_machine

import sweeps
from sweeps.commands.run import scheduler_of, settle
from sweeps.execution.connection.ray_connection import connected
from sweeps.execution.nodes.cluster_nodes import ClusterNodes
from sweeps.execution.part_writer import PartWriter
from sweeps.execution.tune import SweepPack, run_packs
from sweeps.experiment.cells import Cell
from sweeps.experiment.worker_context import WorkerContext
from sweeps.planning.packs import Pack, pack_size
from sweeps.planning.plan import Plan, make_plan
from sweeps.scores import cell_columns
from sweeps.storage.columns import Outcome, cell_row
from sweeps.storage.provenance import provenance
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

GATE_SECONDS = 1200.0
"""A worker waits for the others no longer than this."""


def sleep_of(cell_id: str, low: float, high: float) -> float:
    """Seconds that a cell sleeps: uniform, by its identity."""
    return low + (high - low) * int(cell_id[:8], 16) / 16**8


class SleepingRunner:
    """Stands where a worker fits and scores: sleeps, and makes the row that a fit would make."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.worker = SimpleNamespace(recording=lambda name: None)
        self.times = json.loads((Path(context.cache) / "times.json").read_text())

    def rows(
        self, jobs: Sequence[Sequence[Cell]], attempt: int, earlier: Mapping[str, Any]
    ) -> Iterator[tuple[list[Any], list[Any]]]:
        """A row of each cell when it has slept."""
        for (cell,) in jobs:
            yield [self._row(cell, attempt)], []

    def take_folds(self) -> list[dict[str, Any]]:
        """None: nothing was predicted."""
        return []

    def _row(self, cell: Cell, attempt: int) -> dict[str, Any]:
        """One row; `device` is the process, `alpha` its processor time until now, before it sleeps."""
        before = time.process_time()
        seconds = sleep_of(cell.cell_id, *self.times["sleep"])
        time.sleep(seconds)
        keys = [self.context.score_keys[name] for name in self.context.scores]
        outcome = Outcome("done", None, attempt, self.context.splits[cell.recording], keys)
        prints = {"data_fingerprint": self.context.fingerprints[cell.recording]}
        origin = {**prints, "seconds": seconds, **provenance(self.context.commit, str(os.getpid()))}
        scores = dict.fromkeys(cell_columns(self.context.scores), 0.5)
        return cell_row(cell, outcome, origin, {"alpha": before, **scores})


class SleepingPack(SweepPack):
    """A pack whose cells sleep; all else is a pack's own."""

    def _open(self, context: WorkerContext) -> None:
        self._runner = SleepingRunner(context)
        self._writer = PartWriter(context.storage)
        wait_for_others(Path(context.cache))


class RealPack(SweepPack):
    """A pack as it is, whose rows name the process in `device`."""

    def _open(self, context: WorkerContext) -> None:
        super()._open(context)
        self._runner = Named(self._runner)
        wait_for_others(Path(context.cache))


class Named:
    """A runner whose rows name the process."""

    def __init__(self, runner: Any) -> None:
        self.runner, self.worker = runner, runner.worker

    def rows(self, *given: Any) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
        """The runner's own rows."""
        for rows, replicates in self.runner.rows(*given):
            yield [row | {"device": str(os.getpid())} for row in rows], replicates

    def take_folds(self) -> list[dict[str, Any]]:
        """The runner's own."""
        folds: list[dict[str, Any]] = self.runner.take_folds()
        return folds


def wait_for_others(home: Path) -> None:
    """Until all workers of the run have come here."""
    (home / "gate" / str(os.getpid())).touch()
    workers = json.loads((home / "times.json").read_text())["workers"]
    until = time.monotonic() + GATE_SECONDS
    while len(os.listdir(home / "gate")) < workers and time.monotonic() < until:
        time.sleep(0.1)


class Meter:
    """Processor seconds of the driver's thread in every loop of Tune, and what happened in it."""

    def __init__(self, sweep: Any) -> None:
        self.loops: list[tuple[float, float, int, int, int]] = []
        self.steps: dict[str, str] = {}
        self.packs: dict[str, str] = {}
        self.counts = [0, 0, 0]
        self.record, self.next_pack = sweep.row_log.absorb, sweep.next_pack
        sweep.row_log.absorb, sweep.next_pack = self._absorb, self._next_pack
        self.last = time.thread_time()

    def _absorb(self, table: str, part: str) -> list[dict[str, Any]]:
        rows = self.record(table, part)
        self.steps |= dict.fromkeys((row["cell_id"] for row in rows), part)
        self.counts[0] += 1
        self.counts[1] += len(rows)
        return rows

    def _next_pack(self) -> tuple[str, Pack] | None:
        found = self.next_pack()
        if found is not None:
            self.packs |= dict.fromkeys((cell.cell_id for cell in found[1].cells), found[0])
            self.counts[2] += 1
        return found

    def update(self) -> None:
        """One loop is over."""
        now = time.thread_time()
        self.loops.append((time.time(), now - self.last, *self.counts))
        self.counts = [0, 0, 0]
        self.last = now

    def found(self, begin: float, end: float) -> dict[str, float]:
        """Load between two times, and least squares: seconds a loop, more for a step, for a row of it, for a pack."""
        held = np.array([loop for loop in self.loops if begin <= loop[0] <= end])
        design = np.column_stack([np.ones(len(held)), held[:, 2:]])
        costs = np.linalg.lstsq(design, held[:, 1], rcond=None)[0]
        named = zip(("loop", "step", "row", "pack"), costs.tolist(), strict=True)
        return {"load": held[:, 1].sum() / (end - begin), **dict(named)}


def sleeping_plan(home: Path, cells: int) -> Plan:
    """So many trials of one cell each."""
    write_recording(home / "data", "own")
    return make_plan(experiment("own", cells), data=str(home), storage=str(home / "rows"), cache=str(home / "cache"))


def real_plan(home: Path, cells: int) -> Plan:
    """So many ridges of 1,000 features on 1,200 stimuli and 100 units, each of a split of its own."""
    random = np.random.default_rng(0)
    (home / "data").mkdir()
    features = random.standard_normal((1200, 1000))
    noisy = features[:, :100, None] + random.standard_normal((1200, 100, 2))
    np.savez(home / "data" / "features.npz", pair=features)
    np.save(home / "data" / "responses.npy", noisy.astype(np.float32))
    (home / "data" / "stimuli.csv").write_text(
        "file,group\n" + "".join(f"{each},{each // 2}\n" for each in range(1200))
    )
    (home / "data" / "units.csv").write_text("unit,area\n" + "".join(f"{unit},A\n" for unit in range(100)))
    wanted = experiment("own", 1)
    wanted["space"] = {"backbone": {"features": {"set": "pair"}}, "readout": "ridge", "seed": list(range(cells))}
    return make_plan(wanted, data=str(home), storage=str(home / "rows"), cache=str(home / "cache"))


def run_one(workers: int, cells: int, sleep: tuple[float, float] | None) -> dict[str, float]:
    """One sweep, of sleeping packs or (`sleep` None) real ones, with this process as its driver."""
    with tempfile.TemporaryDirectory() as held:
        (Path(held) / "cache" / "gate").mkdir(parents=True)
        (Path(held) / "cache" / "times.json").write_text(json.dumps({"workers": workers, "sleep": sleep}))
        plan = sleeping_plan(Path(held), cells) if sleep else real_plan(Path(held), cells)
        sweep = scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), retry_failed=False)
        sweep.pack_size = pack_size("auto", workers)
        meter = Meter(sweep)
        with connected(None, workers):
            asked = time.time()
            pack = SleepingPack if sleep else RealPack
            run_packs(sweep, plan.context(), ClusterNodes({"CPU": 1.0}), workers, meter.update, pack)
        settle(sweep)
        assert (sweep.progress.done, sweep.finished) == (cells, True), sweep.progress
        rows = sweeps.load(plan.storage, "cells")
    rows["step"], rows["pack"] = rows["cell_id"].map(meter.steps), rows["cell_id"].map(meter.packs)
    rows["end"] = rows["finished"].map(pd.Timestamp.timestamp)
    rows["begin"] = rows["end"] - rows["seconds"]
    found = efficiency(rows)
    return {
        "workers": workers,
        "cells": cells,
        "start": rows["begin"].min() - asked,
        **found,
        **meter.found(found["from"], found["until"]),
        **gaps(rows),
        "memory": rows["peak_memory_mb"].max(),
    }


def efficiency(rows: pd.DataFrame) -> dict[str, float]:
    """Whole and steady efficiency of rows with `begin`, `end`, `seconds` and the process in `device`."""
    own = rows.groupby("device")
    begin, end = own["begin"].min().max(), own["end"].max().min()
    inside = (rows["end"].clip(upper=end) - rows["begin"].clip(lower=begin)).clip(lower=0).sum()
    wall, count = rows["end"].max() - rows["begin"].min(), len(own)
    return {
        "processes": count,
        "wall": wall,
        "whole": rows["seconds"].sum() / (count * wall),
        "steady": inside / (count * (end - begin)),
        "rate": ((rows["end"] > begin) & (rows["end"] <= end)).sum() / (end - begin),
        "from": begin,
        "until": end,
    }


def gaps(rows: pd.DataFrame) -> dict[str, float]:
    """Mean seconds between two cells of a process within a step, where a step ends, and where a pack ends.

    `burst` is a process's processor time from the last cell of a step to the first of the next.
    """
    rows = rows.sort_values(["device", "begin"])
    before = rows.shift()
    same = rows["device"] == before["device"]
    gap, cost = (rows["begin"] - before["end"])[same], (rows["alpha"] - before["alpha"])[same]
    pack, step = (rows["pack"] != before["pack"])[same], (rows["step"] != before["step"])[same]
    return {
        "within": gap[~step].mean(),
        "between steps": gap[step & ~pack].mean(),
        "between packs": gap[pack].mean(),
        "burst": cost[step].mean(),
        "steps": int(rows["step"].nunique()),
        "packs": int(rows["pack"].nunique()),
    }


def main() -> None:
    """Measure every number of workers in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", nargs="*", type=int, default=[])
    parser.add_argument("--cells", type=int, default=72, help="cells for every worker")
    parser.add_argument("--low", type=float, default=0.25)
    parser.add_argument("--high", type=float, default=1.0)
    parser.add_argument("--real", action="store_true", help="packs that compute, up to the cores that there are")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sleep = None if given.real else (given.low, given.high)
    if given.one:
        (workers,) = given.workers
        print(json.dumps(run_one(workers, given.cells * workers, sleep)))
        return
    print(describe_machine())
    print(HEADER)
    counts = [2**power for power in range((os.cpu_count() or 1).bit_length())] if given.real else WORKERS
    alone = 0.0
    for workers in given.workers or counts:
        found = measured(workers, given.cells, sleep)
        alone = alone or found["rate"] / workers
        print(line(found), f"| {found['rate'] / (workers * alone):.3f}", flush=True)


WORKERS = [1, 2, 4, 8, 16, 32, 64]
HEADER = (
    "workers | start s | wall s | whole | steady | driver's load | ms a loop | more for a step | a row | a pack | "
    "a worker's ms a step | ms between cells in a step | between steps | between packs | largest worker MB | "
    "cells/s a worker, against the first line"
)


def line(found: Mapping[str, float]) -> str:
    """One row of the table."""
    timed = ("loop", "step", "row", "pack", "burst", "within", "between steps", "between packs")
    return " | ".join(
        [
            f"{found['workers']} | {found['start']:.0f} | {found['wall']:.1f} | {found['whole']:.3f}",
            f"{found['steady']:.3f} | {found['load']:.2f}",
            *(f"{1000 * found[name]:.1f}" for name in timed),
            f"{found['memory']:.0f}",
        ]
    )


def measured(workers: int, cells: int, sleep: tuple[float, float] | None) -> dict[str, float]:
    """One number of workers, in a process of its own."""
    kind = ["--low", str(sleep[0]), "--high", str(sleep[1])] if sleep else ["--real"]
    command = [sys.executable, __file__, "--one", str(workers), "--cells", str(cells), *kind]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    return dict(json.loads(found))


if __name__ == "__main__":
    main()
