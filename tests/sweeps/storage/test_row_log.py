"""The row log: how often it folds."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps.storage import row_log
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

SLOW = 0.1


class SlowStore(Store):
    """A store that takes its time to write a fold, and counts."""

    folds = 0

    def write_fold(self, table: str, rows: pa.Table, parts: set[str]) -> None:  # type: ignore[override]
        time.sleep(SLOW)
        self.folds += 1
        super().write_fold(table, rows, parts)


@pytest.mark.parametrize(("pause", "again"), [(0.0, 1), (50.0, 0)])
def test_slow_folds_are_far_apart(pause: float, again: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_log, "FOLD_SECONDS", 0.0)
    monkeypatch.setattr(row_log, "FOLD_PAUSE", pause)
    store = SlowStore(str(tmp_path))
    held = RowLog(store, {})
    held.fold()
    before = store.folds
    held.write("cells", [{"cell_id": "a", "status": "done"}])
    held.fold_if_due()
    assert store.folds - before == again


def test_what_another_driver_has_left_out_of_the_fold_comes_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    own, other = RowLog(store, {}), RowLog(store, {})
    own.write("cells", [{"cell_id": "a", "status": "done"}])
    own.fold()
    other.write("cells", [{"cell_id": "b", "status": "done"}])
    other.fold()
    own.write("cells", [{"cell_id": "c", "status": "done"}])
    own.fold()
    assert [row["cell_id"] for row in own.rows("cells", ["cell_id"])] == ["a", "b", "c"]
    assert store.read_fold("cells")[1] == set(store.part_names("cells"))
    assert [row["cell_id"] for row in own.catch_up("cells")] == ["b"]
