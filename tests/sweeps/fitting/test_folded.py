"""Recordings of few groups: scores over concatenated folds are not below zero where there is nothing to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from inline import plan_of

from metrics import correlation
from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.fit_cells import fit_cells
from sweeps.scores.prediction import compute as prediction


def without_signal(folder: Path, make_recording: Any, seed: int) -> Path:
    """Ten groups whose responses differ by group and have nothing to do with the pictures."""
    path: Path = make_recording(folder, stimuli=100, areas={"V1": 30}, groups=10, repeats=2, seed=seed)
    random = np.random.default_rng([seed, 1])
    level = random.standard_normal((10, 30))
    responses = level[np.arange(100) % 10][:, :, None] + random.standard_normal((100, 30, 2))
    np.save(path / "responses.npy", responses.astype(np.float32))
    return path


def test_a_twin_without_signal_scores_zero_over_folds(make_recording: Any, tmp_path: Path) -> None:
    plain, beyond = [], []
    for seed in range(4):
        folder = without_signal(tmp_path / f"data{seed}" / "small", make_recording, seed)
        experiment = {
            "name": "small",
            "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
            "probes": {},
            "space": {"backbone": "pixels", "depth": {"V1": [0]}, "readout": {"ridge": {"pool": 2}}},
            "scores": ["prediction"],
        }
        plan = plan_of(experiment, tmp_path / str(seed))
        runner = CellRunner(WorkerData(plan.context()))
        [cell] = plan.planner.cells(next(iter(plan.space.grid())))
        [fit] = fit_cells(runner.worker, [cell])
        view = runner._view([cell], cell, fit, "report")
        plain.append(float(np.nanmean(correlation(view.predicted, view.observed))))
        beyond.append(prediction(view)["prediction"])
    # ten groups leave a little: a ratio whose numerator averages 0 but is mostly just below it
    assert np.mean(plain) < -0.2  # what concatenated folds give when nothing is done about it
    assert abs(np.mean(beyond)) < 0.1 < 0.4 * abs(np.mean(plain)), (plain, beyond)


def test_a_twin_that_predicts_the_training_mean_predicts_nothing(make_recording: Any, tmp_path: Path) -> None:
    folder = without_signal(tmp_path / "data" / "small", make_recording, 0)
    experiment = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": "pixels", "depth": {"V1": [0]}, "readout": {"ridge": {"pool": 2, "alpha": 1e15}}},
        "scores": ["prediction"],
    }
    plan = plan_of(experiment, tmp_path)
    runner = CellRunner(WorkerData(plan.context()))
    [cell] = plan.planner.cells(next(iter(plan.space.grid())))
    (([row], _),) = runner.rows([[cell]], 0)
    assert row["error"] is None
    assert row["score.prediction"] == 0.0
    assert row["score.prediction_constant_units"] == 30
