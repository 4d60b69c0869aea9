"""Results folders that commit 396caad wrote, before everything moved: read, recognised as finished, resumed, repeated.

Rows only: `trials`, `cells` and `truths` of the shipped quickstart and macaque-depth, as that commit left them. Scores
whose VERSION was raised since are left out: they are what a run would compute again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from processes import ROOT

import sweeps
from sweeps.commands.run import scheduler_of
from sweeps.experiment.schema import find_experiment
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.scheduler import Scheduler
from sweeps.report.terminal import show
from sweeps.scores import SCORES, cell_columns, trial_columns
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

ROWS = ROOT / "tests" / "fixtures" / "rows-of-396caad"
COUNTS = {"quickstart": (400, 68), "macaque-depth": (1536, 480)}
"""Trials and cells."""

SAME = 1e-12
"""Largest difference of scores of closed forms, relative to values of about 1."""


@pytest.fixture(params=sorted(COUNTS))
def name(request: pytest.FixtureRequest, shared_data: Path) -> str:
    """An experiment whose rows there are."""
    return str(request.param)


def unchanged(name: str) -> tuple[str, ...]:
    """Scores of the rows whose VERSION was not raised since: their keys are those of today."""
    keys = pd.read_parquet(ROWS / name / "cells" / "cells.parquet", columns=["score_keys"])["score_keys"].iloc[0]
    stated = dict(key.split(":")[0].split("+")[0].split("@") for key in keys.split())
    return tuple(score for score, version in stated.items() if SCORES[score].version == int(version))


@pytest.fixture
def experiment(name: str) -> dict[str, Any]:
    """The shipped experiment, with the scores alone whose numbers are still the same."""
    raw = yaml.safe_load(find_experiment(name).read_text(encoding="utf-8"))
    search = raw.get("search", {})
    same = [column for score in unchanged(name) for column in SCORES[score].columns]
    if "objectives" in search:
        search["objectives"] = [column for column in search["objectives"] if column.partition(".")[2] in same]
    return {**raw, "scores": list(unchanged(name)), "search": search}


@pytest.fixture
def plan(name: str, experiment: dict[str, Any], shared_data: Path, tmp_path: Path) -> Plan:
    """The experiment, over a copy of its earlier rows."""
    shutil.copytree(ROWS / name, tmp_path / name)
    return make_plan(experiment, data=str(shared_data), storage=str(tmp_path / name), cache=str(tmp_path / "cache"))


def scheduler(plan: Plan) -> Scheduler:
    """The state of a run that begins now."""
    return scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), retry_failed=False)


def test_every_row_is_read(name: str, plan: Plan) -> None:
    trials, cells = sweeps.load(plan.storage), sweeps.load(plan.storage, "cells")
    assert (len(trials), len(cells)) == COUNTS[name]
    assert (trials["status"] == "done").all()
    raw = pd.read_parquet(ROWS / name / "trials" / "trials.parquet")
    assert set(raw.columns) <= set(trials.columns)
    for column in raw:
        assert trials[column].equals(raw[column]), column
    assert trials["plugins"].isna().all()


def test_they_are_recognised_as_finished(name: str, plan: Plan) -> None:
    run = scheduler(plan)
    assert run.next_pack() is None
    assert run.finished
    assert (run.progress.known, run.progress.known_failed, run.progress.cells) == (COUNTS[name][0], 0, 0)


def test_what_is_missing_and_nothing_else_is_fitted_again(name: str, plan: Plan) -> None:
    """Two cells, and the trials that join them, are gone from the tables."""
    folder = Path(plan.storage)
    cells, trials = (pq.read_table(folder / table / f"{table}.parquet") for table in ("cells", "trials"))
    gone = cells["cell_id"].to_pylist()[3:5]
    joining = [column for column in trials.column_names if column.startswith("cell.")]
    frame = trials.select(["trial_id", *joining]).to_pandas()
    lost = frame.loc[frame[joining].isin(gone).any(axis=1), "trial_id"]
    kept = cells.filter(pc.invert(pc.is_in(cells["cell_id"], value_set=pa.array(gone))))
    left = trials.filter(pc.invert(pc.is_in(trials["trial_id"], value_set=pa.array(lost.tolist()))))
    pq.write_table(kept, folder / "cells" / "cells.parquet")
    pq.write_table(left, folder / "trials" / "trials.parquet")
    assert len(lost) > 2
    run = scheduler(plan)
    packs = []
    while (taken := run.next_pack()) is not None:
        packs.append(taken[1])
    assert sorted(cell.cell_id for pack in packs for cell in pack.cells) == sorted(gone)
    assert run.progress.known == COUNTS[name][0] - len(lost)


@pytest.mark.parametrize("name", ["quickstart"], indirect=True)
def test_the_answer_can_be_shown(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    show(plan.storage)
    text = capsys.readouterr().out
    assert "select.prediction" in text
    assert "4 of 4 areas recovered" in text
    assert "not shown" not in text


@pytest.mark.slow
def test_the_same_rows_are_made_again(name: str, experiment: dict[str, Any], shared_data: Path, tmp_path: Path) -> None:
    """A whole run of the experiment, from nothing."""
    same = {*cell_columns(unchanged(name)), *trial_columns(unchanged(name))}
    result = sweeps.run(
        experiment, storage=str(tmp_path / name), data=str(shared_data), cache=str(tmp_path / "cache"), cpus=2
    )
    for table, key in (("trials", "trial_id"), ("cells", "cell_id")):
        now = sweeps.load(result.storage, table).set_index(key).sort_index()
        before = pd.read_parquet(ROWS / name / table / f"{table}.parquet").set_index(key).sort_index()
        assert now.index.equals(before.index)
        scores = [column for column in before if column in same]
        assert len(scores) > 20
        np.testing.assert_allclose(
            now[scores].to_numpy(dtype=float), before[scores].to_numpy(dtype=float), rtol=SAME, atol=SAME
        )
