"""Files that were cut, flipped or cannot be written: parts, folds, caches, a full disk; clocks that disagree; NaN."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from inline import plan_of, run_inline
from parts import read_part
from processes import ROOT, environment

import sweeps
from sweeps.features.block_features import BlockFeatures
from sweeps.features.feature_cache import FeatureCache
from sweeps.features.shown_stimuli import ShownStimuli
from sweeps.recordings.recording import Recording
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store

CUT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "flipped": lambda content: content[:40] + bytes([content[40] ^ 0xFF]) + content[41:],
    "another file": lambda content: b"PAR1 is how it begins, and it goes on as prose" * 9,
}

FULL_DISK = """
import sys, numpy as np, torch, subprocess
from pathlib import Path
place = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=True)
from sweeps.fitting.cell_fit import FitCache, CellFit
from sweeps.io.disk_cache import DiskCache
from sweeps.features.block_features import BlockFeatures
from sweeps.features.feature_cache import FeatureCache
from sweeps.features.shown_stimuli import ShownStimuli
images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), dtype=np.uint8)
block = BlockFeatures(None, {"name": "efficientnet-lite0", "weights": "random"}, 0, 1, 8)
given = (block, ShownStimuli("key", 40, lambda rows: images[rows]), [0, 1])
full = FeatureCache(place, 1e9, torch.device("cpu")).maps(*given)
calm = FeatureCache(Path(sys.argv[2]), 1e9, torch.device("cpu")).maps(*given)
assert np.array_equal(full, calm)
big = {"a": np.zeros(10**6)}
assert DiskCache(place / "kept", 1e9).get(["key"], lambda: big)["a"].shape == (10**6,)
cache = FitCache(place, 1e9)
held = {split: np.random.default_rng(0).standard_normal((10**5, 3)) for split in ("select", "report")}
cache.save("a" * 20, CellFit(held, held, {"select": {}, "report": {}}), {})
assert cache.load("a" * 20, {}) is None
left = [path.name for path in place.rglob("*") if path.is_file() and path.name.startswith(".")]
assert left == [], left
print("all of it")
"""


def small(experiment: dict[str, Any], **readout: Any) -> dict[str, Any]:
    """Six trials of two cells each."""
    space = {"backbone": "pixels", "readout": {"ridge": {"pool": [2, 3, 4]}}, "seed": [0, 1], **readout}
    return {**experiment, "space": space, "scores": ["prediction"]}


def damage(path: Path, how: str) -> None:
    path.write_bytes(CUT[how](path.read_bytes()))


@pytest.mark.parametrize("how", CUT)
def test_the_cells_of_a_damaged_part_are_fitted_again_and_nothing_else(
    how: str, experiment: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_of(small(experiment), tmp_path)
    run_inline(plan)
    calm = sweeps.load(plan.storage, "cells").set_index("cell_id").sort_index()
    store = Store(plan.storage)
    for table in ("cells", "trials"):
        (tmp_path / "results" / table / f"{table}.parquet").unlink()
    broken = store.part_names("cells")[0]
    lost = set(read_part(store, "cells", broken)["cell_id"].to_pylist())
    damage(tmp_path / "results" / "parts" / "cells" / broken, how)
    with pytest.warns(UserWarning, match=f"{broken} is damaged and left out"):
        assert set(sweeps.load(plan.storage, "cells")["cell_id"]) == set(calm.index) - lost

    (tmp_path / "results" / "parts" / "trials").rename(tmp_path / "trials")  # as if they had not been written yet
    with pytest.warns(UserWarning, match="is damaged"):
        again = run_inline(plan)
    assert again.progress.executed == len(lost)
    cells = sweeps.load(plan.storage, "cells").set_index("cell_id").sort_index()
    scores = [name for name in cells if name.startswith(("select.", "score."))]
    pd.testing.assert_frame_equal(cells[scores], calm[scores], rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", CUT)
def test_a_damaged_fold_is_made_anew_from_its_parts(how: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(small(experiment), tmp_path)
    run_inline(plan)
    calm = sweeps.load(plan.storage)
    damage(tmp_path / "results" / "trials" / "trials.parquet", how)
    with pytest.warns(UserWarning, match=r"trials\.parquet is damaged and left out"):
        pd.testing.assert_frame_equal(sweeps.load(plan.storage), calm, check_like=True)
    with pytest.warns(UserWarning, match=r"trials\.parquet is damaged and left out"):
        assert run_inline(plan).progress.executed == 0
    pd.testing.assert_frame_equal(sweeps.load(plan.storage), calm)


def test_a_flipped_bit_in_a_page_is_noticed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = store.write_part("cells", [{"cell_id": str(number), "status": "done"} for number in range(500)])
    path = tmp_path / "parts" / "cells" / name
    content = path.read_bytes()
    unnoticed = 0
    for place in range(4, 1200, 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.warns(UserWarning, match="is damaged"):
            unnoticed += RowLog(store, {}).parts["cells"] != set()
    assert unnoticed == 0


@pytest.mark.parametrize("how", [how for how in CUT if how != "another file"])
def test_a_damaged_feature_file_is_computed_again(how: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    recording = Recording("r", "f", np.array(["V1"]), {})
    block = BlockFeatures(recording, {"name": "efficientnet-lite0", "weights": "random"}, 0, 1, 4)
    cache = FeatureCache(tmp_path, 1e9, torch.device("cpu"))

    def maps() -> np.ndarray:
        return cache.maps(block, ShownStimuli("key", 20, lambda rows: images[rows]), [0, 1])

    first = maps()
    files = list(tmp_path.rglob("*.arrays"))
    assert files
    for path in files:
        content = bytearray(path.read_bytes())
        content[-300] ^= 1  # in the numbers: numpy alone would not notice
        path.write_bytes(content if how == "flipped" else CUT[how](bytes(content)))
    np.testing.assert_array_equal(maps(), first)


def test_a_full_disk_under_the_cache_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    own = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]  # a mount that nobody else sees
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces may be made here, as in most containers")
    command = [*own, sys.executable, "-c", FULL_DISK, str(tmp_path / "full"), str(tmp_path / "calm")]
    found = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert "all of it" in found.stdout, found.stderr
    assert "No space left on device" in found.stderr


def test_clocks_that_disagree_do_not_decide_what_counts(tmp_path: Path) -> None:
    """A later attempt of a writer whose clock is a day behind wins; a failure with a clock ahead never does."""
    store, now = Store(str(tmp_path)), datetime(2026, 1, 2, tzinfo=UTC)
    day = timedelta(days=1)
    store.write_part("cells", [{"cell_id": "a", "status": "done", "attempt": 0, "finished": now, "alpha": 1.0}])
    store.write_part("cells", [{"cell_id": "a", "status": "done", "attempt": 1, "finished": now - day, "alpha": 2.0}])
    store.write_part("cells", [{"cell_id": "a", "status": "failed", "attempt": 9, "finished": now + day}])
    assert sweeps.load(store.uri, "cells")["alpha"].tolist() == [2.0]


def test_a_fit_that_becomes_nan_is_a_row_with_its_error(experiment: dict[str, Any], tmp_path: Path) -> None:
    readout = {"gaussian": {"loss": "gaussian", "epochs": 2, "pool": 4, "learning_rate": [0.01, 1e30]}}
    space = {"backbone": "pixels", "readout": readout}
    plan = plan_of({**experiment, "space": space, "scores": ["prediction"]}, tmp_path)
    run_inline(plan)
    rows = sweeps.load(plan.storage).set_index("config.readout.learning_rate")
    assert rows.at[0.01, "status"] == "done"
    assert rows.at[1e30, "status"] == "failed"
    assert "FloatingPointError: loss" in rows.at[1e30, "error"]
