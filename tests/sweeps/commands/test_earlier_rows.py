"""Results folders that commit 396caad wrote, before everything moved: read, recognised as finished, resumed, repeated.

Rows only: `trials`, `cells` and `truths` of the shipped quickstart and macaque-depth, as that commit left them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from processes import ROOT

import sweeps
from sweeps.commands.run import scheduler_of
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.scheduler import Scheduler
from sweeps.report.terminal import show
from sweeps.scores import cell_columns, objectives
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


@pytest.fixture
def plan(name: str, shared_data: Path, tmp_path: Path) -> Plan:
    """The shipped experiment, over a copy of its earlier rows, with the scores that have the VERSION of then."""
    shutil.copytree(ROWS / name, tmp_path / name)
    places = {"data": str(shared_data), "storage": str(tmp_path / name), "cache": str(tmp_path / "cache")}
    whole = make_plan(name, **places)
    scores = same_scores(whole, name)
    search = whole.experiment.search.model_copy(update={"objectives": objectives(scores)[:1]})
    return make_plan(
        whole.experiment.model_copy(update={"scores": scores, "search": search, "contrasts": []}), **places
    )


def same_scores(plan: Plan, name: str) -> list[str]:
    """Scores whose keys stand in the earlier rows: the numbers of the others have changed, as their VERSION says."""
    [keys] = pd.read_parquet(ROWS / name / "cells" / "cells.parquet")["score_keys"].unique()
    return [score for score in plan.experiment.scores if plan.score_keys[score] in keys.split()]


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
def test_the_same_rows_are_made_again(name: str, shared_data: Path, tmp_path: Path) -> None:
    """A whole run of the shipped experiment, from nothing: the columns of scores that have the VERSION of then.

    And the prediction, whose VERSION has risen for another column of it.
    """
    same = same_scores(make_plan(name, data=str(shared_data), storage=str(tmp_path / name)), name)
    result = sweeps.run(
        name, storage=str(tmp_path / name), data=str(shared_data), cache=str(tmp_path / "cache"), cpus=2
    )
    for table, key in (("trials", "trial_id"), ("cells", "cell_id")):
        now = sweeps.load(result.storage, table).set_index(key).sort_index()
        before = pd.read_parquet(ROWS / name / table / f"{table}.parquet").set_index(key).sort_index()
        assert now.index.equals(before.index)
        scores = [column for column in cell_columns(same) if column in before] + [
            "select.prediction",
            "score.prediction",
        ]
        assert len(scores) > 12
        np.testing.assert_allclose(
            now[scores].to_numpy(dtype=float), before[scores].to_numpy(dtype=float), rtol=SAME, atol=SAME
        )
