"""Places of rows: one that cannot be written is told before the run; `areas` is a join that is not stored."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps.errors import InputError
from sweeps.storage.load import load, load_rows
from sweeps.storage.store import Store


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(dir: Path) -> Any:
        assert dir == tmp_path  # the nearest folder that is there
        raise OSError(errno.EROFS, "Read-only file system")

    Store(str(tmp_path / "new" / "rows")).check_writable()
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(InputError, match=rf"storage = .*: {tmp_path} cannot be written: Read-only file system"):
        Store(str(tmp_path / "new" / "rows")).check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is not a folder"):
        Store(str(tmp_path / "file" / "rows")).check_writable()


def test_areas_join_trials_with_their_cells(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    cells = [
        {"cell_id": name, "recording": "r", "area": area, "status": "done", "score.prediction": value, "config.seed": 9}
        for name, area, value in (("a", "V1", 0.1), ("b", "V4", 0.2), ("c", "V4", 0.3))
    ]
    store.write_part("cells", cells)
    pairs = {"t": ("a", "b"), "u": ("a", "c"), "v": ("a", None)}
    store.write_part(
        "trials",
        [
            {"trial_id": name, "config.seed": seed, "cell.r.V1": first, "cell.r.V4": second}
            for seed, (name, (first, second)) in enumerate(pairs.items())
        ],
    )
    areas = load(str(tmp_path), "areas").sort_values(["trial_id", "area"])
    found = areas[["trial_id", "area", "cell_id", "score.prediction", "config.seed"]].to_numpy().tolist()
    assert found == [
        ["t", "V1", "a", 0.1, 0],
        ["t", "V4", "b", 0.2, 0],
        ["u", "V1", "a", 0.1, 1],
        ["u", "V4", "c", 0.3, 1],
        ["v", "V1", "a", 0.1, 2],
    ]
    assert areas.index.is_unique
    assert "variable" not in areas


def test_trials_without_cells_have_no_areas_and_tables_that_were_not_written_no_rows(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_part("trials", [{"trial_id": "t", "status": "failed"}])
    store.write_part("cells", [{"cell_id": "a", "status": "done"}, {"cell_id": "b", "status": "done"}])
    assert load(str(tmp_path), "areas").empty
    assert load_rows(str(tmp_path), "cells", ["b", "z"])["cell_id"].tolist() == ["b"]
    pd.testing.assert_frame_equal(load_rows(str(tmp_path), "folds", ["b"]), pd.DataFrame(columns=["cell_id"]))
