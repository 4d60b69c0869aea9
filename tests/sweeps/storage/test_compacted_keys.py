"""`compact` believes no list of names: a part goes only when the fold that was read back holds every row of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from parts import read_part

from sweeps.storage.columns import as_table
from sweeps.storage.compaction import compact
from sweeps.storage.store import Store


def row(name: str) -> dict[str, Any]:
    return {"cell_id": name, "status": "done", "attempt": 0}


@pytest.mark.parametrize("lost", [["b"], ["a", "b"]], ids=str)
def test_a_part_stays_whose_rows_the_fold_lacks_though_it_names_the_part(lost: list[str], tmp_path: Path) -> None:
    """As when a driver of another version has written the fold, or a disk has kept an earlier one."""
    store = Store(str(tmp_path))
    store.put("experiment.yaml", b"name: small\n")
    whole, broken = store.write_part("cells", [row("c")]), store.write_part("cells", [row("a"), row("b")])
    kept = [row(name) for name in "abc" if name not in lost]
    store.write_fold("cells", as_table("cells", kept), [whole, broken])
    [compacted] = compact(store.uri)
    assert (compacted.rows, compacted.removed, compacted.damaged) == (len(kept), 1, 0)
    assert store.part_names("cells") == [broken]
    assert read_part(store, "cells", broken)["cell_id"].to_pylist() == ["a", "b"]
