"""Cells that kill, hang or exhaust their process: they alone fail, the others have the scores of an undisturbed run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from processes import descendants, wait_for

import sweeps

SEEDS = range(6)


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of two cores whose workers do what this file says."""
    import ray

    file = tmp_path_factory.mktemp("poison") / "poison.json"
    file.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POISON", str(file))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "poison"), prepend=os.pathsep)
        ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        yield file
        ray.shutdown()


def sweep_of(experiment: dict[str, Any], folder: Path, **compute: Any) -> pd.DataFrame:
    """Trials of six seeds, two cells each, in packs of four; rows by cell."""
    space = {
        "backbone": {"efficientnet-lite0": {"weights": "random"}},
        "depth": {"V1": [1], "V4": [1]},
        "readout": {"ridge": {"pool": 4}},
        "seed": list(SEEDS),
    }
    held = {**experiment, "space": space, "scores": ["prediction"], "compute": {"cells_per_pack": 4, **compute}}
    found = sweeps.run(held, storage=str(folder / "rows"), cache=str(folder / "cache"), cpus=2)
    assert found.finished
    cells = sweeps.load(found.storage, "cells")
    assert len(cells) == 2 * len(SEEDS)
    assert not cells["cell_id"].duplicated().any()
    assert sorted(found.trials["config.seed"]) == list(SEEDS)
    return cells.set_index("cell_id").sort_index()


@pytest.mark.parametrize(
    "deeds",
    [
        pytest.param({1: "segfault", 4: "hang_hard"}, id="quick"),
        pytest.param({0: "be_killed", 2: "hang", 5: "exhaust_memory"}, id="others", marks=pytest.mark.slow),
    ],
)
def test_only_the_guilty_fail(deeds: dict[int, str], poison: Path, experiment: dict[str, Any], tmp_path: Path) -> None:
    poison.write_text("{}")
    calm = sweep_of(experiment, tmp_path / "calm")
    assert set(calm["status"]) == {"done"}
    poison.write_text(json.dumps(deeds))
    cells = sweep_of(experiment, tmp_path / "poisoned", max_failures=0, limit_minutes=0.05)
    guilty = cells["config.seed"].isin(deeds.keys())
    assert set(cells[guilty]["status"]) == {"failed"}
    assert set(cells[~guilty]["status"]) == {"done"}
    scores = [name for name in cells if name.startswith(("select.", "score."))]
    pd.testing.assert_frame_equal(cells[~guilty][scores], calm[~guilty][scores], rtol=0, atol=1e-9)
    told = cells[guilty].groupby("config.seed")["error"].first().to_dict()
    for seed, deed in deeds.items():
        words = {"exhaust_memory": "MemoryError", "hang": "limit_minutes", "hang_hard": "limit_minutes"}
        assert words.get(deed, "died") in told[seed], told
    wait_for(lambda: not any("SweepPack" in each.title for each in descendants(os.getpid())), 20, "no worker is left")
