"""Rows that were removed for good: the fold leaves out what tombstones name, and nothing that was made later."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.storage.columns import as_table
from sweeps.storage.compaction import compact
from sweeps.storage.load import load, load_rows
from sweeps.storage.parquet import Tombstones, fold, merge, opened, to_bytes
from sweeps.storage.row_log import RowLog
from sweeps.storage.schema import FORGOTTEN
from sweeps.storage.store import Store

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(name: str, minute: int, status: str = "done", tried: int = 0) -> dict[str, Any]:
    return {"cell_id": name, "status": status, "attempt": tried, "finished": NOON + timedelta(minutes=minute)}


def tombstone(row: dict[str, Any], table: str = "cells") -> dict[str, Any]:
    named = {"table": table, "row_id": row["cell_id"], "attempt": row["attempt"], "finished": row["finished"]}
    return {"forgotten_id": repr(named), **named}


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from(["done", "failed"]), st.integers(0, 2)),
    max_size=14,
)


@given(ROWS, st.sets(st.integers(0, 13)), st.lists(st.integers(0, 14), max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_fold_is_that_of_the_other_rows_however_they_are_cut_and_ordered(
    drawn: list[tuple[str, int, str, int]], gone: set[int], cuts: list[int], order: random.Random
) -> None:
    rows = [row(*entry) for entry in drawn]
    named = [rows[index] for index in sorted(gone) if index < len(rows)]
    tombstones = Tombstones(tombstone(one) for one in named)
    names = [(one["cell_id"], one["attempt"], one["finished"]) for one in named]
    left = [one for one in rows if (one["cell_id"], one["attempt"], one["finished"]) not in names]
    expected = fold("cells", [as_table("cells", left)]).to_pylist()
    order.shuffle(rows)
    ends = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    parts = [to_bytes(as_table("cells", rows[low:high])) for low, high in pairwise(ends)]
    pieces = list(merge("cells", None, parts, tombstones=tombstones))
    assert [one for piece in pieces for one in piece.to_pylist()] == expected
    kept = [tombstones.without("cells", as_table("cells", rows[low:high])) for low, high in pairwise(ends)]
    assert fold("cells", kept).to_pylist() == expected


def ids(store: Store) -> list[str]:
    return [] if (table := store.read_table("cells")) is None else table["cell_id"].to_pylist()


def pandas_ids(folder: Path) -> list[str]:
    return list(pq.read_table(folder / "cells" / "cells.parquet")["cell_id"].to_pylist())


def written(folder: Path) -> Store:
    store = Store(str(folder))
    store.put("experiment.yaml", b"name: x")
    store.write_part("cells", [row("a", 0), row("b", 0, "failed")])
    store.write_part("cells", [row("b", 1, "failed", 1), row("c", 0)])
    return store


def test_readers_leave_them_out_before_and_after_the_fold(tmp_path: Path) -> None:
    store = written(tmp_path)
    RowLog(store, {}).fold()
    assert ids(store) == pandas_ids(tmp_path) == ["a", "b", "c"]
    store.write_part(FORGOTTEN, [tombstone(row("b", 0)), tombstone(row("b", 1, tried=1))])
    assert ids(store) == ["a", "c"]  # though the fold has it still
    log = RowLog(store, {})
    assert [one["cell_id"] for one in log.rows("cells", ["cell_id"])] == ["a", "c"]
    log.fold()
    assert pandas_ids(tmp_path) == ["a", "c"]
    store.write_part("cells", [row("b", 5)])
    assert load(str(tmp_path), "cells").set_index("cell_id").loc["b", "status"] == "done"
    RowLog(store, {}).fold()
    assert pandas_ids(tmp_path) == ["a", "b", "c"]
    assert load_rows(str(tmp_path), "cells", ["c", "b", "z"])["cell_id"].tolist() == ["b", "c"]
    assert load_rows(str(tmp_path), "bootstraps", ["c"]).empty


def test_an_older_row_does_not_come_back_unless_it_was_left_unnamed(tmp_path: Path) -> None:
    store = written(tmp_path)
    store.write_part(FORGOTTEN, [tombstone(row("b", 1, tried=1))])
    assert ids(store) == ["a", "b", "c"]
    store.write_part(FORGOTTEN, [tombstone(row("b", 0))])
    assert ids(store) == ["a", "c"]


@pytest.mark.parametrize("folded", [False, True])
def test_compaction_drops_rows_and_tombstones(folded: bool, tmp_path: Path) -> None:
    store = written(tmp_path)
    if folded:
        RowLog(store, {}).fold()
    store.write_part(FORGOTTEN, [tombstone(row("b", 0)), tombstone(row("b", 1, tried=1))])
    tables = {one.table: one for one in compact(str(tmp_path))}
    assert (tables["cells"].rows, tables["cells"].removed, tables[FORGOTTEN].removed) == (2, 2, 1)
    assert store.part_names("cells") == store.part_names(FORGOTTEN) == []
    assert ids(store) == pandas_ids(tmp_path) == ["a", "c"]


def test_compaction_folds_again_where_the_parts_went_before(tmp_path: Path) -> None:
    """What ended between the tombstones and the fold is done now: rows must not outlive their tombstones."""
    store = written(tmp_path)
    compact(str(tmp_path))
    store.write_part(FORGOTTEN, [tombstone(row("b", 1, tried=1))])
    assert ids(store) == ["a", "c"]
    compact(str(tmp_path))
    assert store.part_names(FORGOTTEN) == []
    assert ids(store) == pandas_ids(tmp_path) == ["a", "c"]


def test_tombstones_stay_while_a_damaged_part_may_hold_their_rows(tmp_path: Path) -> None:
    store = written(tmp_path)
    store.put("parts/cells/cut.parquet", b"PAR1 no more")
    store.write_part(FORGOTTEN, [tombstone(row("b", 0)), tombstone(row("b", 1, tried=1))])
    with pytest.warns(UserWarning, match="damaged"):
        compact(str(tmp_path))
    assert len(store.part_names(FORGOTTEN)) == 1
    assert pandas_ids(tmp_path) == ["a", "c"]


def test_tombstones_of_one_table_leave_the_others_alone() -> None:
    rows = as_table("cells", [row("a", 0)])
    assert Tombstones([tombstone(row("a", 0), "bootstraps")]).without("cells", rows).equals(rows)
    assert len(Tombstones([tombstone(row("a", 0))]).without("cells", rows)) == 0
    assert opened(to_bytes(rows)).metadata.num_rows == 1
