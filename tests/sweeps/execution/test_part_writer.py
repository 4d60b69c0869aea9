"""Rows that a worker cannot write itself: the driver writes them, once."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

import sweeps
from sweeps.execution import part_writer
from sweeps.execution.nodes import node_troubles
from sweeps.execution.nodes.node_troubles import NodeTroubles
from sweeps.execution.part_writer import PartWriter
from sweeps.storage import retry
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

ROWS: list[dict[str, Any]] = [{"cell_id": "a", "status": "done"}, {"cell_id": "b", "status": "done"}]


class Denied(Store):
    """A store that this node may not write to, or whose answers do not arrive."""

    arrives, tries = False, 0
    error = PermissionError("Access Denied")

    def fail(self) -> None:
        """Try, and fail."""
        self.tries += 1
        raise self.error

    def put_part(self, table: str, name: str, content: bytes) -> None:
        self.tries += 1
        if self.arrives:
            super().put_part(table, name, content)
        raise self.error


@pytest.fixture
def writer(tmp_path: Path) -> PartWriter:
    """The writer of a node that is denied."""
    found = PartWriter(str(tmp_path / "rows"))
    found.store = Denied(found.store.uri)
    return found


@pytest.mark.parametrize("arrives", [False, True])
def test_rows_of_a_node_that_is_denied_are_written_by_the_driver_once(
    writer: PartWriter, tmp_path: Path, arrives: bool
) -> None:
    assert isinstance(writer.store, Denied)
    writer.store.arrives = arrives
    report = writer.report({"bootstraps": [], "cells": ROWS})
    assert (report["part"], len(report["handed"])) == ("", 1)
    assert report["trouble"].startswith(f"cannot write {tmp_path / 'rows'}: access denied")
    assert report["node"]
    assert writer.store.tries == 2  # the second one with credentials that were read anew
    row_log = RowLog(Store(str(tmp_path / "rows")), {})
    for handed in report["handed"]:
        assert len(row_log.take_over(*handed)) == (0 if arrives else 2)
        assert row_log.take_over(*handed) == []
    row_log.fold()
    assert sorted(sweeps.load(row_log.store.uri, "cells")["cell_id"]) == ["a", "b"]
    assert len(row_log.store.part_names("cells")) == 1
    assert writer.report({})["handed"] == []


def test_an_endpoint_that_a_node_does_not_reach_is_tried_for_a_while(
    writer: PartWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(writer.store, Denied)
    monkeypatch.setattr(Denied, "error", ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
    monkeypatch.setattr(Denied, "put_part", lambda self, *part: self.patiently(lambda: Denied.fail(self)))
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    writer.write_seconds = 0.1
    report = writer.report({"cells": ROWS})
    assert "does not answer" in report["trouble"]
    assert len(report["handed"]) == 1
    assert writer.store.tries > 2


def test_who_could_not_write_tries_again_later(writer: PartWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(writer.store, Denied)
    writer.report({"cells": ROWS})
    writer.report({"cells": ROWS})
    assert writer.store.tries == 2
    monkeypatch.setattr(writer, "_again_at", 0.0)
    monkeypatch.setattr(Denied, "put_part", Store.put_part)
    report = writer.report({"cells": ROWS})
    assert report["part"]
    assert (report["trouble"], report["node"], report["handed"]) == ("", "", [])


def test_what_is_no_error_of_the_store_is_raised(writer: PartWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Denied, "error", OSError(errno.EINVAL, "invalid"))
    with pytest.raises(OSError, match="invalid"):
        writer.report({"cells": ROWS})


def test_a_worker_says_why_before_it_gives_a_pack_back_and_keeps_it_longer_every_time(
    writer: PartWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(part_writer.time, "sleep", pauses.append)
    for _ in range(8):
        first, last = writer.give_back("stale file handle"), writer.give_back("stale file handle")
        assert (first["done"], first["trouble"]) == (False, "stale file handle")
        assert (last["done"], last["given_back"]) == (True, True)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    writer.report({})
    writer.give_back("again")
    writer.give_back("again")
    assert pauses[-1] == 1.0


def test_a_write_takes_less_than_the_limit_of_a_pack(tmp_path: Path) -> None:
    short, usual = PartWriter(str(tmp_path), 0.05), PartWriter(str(tmp_path), None)
    assert short.write_seconds + short.store.put_seconds < 3.0
    assert (usual.write_seconds, usual.store.put_seconds) == (30.0, 60.0)


def test_a_trouble_is_said_once_a_minute_for_each_node(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    troubles = NodeTroubles(lines.append)
    for node in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
        troubles.note(node, "cannot write s3://lab: access denied")
    assert lines == [f"node 10.0.0.{n}: cannot write s3://lab: access denied" for n in (1, 2)]
    monkeypatch.setattr(node_troubles, "SAY_SECONDS", 0.0)
    troubles.note("10.0.0.1", "cannot write s3://lab: access denied")
    assert len(lines) == 3
