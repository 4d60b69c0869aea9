"""Trials: each waits for its cells, closes once with the last of them, and says of its cells what it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell
from sweeps.planning import trial_rows
from sweeps.planning.finished_rows import FinishedRows, WantedRows
from sweeps.planning.run_progress import RunProgress
from sweeps.planning.trial_rows import RowOrigin, TrialRows
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

KEYS = {"prediction": "prediction@1", "feve": "feve@1"}


def resolved(registry: Any, name: str) -> dict[str, Any]:
    return {"name": name, **{key: parameter.default for key, parameter in registry[name].parameters.items()}}


BACKBONE, READOUT = resolved(BACKBONES, "pixels"), resolved(READOUTS, "ridge")
CORE = resolved(BACKBONES, "conv")


def cell(name: str, area: str = "V1", twin: bool = False) -> Cell:
    return Cell(name, "small", area, (0,), CORE if twin else BACKBONE, READOUT, 0, {"V1": 0, "V4": 0} if twin else {})


def configuration(cells: list[Cell]) -> dict[str, Any]:
    depth = {each.area: 0 for each in cells}
    return {"backbone": cells[0].backbone, "depth": depth, "readout": READOUT, "seed": 0}


def row(cell_id: str, status: str = "done", **columns: Any) -> dict[str, Any]:
    """A finished cell."""
    base = {"cell_id": cell_id, "status": status, "recording": "small", "area": "V1", "error": None, "attempt": 0}
    return {**base, "split": "s", "score_keys": "prediction@1 feve@1", "score.prediction": 0.5, **columns}


class Bench:
    """Trials over a log on disk."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None, **wanted: Any) -> None:
        self.log = RowLog(Store(str(folder)), {})
        self.log.write("cells", rows or [])
        keys: dict[str, Any] = {"score_keys": KEYS, "scores": ("prediction",), "objectives": ("score.prediction",)}
        self.finished = FinishedRows(self.log, WantedRows(**{**keys, **wanted}))
        self.progress = RunProgress()
        self.trials = TrialRows(self.log, self.finished, self.progress, RowOrigin({"host": "here", "commit": "c"}))

    def add(self, name: str, *cells: Cell) -> list[Cell]:
        return self.trials.add(name, configuration(list(cells)), list(cells))[1]

    def finish(self, *rows: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Take up cells, close what is complete; rows of trials that were written, by id."""
        for each in rows:
            self.finished.add_cell(each)
            for trial in self.trials.completed_by(each["cell_id"]):
                self.trials.close(trial)
        self.trials.flush()
        return {each["trial_id"]: each for each in self.log.rows("trials")}


def test_a_trial_closes_with_the_last_of_its_cells_and_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.add("t", cell("a"), cell("b", "V4")) == [cell("a"), cell("b", "V4")]
    assert bench.add("u", cell("b", "V4"), cell("c")) == [cell("c")]  # b is waited for already
    assert bench.finish(row("b", area="V4")) == {}
    assert set(bench.finish(row("a"))) == {"t"}
    assert set(bench.trials.open) == {"u"}
    assert set(bench.finish(row("c"))) == {"t", "u"}
    assert bench.trials.completed_by("a") == []
    assert (bench.progress.done, bench.progress.failed) == (2, 0)
    assert not bench.trials.open


def test_finished_cells_are_not_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [row("a")])
    trial, fresh = bench.trials.add("t", configuration([cell("a")]), [cell("a"), cell("b", "V4")])
    assert (trial.missing, fresh) == ({"b"}, [cell("b", "V4")])


def test_cells_that_are_trained_together_are_fitted_together(tmp_path: Path) -> None:
    bench = Bench(tmp_path, [row("a", attempt=2)])
    cells = [cell("a", twin=True), cell("b", "V4", twin=True)]
    assert bench.add("t", *cells) == cells
    assert bench.finished.cells == {}
    assert bench.finished.attempts == {"a": 3}
    done = Bench(tmp_path / "done", [row("a"), row("b")])
    assert done.add("t", *cells) == []
    assert set(done.finished.cells) == {"a", "b"}


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (("done", "done"), "done"),
        (("done", "pruned"), "pruned"),
        (("pruned", "failed"), "failed"),
        (("failed", "done"), "failed"),
    ],
)
def test_the_worst_of_its_cells_is_what_became_of_it(statuses: tuple[str, str], status: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, halving="h")
    bench.add("t", cell("a"), cell("b", "V4"))
    errors = [f"of {each}" if each == "failed" else None for each in statuses]
    first, second = (
        row(name, each, area=area, error=error, seconds=2.0)
        for name, area, each, error in zip("ab", ("V1", "V4"), statuses, errors, strict=True)
    )
    found = bench.finish(first, second)["t"]
    texts = [f"small/{area}: {error}" for area, error in zip(("V1", "V4"), errors, strict=True) if error]
    assert (found["status"], found["error"]) == (status, "; ".join(texts) or None)
    assert found["halving"] == ("h" if status == "pruned" else None)
    assert found.get("score.prediction") == (None if status == "failed" else 0.5)
    assert (found["seconds"], found["host"], found["commit"], found["split"]) == (4.0, "", "c", "s")
    assert (found["cell.small.V1"], found["cell.small.V4"]) == ("a", "b")
    assert bench.progress.failed == (status == "failed")
    assert bench.progress.pruned == (status == "pruned")


def test_a_trial_holds_the_scores_that_all_of_its_cells_hold(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add("t", cell("a"), cell("b", "V4"))
    found = bench.finish(row("a"), row("b", score_keys="prediction@1 feve@0"))["t"]
    assert found["score_keys"].split() == ["prediction@1"]


def test_scores_that_are_not_known_here_stay_where_all_cells_have_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add("t", cell("a"), cell("b", "V4"))
    bench.add("u", cell("a"), cell("c", "V4"))
    lab = {"score_keys": "prediction@1 lab@3", "score.lab": 1.0, "score.own": 4.0}
    other = {"score_keys": "prediction@1 lab@3 zoo@1", "score.lab": 3.0}
    rows = bench.finish(row("a", **lab), row("b", **{**other, "area": "V4"}), row("c"))
    assert rows["t"]["score_keys"].split() == ["lab@3", "prediction@1"]
    assert rows["t"]["score.lab"] == 2.0
    assert "score.own" not in rows["t"]
    assert rows["u"]["score_keys"].split() == ["prediction@1"]
    assert rows["u"]["score.lab"] is None


def test_attempts_of_a_trial_go_on_from_its_earlier_row(tmp_path: Path) -> None:
    log = RowLog(Store(str(tmp_path)), {})
    log.write("trials", [{"trial_id": "t", "status": "done", "score_keys": "feve@1", "attempt": 4, "config": "{}"}])
    bench = Bench(tmp_path)
    bench.add("t", cell("a"))
    assert bench.finish(row("a"))["t"]["attempt"] == 5


@pytest.mark.parametrize(("rows", "seconds", "due"), [(1, 100.0, False), (2, 100.0, True), (1, -1.0, True)])
def test_rows_are_written_when_there_are_many_or_after_a_while(
    rows: int, seconds: float, due: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_rows, "FLUSH_ROWS", 2)
    monkeypatch.setattr(trial_rows, "FLUSH_SECONDS", seconds)
    bench = Bench(tmp_path)
    for number in range(rows):
        bench.add(f"t{number}", cell(f"a{number}"))
        bench.finished.add_cell(row(f"a{number}"))
        [trial] = bench.trials.completed_by(f"a{number}")
        bench.trials.close(trial)
    assert bench.trials.flush_if_due() is due
    assert len(list(bench.log.rows("trials"))) == (rows if due else 0)
    bench.trials.flush()
    bench.trials.flush()
    assert len(bench.log.store.part_names("trials")) == 1  # and not once more
