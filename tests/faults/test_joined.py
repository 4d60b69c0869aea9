"""Two whole runs of one experiment side by side, the second with --join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import command, started, wait_for
from slow_sweep import slow_sweep, written

import sweeps
from sweeps.storage.run_lock import FOLDER
from sweeps.storage.store import Store


@pytest.mark.slow
def test_a_joined_run_shares_the_work(experiment: dict[str, Any], tmp_path: Path) -> None:
    held = slow_sweep(experiment, epochs=40, seeds=4, cells_per_pack=2)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(held))
    places = ["--storage", str(tmp_path / "rows"), "--cache", str(tmp_path / "cache"), "--cpus", "1"]
    line = command("run", str(tmp_path / "small.yaml"), *places)
    store = Store(str(tmp_path / "rows"))
    with started(line, tmp_path / "first") as first:
        wait_for(lambda: store.names(FOLDER) or first.poll() is not None, 120, "the first run is at work")
        with started([*line, "--join"], tmp_path / "second") as second:
            assert second.wait(timeout=300) == 0, (tmp_path / "second").read_text()
            assert first.wait(timeout=300) == 0, (tmp_path / "first").read_text()
    trials = sweeps.load(store.uri)
    assert len(trials) == trials["trial_id"].nunique() == 48
    assert set(trials["status"]) == {"done"}
    fits = written(store.uri)
    assert len(fits) == 40
    again = sum(fits.values()) - len(fits)
    assert again < len(fits) / 2, "they did the same work"
    assert len(set(trials["host"])) == 1
    assert store.names(FOLDER) == []
