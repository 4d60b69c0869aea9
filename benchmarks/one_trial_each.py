"""A frozen depth sweep against what a lab would write: one Ray Tune trial for every configuration.

    python benchmarks/one_trial_each.py [--trials 1200] [--sample 60] [--cache FOLDER]

Both sides take the same configurations (random depth maps of four simulated areas over 16 blocks), the same scores,
two workers and the same warm cache of features on disk. The other side is a class trainable that reuses its actors
and keeps recordings, probes and what scores remember of the brain in memory; for every trial it reads features, forms
kernels, fits and scores each of its cells. It runs a random sample, whose seconds a trial are those between the
first and the last result. Ours is taken in the same way, from the first cell to the last trial, and beside it
`sweeps.run` from its call to its end, Ray's start included. Printed are seconds a trial of both, their ratios, trials x
areas / cells (the most that sharing cells can bring), and the largest difference between scores of the sample.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import ray
from machine import describe_machine
from ray import tune

import sweeps
from sweeps.execution.tune_surroundings import TUNE_ENVIRONMENT
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.columns import configuration_of

WORKERS = 2


def experiment(trials: int) -> dict[str, Any]:
    """The quickstart's recording and scores, one backbone, so many of its 65,536 depth maps."""
    areas = ("V1", "V2", "V4", "IT")
    return {
        "name": "one-trial-each",
        "recordings": [{"format": "simulated"}],
        "space": {"backbone": "efficientnet-lite0", "depth": dict.fromkeys(areas, "all"), "readout": "ridge"},
        "search": {"method": "random", "trials": trials},
        "compute": {"fits_gb": 0, "workers": WORKERS},
    }


class OneTrial(tune.Trainable):
    """One configuration: all of its cells, and the join of their scores."""

    def setup(self, config: dict[str, Any]) -> None:
        """Open what trials of this process share."""
        import torch

        from sweeps.execution.cell_runner import CellRunner
        from sweeps.experiment.worker_context import WorkerContext
        from sweeps.features.worker_data import WorkerData

        torch.set_num_threads(1)
        self.runner = CellRunner(WorkerData(WorkerContext.from_config(config["context"])))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another configuration."""
        self.cells = new_config["cells"]
        return True

    def step(self) -> dict[str, Any]:
        """Fit and score every cell anew: nothing that depends on the configuration is kept from the trial before."""
        from sweeps.experiment.cells import Cell
        from sweeps.io.lru_cache import LRUCache
        from sweeps.planning.trial_scores import join_scores

        shop = self.runner.worker
        for name in ("_kernels", "bands", "standardised", "_decompositions", "readouts"):
            setattr(shop, name, LRUCache(2))
        rows = []
        for raw in self.cells:
            cell = Cell(**{**raw, "blocks": tuple(raw["blocks"])})
            rows += [row for found, _ in self.runner.rows([[cell]], 0) for row in found]
        names = list(shop.context.scores)
        return {**join_scores(rows, names), "finished": time.time(), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


def one_trial_each(plan: Plan, configurations: list[dict[str, Any]]) -> tuple[float, list[dict[str, Any]]]:
    """Seconds a trial, and the results in the order of the configurations."""
    packs = [[asdict(cell) for cell in plan.planner.cells(each)] for each in configurations]
    os.environ.update(TUNE_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # no result files, says Tune of what has no loggers
    folder = tempfile.mkdtemp()
    ray.init(num_cpus=WORKERS, log_to_driver=False, include_dashboard=False)
    try:
        found = tune.Tuner(
            OneTrial,
            param_space={"context": plan.context().as_config(), "cells": tune.grid_search(packs)},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=WORKERS),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(folder)
    results = [each.metrics for each in found]
    times = sorted(each["finished"] for each in results)
    return (times[-1] - times[WORKERS - 1]) / (len(times) - WORKERS), results


def main() -> None:
    """Warm the cache, run both sides, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1200)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--cache", default=None)
    given = parser.parse_args()
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as home:
        cache = given.cache or f"{home}/cache"
        sweeps.run(experiment(4), storage=f"{home}/warm", cache=cache, cpus=WORKERS)
        began = time.perf_counter()
        found = sweeps.run(experiment(given.trials), storage=f"{home}/rows", cache=cache, cpus=WORKERS)
        ours = time.perf_counter() - began
        trials, first = found.trials, sweeps.load(found.storage, "cells")["finished"].min()
        steady = (trials["finished"].max() - first).total_seconds()
        chosen = trials.iloc[np.random.default_rng(0).choice(len(trials), given.sample, replace=False)]
        plan = make_plan(experiment(given.trials), storage=f"{home}/other", cache=cache)
        configurations = [configuration_of(row) for row in chosen.to_dict("records")]
        theirs, results = one_trial_each(plan, configurations)
    report(trials, found.progress.cells_done, (steady, ours), theirs, difference(chosen, results))


def difference(ours: pd.DataFrame, theirs: list[dict[str, Any]]) -> float:
    """The largest difference between the scores of both sides."""
    columns = [name for name in ours.columns if name.startswith(("select.", "score.")) and name in theirs[0]]
    other = pd.DataFrame(theirs)[columns].to_numpy(float)
    own = ours[columns].to_numpy(float)
    assert (np.isnan(own) == np.isnan(other)).all()
    return float(np.nanmax(np.abs(own - other)))


def report(trials: pd.DataFrame, cells: int, ours: tuple[float, float], theirs: float, apart: float) -> None:
    """One line of each number."""
    areas = sum(name.startswith("cell.") for name in trials.columns)
    limit = len(trials) * areas / cells
    print(f"trials {len(trials)}, areas {areas}, distinct cells {cells}: limit {limit:.0f}")
    print(f"one Tune trial each: {theirs:.2f} s a trial, {theirs * len(trials) / 60:.0f} min in all")
    for name, seconds in zip(("from the first cell", "start included"), ours, strict=True):
        ratio = theirs * len(trials) / seconds
        print(f"ours, {name}: {seconds:.1f} s in all, ratio {ratio:.0f}, {ratio / limit:.2f} of the limit")
    print(f"largest difference of a score: {apart:.1e}")


if __name__ == "__main__":
    main()
