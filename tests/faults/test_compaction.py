"""`sweeps compact`: every row stays, wherever it is ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import sweeps
from sweeps.cli import app
from sweeps.errors import InputError
from sweeps.storage.compaction import compact
from sweeps.storage.row_log import RowLog
from sweeps.storage.run_lock import FOLDER, RunLock
from sweeps.storage.store import COMPACTED, Store

WRITES = ("put", "create", "remove", "write_fold", "get", "names", "get_part")
"""What touches the storage."""


class Crash(BaseException):
    """The end of a process."""


def row(number: int, attempt: int = 0, status: str = "done") -> dict[str, Any]:
    return {"cell_id": f"{number:03d}", "status": status, "attempt": attempt, "select.prediction": number / 10}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sweep with a fold, parts that it holds, newer ones, and a cell that was done at its second attempt."""
    found = Store(str(tmp_path / "rows"))
    found.put("experiment.yaml", b"name: small\n")
    held = RowLog(found, {})
    for start in range(0, 12, 4):
        held.write("cells", [row(number) for number in range(start, start + 4)])
    held.write("cells", [row(12, status="failed")])
    held.fold()
    held.write("cells", [row(12, 1), row(13)])
    held.write("trials", [{"trial_id": "t", "status": "done", "attempt": 0}])
    return found


def contents(store: Store) -> dict[str, pd.DataFrame]:
    return {table: sweeps.load(store.uri, table) for table in ("cells", "trials")}


def same(found: dict[str, pd.DataFrame], wanted: dict[str, pd.DataFrame]) -> bool:
    return all(found[table].equals(wanted[table]) for table in wanted)


def test_parts_go_and_rows_stay(store: Store) -> None:
    before = contents(store)
    assert len(before["cells"]) == 14
    found = {each.table: each for each in compact(store.uri)}
    assert (found["cells"].rows, found["cells"].removed, found["cells"].damaged) == (14, 5, 0)
    assert store.part_names("cells") == store.part_names("trials") == []
    assert same(contents(store), before)
    assert store.names(FOLDER) == []
    assert compact(store.uri) == []

    held = RowLog(store, {})  # a run goes on from there, and is compacted again
    assert len(list(held.rows("cells"))) == 14
    held.write("cells", [row(14)])
    held.fold()
    compact(store.uri)
    assert len(sweeps.load(store.uri, "cells")) == 15


def crashing(monkeypatch: pytest.MonkeyPatch, turn: int, after: bool) -> list[str]:
    """Let the process end at the storage operation of this number, before or after it takes place; what was done."""
    done: list[str] = []
    dead: list[bool] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(Store, name)

        def call(self: Store, *given: Any, **options: Any) -> Any:
            if dead:
                raise Crash  # a dead process does nothing
            done.append(name)
            number = len(done)
            if number < turn or after:
                found = real(self, *given, **options)
            if number == turn:
                dead.append(True)
                raise Crash
            return found

        return call

    for name in WRITES:
        monkeypatch.setattr(Store, name, counted(name))
    return done


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_point_loses_nothing(after: bool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, uri, crashes = contents(store), store.uri, 0
    snapshot = {path: path.read_bytes() for path in Path(uri).rglob("*") if path.is_file()}
    while True:
        for path in [path for path in Path(uri).rglob("*") if path.is_file()]:
            path.unlink()
        for path, content in snapshot.items():
            path.write_bytes(content)
        with monkeypatch.context() as patch:
            done = crashing(patch, crashes + 1, after)
            try:
                compact(uri)
                break
            except Crash:
                crashes += 1
        assert same(contents(store), before), done
        for path in Path(uri, FOLDER).glob("*"):
            path.unlink()  # in truth its process would be gone; here it is this one
        compact(uri)
        assert same(contents(store), before), done
        assert store.part_names("cells") == []
    assert crashes > 20


def test_what_is_removed_half_way_is_removed_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = contents(store), Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet" and len(store.part_names("cells")) == 3:
            raise KeyboardInterrupt
        real(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            compact(store.uri)
    assert len(store.part_names("cells")) == 3
    assert same(contents(store), before)
    compact(store.uri)
    assert same(contents(store), before)
    assert store.part_names("cells") == []


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_damaged_part_stays_and_a_damaged_fold_takes_no_part_with_it(store: Store) -> None:
    first = min(store.read_fold("cells")[1])
    broken = Path(store.uri, "parts", "cells", first)
    broken.write_bytes(broken.read_bytes()[:-9])
    found = CliRunner().invoke(app, ["compact", store.uri])
    assert "cells: 14 rows in one object, 4 parts removed, 1 damaged left" in found.output
    assert store.part_names("cells") == [first]


def test_a_fold_that_is_damaged_after_compaction_is_an_error_that_names_it(store: Store) -> None:
    compact(store.uri)
    assert COMPACTED in store.names("cells")
    fold = Path(store.uri, "cells", "cells.parquet")
    fold.write_bytes(fold.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cells\.parquet: is damaged, and its parts were compacted into it"):
        sweeps.load(store.uri, "cells")


def test_it_is_refused_beside_a_run_and_where_no_sweep_is(store: Store, tmp_path: Path) -> None:
    with RunLock(store, "run"), pytest.raises(InputError, match=r"a run .* is at work here"):
        compact(store.uri)
    assert len(store.part_names("cells")) == 5
    with pytest.raises(InputError, match="no sweep has written here"):
        compact(str(tmp_path / "nothing"))
