"""A cell whose row comes twice, from two runs or a pack that was taken for dead, counts once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline import plan_of

from sweeps.commands.run import scheduler_of
from sweeps.experiment.cells import Cell
from sweeps.planning.packs import Pack
from sweeps.planning.plan import Plan
from sweeps.planning.scheduler import Scheduler
from sweeps.storage.columns import Outcome, cell_row
from sweeps.storage.load import load
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

CELLS = 4


@pytest.fixture
def plan(experiment: dict[str, Any], tmp_path: Path) -> Plan:
    """Two depths of two areas: four trials."""
    depths = {"V1": [0, 1], "V4": [0, 1]}
    space = {"backbone": "efficientnet-lite0", "depth": depths, "readout": {"ridge": {"pool": 4}}}
    return plan_of({**experiment, "space": space, "scores": ["prediction"]}, tmp_path)


def begun(plan: Plan) -> tuple[Scheduler, Store, str, Pack]:
    """A scheduler whose one pack holds all cells and runs."""
    store = Store(plan.storage)
    sweep = scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), False)
    sweep.pack_size = lambda cells: 100
    first = sweep.next_pack()
    assert first is not None
    assert (len(first[1].cells), first[1].attempt, first[1].failures) == (CELLS, 0, 0)
    return sweep, store, *first


def row(plan: Plan, cell: Cell, status: str = "done", value: float = 0.5) -> dict[str, Any]:
    """The row of a cell, as a worker writes it."""
    outcome = Outcome(status, None, 0, plan.planner.split_text(cell.recording), plan.score_keys.values())
    origin = {"data_fingerprint": plan.planner.fingerprint(cell.recording), "seconds": value}
    return cell_row(cell, outcome, origin, {"select.prediction": value, "score.prediction": value})


def test_a_row_that_comes_again_changes_nothing(plan: Plan) -> None:
    sweep, store, token, pack = begun(plan)
    for value in (0.25, 0.75):
        sweep.absorb(store.write_part("cells", [row(plan, cell, value=value) for cell in pack.cells]))
        assert (sweep.progress.cells_done, sweep.progress.done, sweep.progress.trials) == (CELLS, 4, 4)
        assert {entry["score.prediction"] for entry in sweep.finished_rows.cells.values()} == {0.25}
    sweep.done(token)
    assert sweep.next_pack() is None
    assert sweep.finished
    sweep.trials.flush()
    assert load(plan.storage)["score.prediction"].tolist() == [0.25] * 4


def test_a_part_that_is_named_twice_counts_once(plan: Plan) -> None:
    sweep, store, token, pack = begun(plan)
    part = store.write_part("cells", [row(plan, cell) for cell in pack.cells])
    for _ in range(2):
        sweep.absorb(part)
    sweep.done(token)
    assert (sweep.progress.cells_done, sweep.progress.done, sweep.progress.failed) == (CELLS, 4, 0)


def test_a_row_that_is_done_takes_the_place_of_a_failed_one_and_not_the_other_way(plan: Plan) -> None:
    sweep, store, _, pack = begun(plan)
    cell = pack.cells[0]
    for status in ("failed", "done", "failed"):
        sweep.absorb(store.write_part("cells", [row(plan, cell, status)]))
    assert sweep.finished_rows.cells[cell.cell_id]["status"] == "done"
    assert (sweep.progress.cells_failed, sweep.progress.cells_done) == (1, 1)


def test_what_a_pack_did_not_deliver_is_packed_again(plan: Plan) -> None:
    sweep, store, token, pack = begun(plan)
    sweep.absorb(store.write_part("cells", [row(plan, pack.cells[1])]))
    sweep.done(token)
    again = sweep.next_pack()
    assert again is not None
    assert again[1].cells == (pack.cells[0], *pack.cells[2:])
    assert not sweep.finished


def test_rows_of_other_runs_are_looked_for_now_and_then(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing costs a request: not for every pack, but before what others have fitted meanwhile is fitted again."""
    log = RowLog(Store(plan.storage), plan.columns())
    sweep = scheduler_of(plan, log, False, lambda: True)
    sweep.pack_size = lambda cells: 1
    listed: list[str] = []
    catch_up = log.catch_up
    monkeypatch.setattr(log, "catch_up", lambda table: [listed.append(table), *catch_up(table)][1:])
    first = sweep.next_pack()
    assert first is not None
    other = next(cell for pack in sweep.queue for cell in pack.cells)
    Store(plan.storage).write_part("cells", [row(plan, other)])
    assert sweep.next_pack() is not None
    assert listed == ["cells"]
    sweep._polled_at -= 2.0
    rest = [pack.cells for _, pack in iter(sweep.next_pack, None)]
    assert 2 <= len(listed) <= 3
    assert sum(map(len, rest)) <= CELLS - 2
    assert sweep.finished_rows.cells.keys() == {other.cell_id}
