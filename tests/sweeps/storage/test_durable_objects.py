"""Rows are on the disk before they count: a file is synced whole, then takes its place, in this order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.storage.columns import as_table
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

ROWS: list[dict[str, Any]] = [{"cell_id": "a", "status": "done", "attempt": 0}]


def write(store: Store) -> None:
    with store.writing("a/b") as file:
        file.write(b"first")
        file.write(b"second")


WRITERS: dict[str, Callable[[Store], Any]] = {
    "put": lambda store: store.put("parts/cells/x.parquet", b"content"),
    "writing": write,
    "write_part": lambda store: store.write_part("cells", ROWS),
    "write_fold": lambda store: store.write_fold("cells", as_table("cells", ROWS), []),
    "row_log": lambda store: RowLog(store, {}).write("cells", ROWS),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_is_synced_whole_before_it_takes_its_place(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, int, int]] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append(("synced", status.st_ino, status.st_size))
        sync(descriptor)

    def placed(source: Any, target: Any) -> None:
        status = os.stat(source)
        events.append(("placed", status.st_ino, status.st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", placed)
    WRITERS[writer](Store(str(tmp_path)))
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    status = file.stat()
    assert status.st_size > 0
    own = [event for event in events if event[1] == status.st_ino]
    assert own == [("synced", status.st_ino, status.st_size), ("placed", status.st_ino, status.st_size)]
