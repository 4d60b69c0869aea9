"""The ledger: how often it folds."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest

from sweeps import ledger
from sweeps.ledger import Ledger
from sweeps.storage import Store

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
    monkeypatch.setattr(ledger, "FOLD_SECONDS", 0.0)
    monkeypatch.setattr(ledger, "FOLD_PAUSE", pause)
    store = SlowStore(str(tmp_path))
    held = Ledger(store, {})
    held.fold()
    before = store.folds
    held.write("cells", [{"cell_id": "a", "status": "done"}])
    held.fold_if_due()
    assert store.folds - before == again
