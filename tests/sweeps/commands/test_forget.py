"""`sweeps forget`: rows that are gone for good, what runs again, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inline import plan_of, run_inline
from s3 import seaweedfs
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.commands.forget import ForgottenTrials, choose_forgotten, forget
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.execution.cell_runner import CellRunner
from sweeps.planning.plan import Plan, make_plan
from sweeps.storage.compaction import compact
from sweeps.storage.load import load
from sweeps.storage.run_lock import RunLock
from sweeps.storage.schema import FORGOTTEN
from sweeps.storage.store import Store

Experiment = dict[str, Any]


@pytest.fixture
def small(experiment: Experiment) -> Experiment:
    """Four trials of two areas at two depths each: every cell is shared by two of them."""
    space = {**experiment["space"], "depth": {"V1": [0, 1], "V4": [0, 1]}, "seed": 0}
    return {**experiment, "space": space, "scores": ["prediction", "interval"]}


def run(experiment: Experiment, folder: Path) -> Plan:
    plan = plan_of(experiment, folder)
    run_inline(plan)
    write_experiment(plan)
    return plan


def break_cells(monkeypatch: pytest.MonkeyPatch, area: str, depth: int) -> None:
    """Let every fit of this area at this depth raise."""
    scores_of = CellRunner._scores_of

    def broken(self: CellRunner, cells: Any, fits: Any, attempts: Any) -> Any:
        if any((cell.area, cell.depth) == (area, depth) for cell in cells):
            raise RuntimeError("planted")
        return scores_of(self, cells, fits, attempts)

    monkeypatch.setattr(CellRunner, "_scores_of", broken)


def trials_of(storage: str) -> pd.DataFrame:
    return load(storage).set_index("trial_id").sort_index()


def yes(_: ForgottenTrials) -> bool:
    return True


def test_failed_trials_and_their_failed_cells_run_again(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_cells(patch, "V4", 1)
        plan = run(small, tmp_path)
    storage = plan.storage
    assert trials_of(storage)["status"].value_counts().to_dict() == {"failed": 2, "done": 2}
    chosen = forget(storage, "failed", yes)
    assert chosen is not None
    assert (len(chosen.trials), chosen.of, chosen.shared) == (2, 4, 2)  # V1 at both depths is of other trials, too
    assert chosen.cells[["area", "depth", "status"]].to_numpy().tolist() == [["V4", 1, "failed"]]
    assert set(trials_of(storage)["status"]) == {"done"}
    assert len(pd.read_parquet(Path(storage) / "trials")) == 2
    assert len(load(storage, "cells")) == 3
    sweep = run_inline(plan)
    assert (sweep.progress.executed, sweep.progress.failed) == (1, 0)
    assert trials_of(storage)["status"].tolist() == ["done"] * 4
    assert trials_of(storage)["attempt"].tolist() == [0] * 4
    compact(storage)
    assert len(trials_of(storage)) == len(load(storage, "cells")) == len(load(storage, "bootstraps")) == 4
    assert not Store(storage).part_names(FORGOTTEN)
    assert run_inline(plan).progress.executed == 0


def test_one_of_several_failed_trials_takes_the_failed_cell_with_it(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_cells(patch, "V4", 1)
        storage = run(small, tmp_path).storage
    failed = trials_of(storage).query("status == 'failed'").index[0]
    chosen = choose_forgotten(storage, failed[:8])
    assert chosen.cells["status"].tolist() == ["failed"]
    assert chosen.trials["trial_id"].tolist() == [failed]


def test_done_trials_go_with_the_cells_that_no_other_uses(small: Experiment, tmp_path: Path) -> None:
    plan = run(small, tmp_path)
    trials = trials_of(plan.storage)
    shallow = trials.index[trials["config.depth.V1"] == 0]
    chosen = forget(plan.storage, ",".join(shallow), yes)
    assert chosen is not None
    assert chosen.cells[["area", "depth"]].to_numpy().tolist() == [["V1", 0]]
    assert set(load(plan.storage, "bootstraps")["cell_id"]) == set(load(plan.storage, "cells")["cell_id"])
    assert len(load(plan.storage, "bootstraps")) == 3
    again = run_inline(plan)
    assert again.progress.executed == 1
    columns = ["score.prediction", "status", "config"]
    pd.testing.assert_frame_equal(trials_of(plan.storage)[columns], trials[columns])


def test_nothing_changes_where_it_is_not_agreed_or_asked_for(small: Experiment, tmp_path: Path) -> None:
    storage = run(small, tmp_path).storage
    before = sorted(path for path in Path(storage).rglob("*"))
    name = str(load(storage)["trial_id"][0])
    assert forget(storage, "failed", yes) is None
    assert forget(storage, name, lambda _: False) is None
    shown = CliRunner().invoke(app, ["forget", storage, "--trials", name[:10], "--dry-run"])
    assert shown.exit_code == 0
    assert "1 of 4 trials (1 done)" in shown.output
    assert name in shown.output
    assert sorted(path for path in Path(storage).rglob("*") if path.name != "running") == before
    refused = CliRunner().invoke(app, ["forget", storage, "--trials", name])
    assert isinstance(refused.exception, InputError)
    assert "--yes" in str(refused.exception)
    done = CliRunner().invoke(app, ["forget", storage, "--trials", name, "--yes"])
    assert done.exit_code == 0
    assert "forgotten" in done.output
    assert len(load(storage)) == 3


def test_bad_input_names_what_is_near(small: Experiment, tmp_path: Path) -> None:
    storage = run(small, tmp_path).storage
    name = str(load(storage)["trial_id"][0])
    wrong = name[:6] + ("0" if name[6] != "0" else "1") + name[7:]
    for wanted, words in (
        (wrong, f"no trial has this id; did you mean '{name}'"),
        ("faild", "did you mean 'failed'"),
        ("", "no trial has this id"),
        (f"{name},zzzz", "'zzzz': no trial"),
    ):
        with pytest.raises(InputError, match=words):
            forget(storage, wanted, yes)
    with pytest.raises(InputError, match="no sweep has written here"):
        forget(str(tmp_path / "nowhere"), "failed", yes)
    assert not (tmp_path / "nowhere").exists()
    assert len(load(storage)) == 4


@pytest.mark.parametrize("purpose", ["run", "guide", "compact", "forget"])
def test_it_waits_for_nobody(purpose: str, small: Experiment, tmp_path: Path) -> None:
    storage = run(small, tmp_path).storage
    name = str(load(storage)["trial_id"][0])
    with RunLock(Store(storage), purpose), pytest.raises(InputError, match="is at work here"):
        forget(storage, name, yes)
    with RunLock(Store(storage), "forget"), pytest.raises(InputError, match=r"sweeps forget.* is at work here"):
        RunLock(Store(storage), purpose).__enter__()
    assert len(load(storage)) == 4


@pytest.mark.slow
def test_it_works_on_a_real_object_store(small: Experiment, tmp_path: Path) -> None:
    with seaweedfs(tmp_path / "s3") as server, server.reached():
        plan = make_plan(small, storage=f"{server.uri}/sweep", cache=str(tmp_path / "cache"))
        run_inline(plan)
        write_experiment(plan)
        trials = trials_of(plan.storage)
        assert forget(plan.storage, str(trials.index[0]), yes) is not None
        frame = pd.read_parquet(f"{plan.storage}/trials", storage_options=server.storage_options)
        assert sorted(frame["trial_id"]) == sorted(load(plan.storage)["trial_id"]) == list(trials.index[1:])
        run_inline(plan)
        assert list(trials_of(plan.storage).index) == list(trials.index)
        compact(plan.storage)
        assert list(trials_of(plan.storage).index) == list(trials.index)
