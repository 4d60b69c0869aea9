"""Which scores tell the planted depth map from random ones? Simulated recordings with a known truth, seed by seed.

    python benchmarks/identifiability.py --seeds 0 1 2 3 4

For every seed a recording is simulated, every depth of the teacher's own backbone is fitted in every area, and all
maps from areas to depths are scored by joining cells; areas in which an alignment is NaN, since the brain itself is at
chance there, are left out of its maps. Printed, on report stimuli: the percentile of the planted map among all maps,
and of the teacher itself as a twin (noise-free rates; scores add the noise that they match), with the mean over seeds
and its 95% interval (t), and the mean number of areas; and Kendall's tau between recovered depth and the order of the
areas.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from scipy.stats import t
from teacher_control import teacher_scores

import sweeps
from metrics import kendall_tau
from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.planning.plan import Plan, make_plan
from sweeps.recordings.simulation.simulated import SimulatedSpec

COLUMNS = ("prediction", "invariance_alignment", "dimensionality", "transfer_brain")
DESCRIPTIVE = ("participation_ratio_closeness", "two_nn_closeness", "transfer_brain_r")


def experiment_of(seed: int) -> dict[str, Any]:
    """One recording, every depth of every area with ridge readouts."""
    return {
        "name": f"identifiability-{seed}",
        "recordings": [{"format": "simulated", "seed": seed}],
        "space": {
            "backbone": "efficientnet-lite0",
            "depth": {"shared": "all"},
            "readout": {"ridge": {"alpha": "auto", "pool": 7}},
        },
        "scores": list(COLUMNS),
        "contrasts": [],
    }


def percentile(table: np.ndarray, value: float) -> float:
    """Share in percent of all maps (a depth for every row of `table`) whose mean lies below `value`."""
    maps = table[0]
    for row in table[1:]:
        maps = (maps[:, None] + row).ravel()
    return float((maps / len(table) < value).mean() * 100)


def measure(plan: Plan, seed: int) -> dict[str, dict[str, float]]:
    """Percentiles of the planted map and of the teacher, and tau, for one finished sweep."""
    cells = sweeps.load(plan.storage, "cells")
    spec = SimulatedSpec(format="simulated", seed=seed)
    planted = {name: area.depth for name, area in spec.areas.items()}
    backbone = {"name": spec.teacher.backbone, "weights": spec.teacher.weights}
    readout = {"name": "ridge", "alpha": "auto", "pool": 7}
    own = plan.planner.cells({"backbone": backbone, "depth": planted, "readout": readout, "seed": 0})
    teacher = teacher_scores(CellRunner(WorkerData(plan.context())), spec, own, COLUMNS)
    found: dict[str, dict[str, float]] = {}
    for column in (*COLUMNS, *DESCRIPTIVE):
        table = cells.pivot(index="area", columns="depth", values=f"score.{column}").loc[list(planted)].to_numpy()
        truth = np.array([row[depth] for row, depth in zip(table, planted.values(), strict=True)])
        itself = np.array([teacher[area][f"score.{column}"] for area in planted])
        able = np.isfinite(table).all(axis=1) & np.isfinite(itself)
        found[column] = {
            "planted": percentile(table[able], float(truth[able].mean())) if able.any() else float("nan"),
            "teacher": percentile(table[able], float(itself[able].mean())) if able.any() else float("nan"),
            "areas": float(able.sum()),
        }
    best = cells.loc[cells.groupby("area")["select.prediction"].idxmax()].set_index("area")["depth"]
    found["prediction"]["tau"] = kendall_tau([best[area] for area in planted], list(range(len(planted))))
    return found


def interval(values: list[float]) -> str:
    """Mean, its 95% interval over seeds, and the lowest."""
    held = np.array([value for value in values if np.isfinite(value)])
    if not len(held):
        return "NaN in every seed"
    half = float(t.ppf(0.975, len(held) - 1) * held.std(ddof=1) / np.sqrt(len(held))) if len(held) > 1 else float("nan")
    return f"{held.mean():6.1f} ± {half:4.1f}, lowest {held.min():6.1f}"


def main() -> None:
    """Run the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--storage", default=None, help="where the sweeps' rows go (default: a temporary folder)")
    parser.add_argument("--cache", default=None)
    options = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for seed in options.seeds:
            storage = str(Path(options.storage or folder) / f"seed{seed}")
            plan = make_plan(experiment_of(seed), storage=storage, cache=options.cache)
            sweeps.run(experiment_of(seed), storage=storage, cache=options.cache)
            results.append(measure(plan, seed))
            row = results[-1]
            print(f"seed {seed}: " + ", ".join(f"{c} {row[c]['planted']:.1f}/{row[c]['teacher']:.1f}" for c in row))
    print(f"\npercentile among all depth maps, {len(results)} seeds, report stimuli")
    print(f"{'score':32}{'planted map':34}{'the teacher itself':34}")
    for column in (*COLUMNS, *DESCRIPTIVE):
        parts = [interval([row[column][who] for row in results]) for who in ("planted", "teacher")]
        areas = sum(row[column]["areas"] for row in results) / len(results)
        print(f"{column:32}{parts[0]:34}{parts[1]:34}{areas:.1f} areas")
    print(f"tau of recovered depth and area order: {[round(row['prediction']['tau'], 2) for row in results]}")


if __name__ == "__main__":
    main()
