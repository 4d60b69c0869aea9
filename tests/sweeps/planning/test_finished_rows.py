"""Finished rows: which rows are final, and what those that are not have already."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import NOTHING_EARLIER, EarlierScores
from sweeps.planning.finished_rows import FinishedRows, WantedRows
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

KEYS = {"prediction": "p@2", "dimensionality": "d@1", "feve": "f@1"}
WANTED = ("prediction", "feve")


def wanted(**changes: Any) -> WantedRows:
    """Two wanted scores of three that there are."""
    return WantedRows(**{"score_keys": KEYS, "scores": WANTED, "objectives": ("select.prediction",), **changes})


def row(keys: str, status: str = "done", **columns: Any) -> dict[str, Any]:
    """The columns of a cell row that decide whether it is final."""
    return {
        "cell_id": "a",
        "status": status,
        "score_keys": keys,
        "error": None,
        "halving": None,
        "attempt": 3,
        **columns,
    }


@pytest.mark.parametrize(
    ("found", "changes", "final"),
    [
        (row("f@1 p@2"), {}, True),
        (row("d@1 f@1 p@2"), {}, True),
        (row("p@2"), {}, False),
        (row("f@1 p@1"), {}, False),
        (row("", "failed", error="x"), {}, True),
        (row("", "failed", error="x"), {"retry_failed": True}, False),
        (row("f@1 p@2", error="feve: x"), {}, True),
        (row("f@1 p@2", error="feve: x"), {"retry_failed": True}, False),
        (row("f@1 p@2", "pruned", halving="h"), {"halving": "h"}, True),
        (row("f@1 p@2", "pruned", halving="h"), {"halving": "other"}, False),
        (row("p@2", "pruned", halving="h"), {"halving": "h"}, False),
    ],
)
def test_what_is_final(found: Mapping[str, Any], changes: dict[str, Any], final: bool) -> None:
    assert wanted(**changes).is_final(found) is final


def read(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> tuple[FinishedRows, dict[str, EarlierScores]]:
    """Finished rows of a log, and what its unfinished cells have."""
    log = RowLog(Store(str(folder)), {})
    log.write("cells", rows)
    finished = FinishedRows(log, wanted(**changes))
    cells = [Cell(each["cell_id"], "r", "V1", (0,), {}, {}, 0, {}) for each in rows]
    return finished, finished.earlier(cells)


def test_a_done_row_that_lacks_a_score_keeps_what_it_has_under_the_present_keys(tmp_path: Path) -> None:
    lacking = row("d@0 p@2", error="dimensionality: old; prediction: own", seconds=2.0, units=5)
    lacking |= {"select.prediction": 0.5, "score.prediction": None, "select.dimensionality": 0.9}
    finished, earlier = read(
        tmp_path, [lacking, row("f@1 p@2", cell_id="b"), row("", "failed", cell_id="c", error="x")]
    )
    assert set(finished.cells) == {"b", "c"}
    assert finished.attempts == {"a": 4}
    [(cell_id, scores)] = earlier.items()
    assert cell_id == "a"
    assert (scores.names, scores.done, scores.seconds, scores.facts["units"]) == (("prediction",), True, 2.0, 5)
    assert scores.error == "prediction: own"
    assert scores.numbers["select.prediction"] == 0.5
    assert "select.dimensionality" not in scores.numbers
    assert (scores.with_wanted(WANTED), scores.missing(WANTED)) == (["prediction", "feve"], ["feve"])


def test_a_row_whose_error_is_tried_again_gives_nothing_but_its_names_and_time(tmp_path: Path) -> None:
    _, earlier = read(tmp_path, [row("d@1 f@1 p@2", error="feve: x", seconds=2.0)], retry_failed=True)
    names = ("prediction", "dimensionality", "feve")
    assert earlier["a"] == EarlierScores(names, seconds=2.0)
    assert set(earlier["a"].missing(WANTED)) == set(names)


def test_a_cell_without_a_row_is_asked_for_the_wanted_scores() -> None:
    assert not NOTHING_EARLIER.done
    assert NOTHING_EARLIER.missing(WANTED) == NOTHING_EARLIER.with_wanted(WANTED)
    assert set(NOTHING_EARLIER.missing(WANTED)) == set(WANTED)


def test_a_finished_cell_that_is_reopened_lacks_a_score_again(tmp_path: Path) -> None:
    done = row("f@1 p@2", **{"select.prediction": 0.5, "score.prediction": 0.25})
    finished, earlier = read(tmp_path, [done, row("", "failed", cell_id="c", error="x")])
    assert earlier == {}
    finished.reopen(["a", "c", "nowhere"])
    assert (set(finished.cells), finished.attempts) == (set(), {"a": 4, "c": 4})
    cells = [Cell(name, "r", "V1", (0,), {}, {}, 0, {}) for name in "ac"]
    scores = finished.earlier(cells)
    assert set(scores) == {"a"}
    assert scores["a"].numbers["score.prediction"] == 0.25
    assert math.isnan(scores["a"].numbers["select.feve"] or math.nan)
