"""Stimuli of the role `ood`: scored, never fitted or selected on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline
from PIL import Image

from metrics import noise_ceiling
from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.fit_cells import fit_cells
from sweeps.scores import SCORES, standard_scores
from sweeps.storage.load import load

FIT, OOD, UNITS = 60, 20, 4


def with_ood(folder: Path, make_recording: Any, seed: int = 0) -> Path:
    """A recording with inverted pictures of the role `ood`, whose units answer in the same way."""
    path: Path = make_recording(folder, stimuli=FIT + OOD, areas={"V1": UNITS}, repeats=3, seed=seed)
    lines = (path / "stimuli.csv").read_text().splitlines()
    roles = ["fit"] * FIT + ["ood"] * OOD
    rows = [f"{line},{role}" for line, role in zip(lines[1:], roles, strict=True)]
    (path / "stimuli.csv").write_text("\n".join([f"{lines[0]},role", *rows]) + "\n")
    return path


def experiment_of(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "kinds",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": "pixels", "readout": {"ridge": {"pool": 4}}},
        **more,
    }


def test_a_run_scores_them_by_the_twin_of_the_report(make_recording: Any, tmp_path: Path) -> None:
    folder = with_ood(tmp_path / "data", make_recording)
    plan = plan_of(experiment_of(folder, scores=["prediction", "ood"]), tmp_path)
    runner = CellRunner(WorkerData(plan.context()))
    [cell] = plan.planner.cells(next(iter(plan.space.grid())))
    [fit] = fit_cells(runner.worker, [cell])
    predicted, responses = fit.shown["report"]["recorded.ood"], np.load(folder / "responses.npy")
    assert predicted.shape == (OOD, UNITS)
    assert fit.held_out["report"].shape == (FIT, UNITS)
    observed = responses[FIT:].mean(axis=2)
    each = [np.corrcoef(predicted[:, unit], observed[:, unit])[0, 1] for unit in range(UNITS)]
    run_inline(plan)
    [row] = load(plan.storage, "cells").to_dict("records")
    assert row["score.ood_prediction"] == pytest.approx(np.mean(each), abs=1e-6)
    assert row["score.ood_prediction"] > 0.5
    assert np.isnan(row["select.ood_prediction"])
    ceiling = np.asarray(noise_ceiling(responses[FIT:]))
    assert row["score.ood_prediction_ceiled"] == pytest.approx(np.sum(each) / ceiling.sum(), abs=1e-5)
    assert row["stimuli"] == FIT


def test_their_responses_change_nothing_but_their_own_score(make_recording: Any, tmp_path: Path) -> None:
    folder, rows = with_ood(tmp_path / "data", make_recording), []
    for name in ("as recorded", "shuffled"):
        plan = plan_of(experiment_of(folder, scores=["prediction", "ood"]), tmp_path / name)
        run_inline(plan)
        rows += load(plan.storage, "cells").to_dict("records")
        responses = np.load(folder / "responses.npy")
        responses[FIT:] = np.random.default_rng(1).permutation(responses[FIT:])
        np.save(folder / "responses.npy", responses)
    for column in ("select.prediction", "score.prediction", "score.prediction_ceiled"):
        assert rows[0][column] == rows[1][column], column
    assert rows[0]["score.ood_prediction"] != rows[1]["score.ood_prediction"]


def test_the_score_is_taken_where_the_role_is_recorded_and_no_scores_are_named(
    make_recording: Any, tmp_path: Path
) -> None:
    plain, kinds = make_recording(tmp_path / "plain"), with_ood(tmp_path / "data", make_recording)
    assert plan_of(experiment_of(plain), tmp_path).experiment.scores == standard_scores()
    assert plan_of(experiment_of(kinds), tmp_path).experiment.scores == [*standard_scores(), "ood"]
    named = plan_of(experiment_of(kinds, scores=["prediction"]), tmp_path)
    assert named.experiment.scores == ["prediction"]
    assert "select.ood_prediction" not in named.experiment.search.objectives
    assert not SCORES["ood"].up


def test_pictures_of_the_role_are_those_of_its_rows(make_recording: Any, tmp_path: Path) -> None:
    folder = with_ood(tmp_path / "data", make_recording)
    worker = WorkerData(plan_of(experiment_of(folder), tmp_path).context())
    recording = worker.recording("data")
    shown = worker.shown(recording)["recorded.ood"]
    with zipfile.ZipFile(folder / "images.zip") as archive:
        first = np.asarray(Image.open(io.BytesIO(archive.read(f"{FIT:04d}.png"))).convert("RGB"))
    assert shown.count == OOD
    assert np.array_equal(shown.load(slice(0, 1))[0], first)
