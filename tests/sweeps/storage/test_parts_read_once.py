"""A part gives its rows once, whoever names it: the worker, the listing, or the driver that has written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store


def row(name: str) -> dict[str, Any]:
    return {"cell_id": name, "status": "done", "attempt": 0}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [each["cell_id"] for each in rows]


def test_a_part_that_is_named_twice_gives_its_rows_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    log = RowLog(store, {})
    part, other = store.write_part("cells", [row("a"), row("b")]), store.write_part("cells", [row("c")])
    assert ids(log.absorb("cells", part)) == ["a", "b"]
    assert log.absorb("cells", part) == []
    assert ids(log.catch_up("cells")) == ["c"]
    assert log.absorb("cells", other) == log.catch_up("cells") == []
    assert [each["cell_id"] for each in log.rows("cells")] == ["a", "b", "c"]


def test_what_lay_there_at_the_start_and_what_the_driver_wrote_is_no_news(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    early = store.write_part("cells", [row("a")])
    log = RowLog(store, {})
    log.write("cells", [row("b")])
    assert log.catch_up("cells") == []
    assert [log.absorb("cells", name) for name in store.part_names("cells")] == [[], []]
    log.fold()
    assert log.absorb("cells", early) == []
    assert [each["cell_id"] for each in RowLog(store, {}).rows("cells")] == ["a", "b"]


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_damaged_part_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    log = RowLog(store, {})
    part = store.write_part("cells", [row("a")])
    (tmp_path / "parts" / "cells" / part).write_bytes(b"no rows")
    assert log.absorb("cells", part) == []
    monkeypatch.setattr(store, "get_part", pytest.fail)
    assert log.absorb("cells", part) == log.catch_up("cells") == []
