"""What the environment does to packs: tried again, never a failed row, and not for ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from inline import plan_of

from sweeps.commands.run import check_complete, scheduler_of
from sweeps.errors import InputError, Unavailable
from sweeps.experiment.cells import Cell
from sweeps.planning import scheduler as module
from sweeps.planning.failures import MOST_LOSSES, ProcessFailure, failure_of
from sweeps.planning.packs import Pack
from sweeps.planning.scheduler import Scheduler
from sweeps.storage.columns import Outcome, cell_row
from sweeps.storage.load import load
from sweeps.storage.provenance import provenance
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store, part_of

LOSSES = [ProcessFailure.NODE, ProcessFailure.ENDED, ProcessFailure.RAY, ProcessFailure.OTHERS]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("The actor died because its node has died.", ProcessFailure.NODE),
        ("Worker exits with an exit code 1. The process receives a SIGTERM.", ProcessFailure.ENDED),
        ("ray.exceptions.ActorUnavailableError: The actor is temporarily unavailable", ProcessFailure.RAY),
        ("ray.exceptions.OutOfDiskError: Local disk is full", ProcessFailure.RAY),
        ("Worker unexpectedly exits with a connection error code 2. End of file.", ProcessFailure.PROCESS),
        ("ActorOutOfMemoryError: the process died: 1 worker(s) were killed", ProcessFailure.MEMORY),
        ("ActorOutOfMemoryError: killed; (pid=1, actual memory used=2.50GB, worker ID=a)", ProcessFailure.MEMORY),
        ("ActorOutOfMemoryError: killed; (pid=1, actual memory used=0.31GB, worker ID=a)", ProcessFailure.OTHERS),
        (
            "ActorOutOfMemoryError: killed; (pid=1, memory used=0.31GB, a); (pid=2, memory used=4.0GB, b)",
            ProcessFailure.MEMORY,
        ),
    ],
)
def test_what_ended_a_process(error: str, failure: ProcessFailure) -> None:
    assert failure_of(error) is failure


@pytest.fixture
def sweep(experiment: dict[str, Any], tmp_path: Path) -> Scheduler:
    """The scheduler of a small sweep in packs of four, of which no failure is forgiven."""
    plan = plan_of({**experiment, "compute": {"max_failures": 0}}, tmp_path)
    found = scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), retry_failed=False)
    found.pack_size = lambda cells: 4
    return found


def taken(sweep: Scheduler) -> tuple[str, Pack]:
    """The next pack, which there is."""
    found = sweep.next_pack()
    assert found is not None
    return found


def rows_of(sweep: Scheduler, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Rows as a worker makes them."""
    keys = list(sweep.finished_rows.wanted.keys)
    split = sweep.planner.split_text(cells[0].recording)
    origin = {"data_fingerprint": sweep.planner.fingerprint(cells[0].recording), "seconds": 1.0, **provenance("", None)}
    return [cell_row(cell, Outcome("done", None, 0, split, keys), origin, {}) for cell in cells]


def finish(sweep: Scheduler) -> list[Pack]:
    """Let every pack that is left give its rows; the packs."""
    packs = []
    while (found := sweep.next_pack()) is not None:
        token, pack = found
        packs.append(pack)
        sweep.absorb("", [("cells", *part_of("cells", rows_of(sweep, pack.cells)))])
        sweep.done(token)
    return packs


@pytest.mark.parametrize("failure", LOSSES)
def test_a_pack_that_its_environment_ends_again_and_again_is_left_unfinished(
    sweep: Scheduler, failure: ProcessFailure
) -> None:
    token, first = taken(sweep)
    for _ in range(MOST_LOSSES):
        sweep.failed(token, "gone", failure)
        token, again = taken(sweep)
        assert (again.cells, again.attempt, again.failures) == (first.cells, 0, 0)
    sweep.failed(token, "gone", failure)
    assert [pack.cells for pack, _ in sweep.unfinished] == [first.cells]
    assert all(pack.cells != first.cells for pack in finish(sweep))
    assert sweep.finished
    assert (sweep.progress.cells_failed, sweep.progress.failed) == (0, 0)
    with pytest.raises(Unavailable, match=r"4 cells are not finished .*21 times in a row.*the same command goes on"):
        check_complete(sweep)


def test_progress_forgives_what_was_lost_before(sweep: Scheduler) -> None:
    token, pack = taken(sweep)
    for _ in range(MOST_LOSSES):
        sweep.failed(token, "gone", ProcessFailure.ENDED)
        token, pack = taken(sweep)
    sweep.absorb("", [("cells", *part_of("cells", rows_of(sweep, pack.cells[:1])))])
    sweep.failed(token, "gone", ProcessFailure.ENDED)
    token, rest = taken(sweep)
    assert (rest.cells, rest.losses) == (pack.cells[1:], 1)
    sweep.failed(token, "gone", ProcessFailure.ENDED)
    finish(sweep)
    check_complete(sweep)
    assert sweep.progress.cells_failed == 0


def test_a_death_after_progress_does_not_count(sweep: Scheduler) -> None:
    token, pack = taken(sweep)
    for left in (3, 2, 1):
        sweep.absorb("", [("cells", *part_of("cells", rows_of(sweep, pack.cells[:1])))])
        sweep.failed(token, "the process died")
        token, pack = taken(sweep)
        assert (len(pack.cells), pack.attempt, pack.failures) == (left, 0, 0)
    sweep.failed(token, "the process died")  # max_failures: 0
    assert sweep.progress.cells_failed == 1


def test_a_pack_that_is_given_back_is_parted_and_does_not_count(sweep: Scheduler) -> None:
    token, pack = taken(sweep)
    sweep.returned(token, "stale file handle")
    parts = [found for found in sweep.queue if all(cell in pack.cells for cell in found.cells)]
    assert [len(part.cells) for part in parts] == [2, 2]
    assert {(part.attempt, part.failures, part.losses) for part in parts} == {(0, 0, 0)}
    finish(sweep)
    check_complete(sweep)
    assert set(load(sweep.row_log.store.uri, "cells")["status"]) == {"done"}


def test_what_is_given_back_for_longer_than_the_patience_is_left_unfinished(
    sweep: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    token, pack = taken(sweep)
    while token and now <= 3660:
        sweep.returned(token, "stale file handle")
        now += 30.0
        mine = [found for found in sweep.queue if all(cell in pack.cells for cell in found.cells)]
        token = ""
        if mine:
            sweep.queue.remove(mine[0])
            sweep.running[token := f"at {now}"] = mine[0]
    assert {why for _, why in sweep.unfinished} == {
        "stale file handle (for 60 minutes: compute.storage_patience_minutes)"
    }
    with pytest.raises(Unavailable, match="stale file handle"):
        check_complete(sweep)


def test_a_folder_that_nodes_do_not_share_is_named(sweep: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ABSORB_PAUSE", 0.0)
    with pytest.raises(InputError, match=r"storage = .*not shared by the nodes"):
        sweep.absorb("0123.parquet")


def test_a_part_that_a_shared_folder_shows_late_is_found(sweep: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pack = taken(sweep)
    name, content = part_of("cells", rows_of(sweep, pack.cells))
    store = Store(sweep.row_log.store.uri)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: store.put_part("cells", name, content))
    sweep.absorb(name)
    assert sweep.progress.cells_done == 4
