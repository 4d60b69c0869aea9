"""Whole sweeps under a real Ray: to the end, again, killed, and gone on with."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from processes import Process, command, descendants, started, wait_for
from slow_sweep import slow_sweep, written
from typer.testing import CliRunner

import sweeps
from sweeps.cli import app
from sweeps.commands.run import Result
from sweeps.planning.plan import make_plan

PACK = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of two cores that is up already, as in a notebook: sweeps use it as it is."""
    import ray

    assert not ray.is_initialized()
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture
def slow(experiment: dict[str, Any]) -> dict[str, Any]:
    """20 cells in packs of 4; 24 trials."""
    return slow_sweep(experiment, cells_per_pack=PACK)


def written_to(folder: Path, experiment: dict[str, Any]) -> list[str]:
    """The arguments that run an experiment from a file."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(experiment))
    places = ["--storage", str(folder / "results"), "--cache", str(folder / "cache"), "--cpus", "2"]
    return ["run", str(folder / "small.yaml"), *places]


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


def parts_in(folder: Path) -> list[Path]:
    """The parts of the cells table."""
    return sorted((folder / "results" / "parts" / "cells").glob("*.parquet"))


@pytest.mark.usefixtures("cluster")
def test_a_sweep_ends_and_a_second_run_does_nothing(experiment: dict[str, Any], tmp_path: Path) -> None:
    def run(name: str, **compute: Any) -> Result:
        places = {"storage": str(tmp_path / name), "cache": str(tmp_path / "cache")}
        return sweeps.run({**experiment, "compute": compute}, cpus=2, **places)

    first = run("two", workers=2)
    assert (first.progress.trials, first.progress.done, first.progress.failed) == (18, 18, 0)
    assert set(written(tmp_path / "two").values()) == {1}

    began = time.monotonic()
    again = run("two", workers=2)
    assert time.monotonic() - began < 10
    assert (again.progress.known, again.progress.executed) == (18, 0)

    single = run("one", workers=1, cells_per_pack=5)
    assert single.progress.done == 18
    scores = [c for c in first.trials if c.startswith(("select.", "score."))]
    by_id = [result.trials.set_index("trial_id").sort_index()[scores] for result in (first, single)]
    pd.testing.assert_frame_equal(*by_id, rtol=0, atol=1e-6)
    assert len(single.areas) == 36


def kill_a_worker(experiment: dict[str, Any], folder: Path) -> int:
    """Run a sweep of which one worker is killed; the highest attempt of its cells, 0 when no pack was under way."""
    killed: list[Process] = []

    def kill_one() -> None:
        wait_for(lambda: parts_in(folder), 300, "the first rows are written")
        killed.extend(each for each in descendants(os.getpid()) if each.title.startswith("ray::SweepPack"))
        os.kill(killed[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = sweeps.run(experiment, storage=str(folder / "results"), cache=str(folder / "cache"), cpus=2)
    killer.join()
    assert killed
    assert (found.progress.done, found.progress.failed) == (24, 0)
    assert check_complete(experiment, folder)["error"].isna().all()
    assert set(written(folder / "results").values()) == {1}
    return int(sweeps.load(found.storage, "cells")["attempt"].max())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_costs_a_retry_and_nothing_else(slow: dict[str, Any], tmp_path: Path) -> None:
    # A worker that is killed between writing its last rows and saying so has lost nothing: then once more.
    attempts = []
    for turn in range(4):
        attempts.append(kill_a_worker(slow, tmp_path / str(turn)))
        if attempts[-1]:
            break
    assert attempts[-1] == 1, "no pack was hit"


@pytest.mark.usefixtures("cluster")
def test_a_failing_configuration_is_a_row_and_a_failing_sweep_is_an_error(
    experiment: dict[str, Any], recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.planning.plan.check_losses", lambda *_: None)  # else refused before any work
    np.save(recording / "responses.npy", np.load(recording / "responses.npy") - 5)
    losses = {"gaussian": {"loss": ["poisson", "gaussian"], "epochs": 1, "pool": 4}}
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": losses}
    some = CliRunner().invoke(app, written_to(tmp_path / "some", {**experiment, "space": space}))
    assert some.exit_code == 0, some.output
    trials = sweeps.load(str(tmp_path / "some" / "results")).set_index("config.readout.loss")
    assert trials["status"].to_dict() == {"poisson": "failed", "gaussian": "done"}
    assert "negative responses" in trials.at["poisson", "error"]

    losses["gaussian"]["loss"] = ["poisson"]
    every = CliRunner().invoke(app, written_to(tmp_path / "all", {**experiment, "space": space}))
    assert every.exit_code == 1, every.output
    assert sweeps.load(str(tmp_path / "all" / "results"))["status"].tolist() == ["failed"]


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_leaves_nothing(slow: dict[str, Any], tmp_path: Path) -> None:
    arguments = written_to(tmp_path, slow)
    with started(command(*arguments), tmp_path / "log") as driver:
        wait_for(lambda: parts_in(tmp_path) or driver.poll() is not None, 300, "the first rows are written")
        theirs = descendants(driver.pid)
        said = (tmp_path / "log").read_text()
        assert any("raylet" in each.title for each in theirs), said
        assert "; dashboard: http://127.0.0.1:" in said
        assert "ray get-auth-token" in said, "a local Ray asks for a token"
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        wait_for(lambda: not any(each.alive for each in theirs), 20, "the killed run's processes are gone")

    before = written(tmp_path / "results")
    _, cells = expected(slow, tmp_path)
    assert 0 < len(before) < len(cells), "killed too late: the test shows nothing"
    sweeps.load(str(tmp_path / "results"), "cells")  # a reader is not disturbed

    with started(command(*arguments), tmp_path / "log") as driver:
        assert driver.wait(timeout=200) == 0, (tmp_path / "log").read_text()
    check_complete(slow, tmp_path)
    after = written(tmp_path / "results")
    assert sum(after.values()) - len(after) <= PACK
    assert all(after[cell] == 1 for cell in before), "a finished cell was fitted again"
