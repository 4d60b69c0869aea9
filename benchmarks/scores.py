"""Seconds that every score takes for one cell, at the quickstart's sizes, on one core.

    OMP_NUM_THREADS=1 python benchmarks/scores.py

A cell of the simulated recording (600 scenes, 40 units, probes of rendered objects and captioned scenes) is fitted
once, then every score is taken on both splits, twice: the first time fills what cells of a recording share (the
brain's own values, embeddings), the second is what every further cell costs. `Score.seconds` rounds the latter.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from machine import describe_machine

from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.fit_cells import fits_of
from sweeps.planning.plan import make_plan
from sweeps.scores import SCORES

READOUTS: dict[str, Any] = {
    "ridge": {"ridge": {"alpha": "auto", "pool": 7}},
    "gaussian": {"gaussian": {"loss": "poisson", "epochs": 20}},
}


def main() -> None:
    """Fit two cells of IT, from a ridge and from a Gaussian readout, and time every score of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", nargs="+", default=list(SCORES), choices=list(SCORES))
    parser.add_argument("--cache", default=None)
    options = parser.parse_args()
    print(describe_machine())
    for name, readout in READOUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            experiment = {
                "name": "scores",
                "recordings": [{"format": "simulated"}],
                "space": {"backbone": "efficientnet-lite0", "depth": {"IT": [13]}, "readout": readout},
                "scores": options.scores,
            }
            plan = make_plan(experiment, storage=folder, cache=options.cache)
            runner = CellRunner(WorkerData(plan.context()))
            [cell] = plan.planner.cells(next(iter(plan.space.grid())))
            ((_, [fit]),) = next(fits_of(runner.worker, [[cell]], runner.fits))
            for score in options.scores:
                print(f"{name:10}{score:24}{_timed(runner, cell, fit, score)}", flush=True)


def _timed(runner: CellRunner, cell: Any, fit: Any, score: str) -> str:
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = runner.score(cell, fit, [score])
        seconds.append(time.perf_counter() - start)
        if seconds[0] > 30:
            break
    first = SCORES[score].columns[0]
    return f"first {seconds[0]:8.3f} s, then {seconds[-1]:8.3f} s    score.{first} {found[f'score.{first}']:.3f}"


if __name__ == "__main__":
    main()
