"""Whole sweeps under a real Ray: to the end, again, killed, and gone on with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from processes import command, descendants, environment, started, wait_for

import sweeps
from sweeps.plan import make_plan
from sweeps.storage import Store

PACK = 4


def slow(experiment: dict[str, Any], trials: int = 48) -> dict[str, Any]:
    """The same with gaussian readouts, in packs of 4 cells, each some tenths of a second: 48 trials, 32 cells."""
    assert trials == 48
    space = {
        "backbone": "efficientnet-lite0",
        "depth": {"V1": [0, 1], "V4": [0, 1, 2]},
        "readout": {"gaussian": {"loss": "gaussian", "epochs": 25, "patience": 25, "pool": 8, "l1": [0.01, 0.1]}},
        "seed": [0, 1, 2, 3],
    }
    return {**experiment, "space": space, "scores": ["prediction"], "compute": {"cells_per_pack": PACK}}


def written_to(folder: Path, experiment: dict[str, Any]) -> list[str]:
    """The arguments that run an experiment from a file."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(experiment))
    places = ["--storage", str(folder / "results"), "--cache", str(folder / "cache"), "--cpus", "2"]
    return ["run", str(folder / "small.yaml"), *places]


def run_command(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m sweeps` to its end."""
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def written(storage: Path) -> Counter[str]:
    """How many durable rows each cell has."""
    store = Store(str(storage))
    parts = [store.read_part("cells", name) for name in store.part_names("cells")]
    return Counter(cell for part in parts for cell in part["cell_id"].to_pylist())


def expected(experiment: dict[str, Any], folder: Path) -> tuple[set[str], set[str]]:
    """Trial ids and cell ids of a grid."""
    plan = make_plan(experiment, storage=str(folder / "results"), cache=str(folder / "cache"))
    joined = [plan.planner.cells(configuration) for configuration in plan.space.grid()]
    return {plan.planner.trial_id(cells) for cells in joined}, {cell.cell_id for cells in joined for cell in cells}


def check_complete(experiment: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Every configuration is there once and done, none is missing."""
    trials = sweeps.load(str(folder / "results"))
    ids, cells = expected(experiment, folder)
    assert sorted(trials["trial_id"]) == sorted(ids)
    assert set(trials["status"]) == {"done"}
    assert set(written(folder / "results")) == cells
    pd.testing.assert_frame_equal(trials, pd.read_parquet(folder / "results" / "trials"))
    return trials


def test_a_sweep_ends_and_a_second_run_does_nothing(experiment: dict[str, Any], tmp_path: Path) -> None:
    one, two = ({"storage": str(tmp_path / name), "cache": str(tmp_path / "cache")} for name in ("one", "two"))
    first = sweeps.run(experiment, cpus=2, **two)
    assert (first.progress.trials, first.progress.done, first.progress.failed) == (18, 18, 0)
    assert set(written(tmp_path / "two").values()) == {1}

    began = time.monotonic()
    again = sweeps.run(experiment, cpus=2, **two)
    assert time.monotonic() - began < 10
    assert (again.progress.known, again.progress.executed) == (18, 0)

    single = sweeps.run({**experiment, "compute": {"cells_per_pack": 5}}, cpus=1, **one)
    assert single.progress.done == 18
    scores = [c for c in first.trials if c.startswith(("select.", "score."))]
    by_id = [result.trials.set_index("trial_id").sort_index()[scores] for result in (first, single)]
    pd.testing.assert_frame_equal(*by_id, rtol=0, atol=1e-6)
    assert len(single.areas) == 36


def test_a_killed_driver_loses_nothing_and_leaves_nothing(experiment: dict[str, Any], tmp_path: Path) -> None:
    held = slow(experiment)
    arguments = written_to(tmp_path, held)
    parts = tmp_path / "results" / "parts" / "cells"
    with started(command(*arguments), tmp_path / "log") as driver:
        wait_for(lambda: parts.is_dir() and list(parts.glob("*.parquet")), 90, "the first rows are written")
        theirs = descendants(driver.pid)
        sessions = {found[1] for each in theirs if (found := re.search(r"(\S*/session_[\w-]+)", each.title))}
        assert len(theirs) > 3
        assert sessions
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        wait_for(lambda: not any(each.alive for each in theirs), 20, "the killed run's processes are gone")

    before = written(tmp_path / "results")
    _, cells = expected(held, tmp_path)
    assert 0 < len(before) < len(cells), "killed too late: the test shows nothing"
    sweeps.load(str(tmp_path / "results"), "cells")  # a reader is not disturbed

    found = run_command(arguments)
    assert found.returncode == 0, found.stdout + found.stderr
    check_complete(held, tmp_path)
    after = written(tmp_path / "results")
    assert sum(after.values()) - len(after) <= PACK
    assert all(after[cell] == 1 for cell in before), "a finished cell was fitted again"


def test_a_killed_worker_costs_a_retry_and_nothing_else(experiment: dict[str, Any], tmp_path: Path) -> None:
    held = slow(experiment)
    arguments = written_to(tmp_path, held)
    parts = tmp_path / "results" / "parts" / "cells"
    with started(command(*arguments), tmp_path / "log") as driver:
        wait_for(lambda: parts.is_dir() and list(parts.glob("*.parquet")), 90, "the first rows are written")
        [victim, *_] = [each for each in descendants(driver.pid) if each.title.startswith("ray::SweepPack")]
        os.kill(victim.pid, signal.SIGKILL)
        assert driver.wait(timeout=200) == 0, (tmp_path / "log").read_text()
    trials = check_complete(held, tmp_path)
    assert trials["error"].isna().all()
    assert sweeps.load(str(tmp_path / "results"), "cells")["attempt"].max() == 1
    assert set(written(tmp_path / "results").values()) == {1}


def test_a_failing_configuration_is_a_row_and_a_failing_sweep_is_an_error(
    experiment: dict[str, Any], recording: Path, tmp_path: Path
) -> None:
    np.save(recording / "responses.npy", np.load(recording / "responses.npy") - 5)
    losses = {"gaussian": {"loss": ["poisson", "gaussian"], "epochs": 1, "pool": 4}}
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": losses}
    arguments = written_to(tmp_path / "some", {**experiment, "space": space})
    some = run_command(arguments)
    assert some.returncode == 0, some.stdout + some.stderr
    trials = sweeps.load(str(tmp_path / "some" / "results")).set_index("config.readout.loss")
    assert trials["status"].to_dict() == {"poisson": "failed", "gaussian": "done"}
    assert "negative responses" in trials.at["poisson", "error"]

    losses["gaussian"]["loss"] = ["poisson"]
    every = run_command(written_to(tmp_path / "all", {**experiment, "space": space}))
    assert every.returncode == 1, every.stdout + every.stderr
    assert sweeps.load(str(tmp_path / "all" / "results"))["status"].tolist() == ["failed"]
