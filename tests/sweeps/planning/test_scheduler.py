"""Cells, packs and rows of a sweep that runs in this process: what fails, what is repeated, what is known."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import ProcessDied, plan_of, run_inline, trials_of
from registries import declare, declare_version
from slow_sweep import written

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.commands.run import scheduler_of
from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.hashing import content_id
from sweeps.planning.failures import ProcessFailure
from sweeps.planning.packs import Pack, jobs_of
from sweeps.planning.plan import Plan
from sweeps.scores import SCORES
from sweeps.storage.load import load
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

Experiment = dict[str, Any]
MIXED = {
    "backbone": [
        {"efficientnet-lite0": {"weights": ["imagenet", "random"]}},
        "pixels",
        {"conv": {"epochs": 1, "layers": 1, "channels": 4}},
    ],
    "depth": {"shared": [0]},
    "readout": [{"ridge": {"pool": 4}}, {"gaussian": {"loss": "gaussian", "epochs": 2, "pool": 4}}],
    "seed": [0, 1],
}


def edited(experiment: Experiment, **changes: Any) -> Experiment:
    """A copy of an experiment; a dotted name reaches into its sections as `section__key`."""
    held = copy.deepcopy(experiment)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            held.setdefault(section, {})[key] = value
        else:
            held[section] = value
    return held


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """The score columns of trials."""
    return frame[sorted(c for c in frame.columns if c.startswith(("select.", "score.")))].astype(float)


class Failures:
    """The process of a pack dies when it reaches the failing cell, `times` times."""

    def __init__(self, failing: str, times: int = 10**6, node: bool = False) -> None:
        self.failing, self.times, self.node = failing, times, node
        self.tries: Counter[str] = Counter()

    def __call__(self, pack: Pack) -> None:
        self.tries.update(cell.cell_id for cell in pack.cells)
        if self.times and any(cell.cell_id == self.failing for cell in pack.cells):
            self.times -= 1
            raise ProcessDied("out of memory", self.node)


def some_cell(plan: Plan) -> str:
    """A cell in the middle of the grid."""
    cells = {cell.cell_id for each in plan.space.grid() for cell in plan.planner.cells(each)}
    return sorted(cells)[len(cells) // 2]


# -- failures --------------------------------------------------------------------------------------


def test_a_cell_that_raises_fails_its_own_trials_and_no_others(
    make_recording: Callable[..., Path], experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.planning.plan.check_losses", lambda space, facts: None)  # which would refuse it
    folder = make_recording(tmp_path / "data" / "negative")
    responses = np.load(folder / "responses.npy")
    responses[:, 6:] -= 10  # two of the five units of V4
    np.save(folder / "responses.npy", responses)
    poisson = {"gaussian": {"loss": "poisson", "epochs": 1, "pool": 4}}
    plan = plan_of(
        edited(
            experiment,
            recordings=[{"format": "folder", "path": str(folder), "image": {"size": 32}}],
            space={
                "backbone": "pixels",
                "depth": {"shared": [0]},
                "readout": [poisson, {"ridge": {"pool": 4}}],
                "seed": [0, 1],
            },
        ),
        tmp_path,
    )
    sweep = run_inline(plan)
    assert (sweep.progress.done, sweep.progress.failed) == (2, 2)
    trials = trials_of(plan)
    failed = trials[trials["status"] == "failed"]
    assert set(failed["config.readout"]) == {"gaussian"}
    assert failed["error"].str.contains("negative/V4: ValueError: .*negative responses").all()
    assert not failed["error"].str.contains("V1").any()
    assert failed[["select.prediction", "score.prediction"]].isna().all(axis=None)
    done = trials[trials["status"] == "done"]
    assert set(done["config.readout"]) == {"ridge"}
    assert done["error"].isna().all()
    cells = load(plan.storage, "cells").set_index(["area", "config.readout"])["status"]
    assert set(cells["V4", "gaussian"]) == {"failed"}
    assert set(cells["V1", "gaussian"]) == {"done"}


def test_failed_is_final_until_it_is_asked_for_again(experiment: Experiment, tmp_path: Path) -> None:
    plan = plan_of(edited(experiment, compute__max_failures=0), tmp_path)
    failing = some_cell(plan)
    first = run_inline(plan, before=Failures(failing))
    assert (first.progress.failed, first.progress.done) == (3, 15)
    assert trials_of(plan).query("status == 'failed'")["error"].str.contains("out of memory").all()

    again = run_inline(plan)
    assert (again.progress.executed, again.progress.known) == (0, 18)

    seen = Failures("nobody")
    last = run_inline(plan, before=seen, retry_failed=True)
    assert seen.tries == {failing: 1}
    assert (last.progress.known, last.progress.done, last.progress.failed) == (15, 3, 0)
    trials = load(plan.storage)
    assert len(trials) == trials["trial_id"].nunique() == 18
    assert set(trials["status"]) == {"done"}
    assert trials["error"].isna().all()
    assert set(load(plan.storage, "cells")["status"]) == {"done"}


def test_what_earlier_runs_tried_does_not_count_against_a_cell(experiment: Experiment, tmp_path: Path) -> None:
    plan = plan_of(experiment, tmp_path)
    failing = some_cell(plan)
    run_inline(plan, before=Failures(failing))
    retried = run_inline(plan, before=Failures(failing, times=3), retry_failed=True)
    assert (retried.progress.done, retried.progress.failed) == (3, 0)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_only_the_failing_cell_of_a_dying_pack_fails(experiment: Experiment, tmp_path: Path, size: int) -> None:
    tries = {}
    for allowed in (0, 3):
        plan = plan_of(edited(experiment, compute__max_failures=allowed), tmp_path / str(allowed))
        failing = some_cell(plan)
        failures = Failures(failing)
        sweep = run_inline(plan, pack_size=size, before=failures)
        tries[allowed] = failures.tries.pop(failing)
        assert (sweep.progress.cells_failed, sweep.progress.failed, sweep.progress.done) == (1, 3, 15)
        cells = load(plan.storage, "cells").set_index("cell_id")["status"]
        assert cells[cells == "failed"].index.tolist() == [failing]
        assert set(written(plan.storage).values()) == {1}
        assert set(failures.tries.values()) == {1}  # what is finished is not fitted again
    assert tries[3] - tries[0] == 3
    assert tries[0] == (1 if size == 1 else tries[0])
    assert tries[0] <= 2 + np.ceil(np.log2(12)) + 1


def test_a_pack_that_dies_once_loses_nothing(experiment: Experiment, tmp_path: Path) -> None:
    plan = plan_of(edited(experiment, compute__max_failures=1), tmp_path)
    sweep = run_inline(plan, pack_size=100, before=Failures(some_cell(plan), times=1))
    assert (sweep.progress.done, sweep.progress.failed) == (18, 0)
    assert set(written(plan.storage).values()) == {1}


def test_the_loss_of_a_node_never_counts(experiment: Experiment, tmp_path: Path) -> None:
    plan = plan_of(edited(experiment, compute__max_failures=0), tmp_path)
    failures = Failures(some_cell(plan), times=7, node=True)
    sweep = run_inline(plan, pack_size=4, before=failures)
    assert (sweep.progress.done, sweep.progress.failed) == (18, 0)
    assert failures.tries[failures.failing] == 8
    assert set(load(plan.storage, "cells")["attempt"]) == {0}


@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("allowed", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 4])
def test_where_memory_is_short_no_other_cell_fails(
    size: int, allowed: int, survives: bool, experiment: Experiment, tmp_path: Path
) -> None:
    """Three workers on one node, where a failing cell takes the others with it before any has a row.

    It dies with them, or survives them, as the process that began first does, until it is done as the last one.
    """
    plan = plan_of(edited(experiment, compute__max_failures=allowed), tmp_path)
    store, runner, failing = Store(plan.storage), CellRunner(WorkerData(plan.context())), some_cell(plan)
    sweep = scheduler_of(plan, RowLog(store, plan.columns()), False)
    sweep.pack_size = lambda cells: size
    running: dict[str, Pack] = {}
    failures = 0
    while True:
        while len(running) < 3 and (found := sweep.next_pack()) is not None:
            running[found[0]] = found[1]
        if not running:
            break
        greedy = [token for token, pack in running.items() if any(cell.cell_id == failing for cell in pack.cells)]
        if greedy and (len(running) > 1 or not survives):
            for token in [each for each in running if not (survives and each in greedy)]:
                sweep.failed(token, "low on memory", ProcessFailure.MEMORY)
                del running[token]
            failures += 1
            assert failures < 100
            if not survives or sweep.queue or failures < 20:
                continue
        token, pack = running.popitem()
        for rows, _ in runner.rows(jobs_of(pack.cells), pack.attempt, pack.earlier):
            sweep.absorb(store.write_part("cells", rows))
        sweep.done(token)
    assert sweep.finished
    sweep.trials.flush()
    cells = load(plan.storage, "cells").set_index("cell_id")
    assert list(cells.index[cells["status"] == "failed"]) == ([] if survives else [failing])
    assert set(written(plan.storage).values()) == {1}


# -- packs -----------------------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_pack(experiment: Experiment, tmp_path: Path) -> None:
    mixed = edited(experiment, space=MIXED)
    found = []
    for size in (1, 4, 100):
        plan = plan_of(mixed, tmp_path / str(size))
        sweep = run_inline(plan, pack_size=size)
        assert (sweep.progress.done, sweep.progress.failed) == (14, 0)
        found.append(numbers(trials_of(plan)))
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other, rtol=0, atol=1e-6)
    assert found[0]["select.prediction"].notna().all()


# -- what is known, and what is new ----------------------------------------------------------------


def test_an_edited_space_runs_only_what_is_new(experiment: Experiment, tmp_path: Path) -> None:
    run_inline(plan_of(experiment, tmp_path))
    more = edited(experiment, space__depth={"V1": [0, 1, 2, 3], "V4": [0, 1, 2]})
    seen = Failures("nobody")
    sweep = run_inline(plan_of(more, tmp_path), before=seen)
    assert (sweep.progress.known, sweep.progress.done, len(seen.tries)) == (18, 6, 2)
    assert len(load(plan_of(more, tmp_path).storage)) == 24


def test_a_raised_version_repeats_what_uses_the_component_and_nothing_else(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = edited(experiment, space={**MIXED, "seed": 0})
    plan = plan_of(mixed, tmp_path)
    run_inline(plan)
    before = load(plan.storage, "cells").set_index("cell_id")
    raised: list[tuple[dict[str, Any], str, str]] = [
        (BACKBONES, "pixels", "config.backbone"),
        (BACKBONES, "conv", "config.backbone"),
        (READOUTS, "gaussian", "config.readout"),
    ]
    for table, name, column in raised:
        shutil.copytree(plan.storage, tmp_path / name / "results")
        shutil.copytree(tmp_path / "cache", tmp_path / name / "cache")
        seen = Failures("nobody")
        with monkeypatch.context() as patch:
            declare(patch, table, name, replace(table[name], version=table[name].version + 1))
            newer = plan_of(mixed, tmp_path / name)
            sweep = run_inline(newer, before=seen)
        uses = before[before[column] == name]
        assert 0 < len(uses) < len(before)
        assert len(seen.tries) == len(uses)
        assert not set(seen.tries) & set(before.index)
        after = load(newer.storage, "cells").set_index("cell_id")
        assert set(after.loc[list(seen.tries), column]) == {name}
        assert set(after.loc[list(seen.tries), "status"]) == {"done"}
        assert sweep.progress.known + sweep.progress.done == 7


def test_a_raised_version_of_a_score_scores_again(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    first = trials_of(plan)
    raised = SCORES["prediction"].version + 1
    declare_version(monkeypatch, SCORES, "prediction", raised)
    plan = plan_of(experiment, tmp_path)
    sweep = run_inline(plan)
    assert (sweep.progress.known, sweep.progress.done, sweep.progress.executed) == (0, 18, 12)
    second = trials_of(plan)
    assert second.index.equals(first.index)
    assert second["score_keys"].str.contains(f"prediction@{raised}").all()
    assert set(second["attempt"]) == {1}
    assert run_inline(plan_of(experiment, tmp_path)).progress.executed == 0


def test_a_score_that_is_added_is_computed(experiment: Experiment, tmp_path: Path) -> None:
    plan = plan_of(edited(experiment, scores=["prediction"]), tmp_path)
    run_inline(plan)
    first = trials_of(plan)
    assert "score.dimensionality" not in first
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    second = trials_of(plan)
    assert second.index.equals(first.index)
    assert second["score.dimensionality"].notna().all()
    pd.testing.assert_series_equal(first["score.prediction"], second["score.prediction"])
    fewer = plan_of(edited(experiment, scores=["prediction"]), tmp_path)
    assert run_inline(fewer).progress.executed == 0


# -- identity --------------------------------------------------------------------------------------


def ids(experiment: Experiment, folder: Path) -> set[str]:
    """Every trial id of a grid."""
    plan = plan_of(experiment, folder)
    return {plan.planner.trial_id(plan.planner.cells(each)) for each in plan.space.grid()}


def test_ids_depend_on_what_decides_a_result_and_on_nothing_else(
    make_recording: Callable[..., Path], experiment: Experiment, recording: Path, tmp_path: Path
) -> None:
    held = ids(experiment, tmp_path)
    assert len(held) == 18
    assert ids(edited(experiment, name="another"), tmp_path) == held
    assert ids(edited(experiment, storage=str(tmp_path / "there")), tmp_path / "elsewhere") == held
    assert ids(edited(experiment, compute={"cpus_per_pack": 2, "max_failures": 0, "workers": 7}), tmp_path) == held
    assert ids(edited(experiment, search={"method": "random", "trials": 5, "seed": 3}), tmp_path) == held
    assert ids(edited(experiment, scores=["prediction"]), tmp_path) == held

    moved = Path(shutil.copytree(recording, tmp_path / "moved" / recording.name))
    at = {"format": "folder", "image": {"size": 32}}
    assert ids(edited(experiment, recordings=[{**at, "path": str(moved)}]), tmp_path) == held

    other = make_recording(tmp_path / "other" / recording.name, seed=1)
    assert not ids(edited(experiment, recordings=[{**at, "path": str(other)}]), tmp_path) & held
    seen = {**at, "path": str(recording), "image": {"size": 40}}
    assert not ids(edited(experiment, recordings=[seen]), tmp_path) & held
    assert not ids(edited(experiment, split={"seed": 1}), tmp_path) & held
    assert not ids(edited(experiment, space__readout={"ridge": {"pool": 5}}), tmp_path) & held


def test_a_renamed_recording_is_not_fitted_again(experiment: Experiment, recording: Path, tmp_path: Path) -> None:
    run_inline(plan_of(experiment, tmp_path))
    renamed = [{**experiment["recordings"][0], "name": "monkey-b"}]
    plan = plan_of(edited(experiment, recordings=renamed), tmp_path)
    sweep = run_inline(plan)
    assert (sweep.progress.executed, sweep.progress.done) == (0, 18)


def test_a_score_that_raises_is_nan_with_its_error_and_the_rest_stands(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.scores.dimensionality.compute", content_id)
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    trials = trials_of(plan)
    assert set(trials["status"]) == {"done"}
    assert trials["error"].str.contains("dimensionality: ").all()
    assert trials["score.dimensionality"].isna().all()
    assert trials["score.prediction"].notna().all()
    assert run_inline(plan).progress.executed == 0
    monkeypatch.undo()
    mended = run_inline(plan_of(experiment, tmp_path), retry_failed=True)
    assert mended.progress.executed == 12
    assert trials_of(plan)["score.dimensionality"].notna().all()
    assert trials_of(plan)["error"].isna().all()


def test_scores_that_were_taken_once_are_never_lost(experiment: dict[str, Any], tmp_path: Path) -> None:
    first = plan_of({**experiment, "scores": ["prediction", "dimensionality"]}, tmp_path)
    run_inline(first)
    before = trials_of(first)
    wanted = {**experiment, "scores": ["prediction", "feature_transfer"]}
    assert run_inline(plan_of(wanted, tmp_path)).progress.executed == 12
    pd.testing.assert_series_equal(trials_of(first)["score.dimensionality"], before["score.dimensionality"])
    for scores in (["prediction", "dimensionality"], ["dimensionality"], ["feature_transfer", "prediction"]):
        held = {**experiment, "scores": scores, "search": {}}
        assert run_inline(plan_of(held, tmp_path)).progress.executed == 0
