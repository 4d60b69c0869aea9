"""The room of a disk cache: how much is freed at once, and folders that two processes make at the same moment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from sweeps.io.disk_cache import FREED, DiskCache


def test_pruning_frees_a_share_beyond_what_is_needed(tmp_path: Path) -> None:
    wide, began = DiskCache(tmp_path, 1e9), time.time() - 1000
    for number in range(100):
        wide.save(f"{number:03d}", {"a": np.zeros(8)})
        os.utime(tmp_path / f"{number:03d}.arrays", (began + number, began + number))
    whole = sum(path.stat().st_size for path in tmp_path.glob("*.arrays"))
    size = whole / 100
    tight = DiskCache(tmp_path, whole - size)
    tight.prune()
    assert tight.total == sum(path.stat().st_size for path in tmp_path.glob("*.arrays"))
    assert (1 - FREED) * tight.limit - size < tight.total <= (1 - FREED) * tight.limit
    left = sorted(path.stem for path in tmp_path.glob("*.arrays"))
    assert left == [f"{number:03d}" for number in range(100 - len(left), 100)]
    before = tight.total
    tight.prune()  # below its limit it frees nothing
    assert tight.total == before


def test_a_folder_that_another_process_makes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "group").mkdir()
    monkeypatch.setattr(Path, "exists", lambda self: False)  # it was not there when this process looked
    assert DiskCache(tmp_path, 1e9).save("group/x", {"a": np.zeros(3)})
