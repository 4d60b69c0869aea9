"""The confirm set: it takes part in nothing, is opened once, and gives what the twin predicts of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline
from rich.console import Console

from sweeps.commands.confirm import confirm
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.planning.plan import Plan
from sweeps.recordings.split_rows import folds_of
from sweeps.report.confirmed import show_confirmations
from sweeps.storage.load import load

SPACE = {"backbone": "pixels", "readout": {"ridge": {"pool": [2, 4]}}}


def experiment_of(folder: Path, confirm: float = 0.2) -> dict[str, Any]:
    return {
        "name": "kept",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": SPACE,
        "scores": ["prediction"],
        "split": {"confirm": confirm},
    }


def run(folder: Path, place: Path, **settings: Any) -> Plan:
    plan = plan_of(experiment_of(folder, **settings), place)
    run_inline(plan)
    write_experiment(plan)
    return plan


@pytest.mark.parametrize("stimuli", [60, 300])
def test_the_confirm_set_takes_part_in_nothing_until_it_is_opened(
    make_recording: Any, tmp_path: Path, stimuli: int
) -> None:
    folder = make_recording(tmp_path / "data", stimuli=stimuli, repeats=2, areas={"V1": 3, "V4": 2})
    plan = run(folder, tmp_path / "one")
    [facts] = plan.facts
    kept = folds_of(facts.split_basis, plan.experiment.split, 0)[0].confirm
    assert len(kept) == round(0.2 * stimuli)
    responses = np.load(folder / "responses.npy")
    other = responses.copy()
    other[kept] = np.random.default_rng(5).permutation(other[kept]) + 3.0
    np.save(folder / "responses.npy", other)  # other responses to what is kept: every score stays, to the last bit
    changed = run(folder, tmp_path / "two")
    scores = [load(one.storage, "cells").set_index("config.readout.pool") for one in (plan, changed)]
    for column in ("select.prediction", "score.prediction", "score.brain_ceiling"):
        rows = [table.sort_values(["area", "config.readout.pool"])[column].to_numpy() for table in scores]
        assert np.array_equal(*rows, equal_nan=True), column
    np.save(folder / "responses.npy", responses)
    first = confirm(plan.storage).set_index("area")
    assert (first["opened"] == 1).all()
    assert (first["stimuli"] == len(kept)).all()
    assert (first["prediction"] > 0.5).all()  # a linear code of pixels, and little noise
    assert (first["prediction_low"] < first["prediction"]).all()
    np.save(folder / "responses.npy", other)
    second = confirm(changed.storage).set_index("area")
    assert not np.allclose(first["prediction"], second["prediction"])


def test_it_is_the_fit_of_the_report_that_predicts_the_confirm_set(make_recording: Any, tmp_path: Path) -> None:
    """What is fitted is the same, what is predicted is the confirm set, and the score is its mean correlation."""
    from sweeps.execution.cell_runner import CellRunner
    from sweeps.features.worker_data import ConfirmData, WorkerData
    from sweeps.fitting.fit_cells import fit_cells

    folder = make_recording(tmp_path / "data", stimuli=300, repeats=2, areas={"V1": 3})
    plan = plan_of(experiment_of(folder), tmp_path)
    [cell] = plan.planner.cells(next(iter(plan.space.grid())))
    plain, kept = WorkerData(plan.context()), ConfirmData(plan.context())
    recording = plain.recording(cell.recording)
    [fold], [confirming] = plain.folds(recording, 0), kept.folds(kept.recording(cell.recording), 0)
    assert np.array_equal(confirming.fitted_on("report"), fold.fitted_on("report"))
    [fit] = fit_cells(kept, [cell])
    rows = np.flatnonzero(np.isfinite(fit.held_out["report"]).all(axis=1))
    assert np.array_equal(rows, fold.confirm)
    observed = recording.fit.average[rows]
    expected = np.mean([np.corrcoef(fit.held_out["report"][rows, unit], observed[:, unit])[0, 1] for unit in range(3)])
    assert CellRunner(kept).score(cell, fit, ["prediction"])["score.prediction"] == pytest.approx(expected, abs=1e-6)


def test_a_second_opening_is_refused_unless_asked_for_and_is_labelled(make_recording: Any, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data", stimuli=60, repeats=2, areas={"V1": 3})
    plan = run(folder, tmp_path)
    trials = load(plan.storage).sort_values("select.prediction", ascending=False)["trial_id"].tolist()
    assert (confirm(plan.storage)["trial_id"] == trials[0]).all()
    with pytest.raises(InputError, match=f"opened already, by .* with trial {trials[0]}.*opened: 2"):
        confirm(plan.storage)
    with pytest.raises(InputError, match="opened already"):
        confirm(plan.storage, trial=trials[1])
    again = confirm(plan.storage, trial=trials[1][:8], again=True)
    assert again["opened"].tolist() == [2]
    assert sorted(load(plan.storage, "confirmations")["opened"]) == [1, 2]
    text = io.StringIO()
    show_confirmations(Console(file=text, width=120, highlight=False), plan.storage)
    assert "opened more than once" in text.getvalue()
    assert trials[1][:6] in text.getvalue()


def test_an_opening_that_ended_before_its_rows_goes_on_for_the_same_trial(
    make_recording: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_recording(tmp_path / "data", stimuli=60, repeats=2, areas={"V1": 3})
    plan = run(folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.fitting.fit_cells.fit_cells", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            confirm(plan.storage)
    others = load(plan.storage).sort_values("select.prediction")["trial_id"]
    with pytest.raises(InputError, match="opened already"):
        confirm(plan.storage, trial=others.iloc[0])
    assert confirm(plan.storage)["opened"].tolist() == [1]


def test_a_sweep_that_keeps_none_says_how_to_keep_one(make_recording: Any, tmp_path: Path) -> None:
    plan = run(make_recording(tmp_path / "data", areas={"V1": 3}), tmp_path, confirm=0)
    with pytest.raises(InputError, match=r"keeps no confirm set: write `split: \{confirm: 0.1\}`"):
        confirm(plan.storage)
