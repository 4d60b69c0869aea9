"""What a readout is fitted on and what it predicts, by split: the two are never swapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inline import plan_of

from sweeps.execution.cell_runner import CellRunner
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.cell_fit import CellFit
from sweeps.recordings.splits import Fold

FOLD = Fold(np.array([0, 5]), np.array([1, 2, 3]), np.array([4]), np.array([6]))


def test_select_is_predicted_from_train_and_report_from_train_and_select() -> None:
    assert FOLD.held_out("select").tolist() == [1, 2, 3]
    assert FOLD.held_out("report").tolist() == [4]
    assert FOLD.fitted_on("select").tolist() == [0, 5]
    assert FOLD.fitted_on("report").tolist() == [0, 1, 2, 3, 5]
    assert FOLD.fitted_on("select", refit=False).tolist() == FOLD.fitted_on("report", refit=False).tolist() == [0, 5]


def blank(units: int, stimuli: int = 7) -> CellFit:
    held, base = ({split: np.full((stimuli, units), np.nan) for split in ("select", "report")} for _ in range(2))
    return CellFit(held, base, {"select": {}, "report": {}})


@pytest.mark.parametrize(("split", "rows"), [("select", [1, 2, 3]), ("report", [4])])
def test_a_fold_fills_the_rows_that_it_holds_out(split: str, rows: list[int]) -> None:
    fit = blank(2)
    fit.add_fold(FOLD, split, np.array([0.5, np.nan]), {"fit": np.arange(14.0).reshape(7, 2)}, 1)
    other = "report" if split == "select" else "select"
    assert np.isnan(fit.held_out[other]).all()
    assert np.isnan(fit.baseline[other]).all()
    expected = np.full((7, 2), np.nan)
    expected[rows, 0], expected[rows, 1] = 2.0 * np.array(rows), 0.0  # a unit without a response to learn from has 0
    np.testing.assert_array_equal(fit.held_out[split], expected)
    assert np.flatnonzero(~np.isnan(fit.baseline[split][:, 0])).tolist() == rows


def test_scores_of_a_split_see_its_own_predictions(experiment: dict[str, Any], tmp_path: Any) -> None:
    space = {"backbone": "pixels", "depth": {"V1": [0]}, "readout": {"ridge": {"pool": 4}}}
    plan = plan_of({**experiment, "space": space}, tmp_path)
    runner = CellRunner(WorkerData(plan.context()))
    [cell] = plan.planner.cells(next(iter(plan.space.grid())))
    fit = blank(4, 60)
    for split, rows, value in (("select", [3, 8], 1.0), ("report", [5], 2.0)):
        fit.held_out[split][rows], fit.baseline[split][rows] = value, value + 10
    for split, rows, value in (("select", [3, 8], 1.0), ("report", [5], 2.0)):
        view = runner._view([cell], cell, fit, split)
        assert (view.split, view.rows.tolist()) == (split, rows)
        assert set(view.predicted.ravel()) == {value}
        assert set(view.baseline.ravel()) == {value + 10}
