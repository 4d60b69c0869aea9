"""A worker whose data or disk are away in mid-run: no row, the pack is given back; in one process, without Ray."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inline import plan_of

from sweeps.commands.run import scheduler_of
from sweeps.execution import cell_runner
from sweeps.execution.cell_runner import CellRunner
from sweeps.execution.nodes.cluster_nodes import ClusterNodes
from sweeps.execution.tune import PackSearcher, SweepPack
from sweeps.features.worker_data import WorkerData
from sweeps.planning.packs import Pack, jobs_of
from sweeps.planning.plan import Plan
from sweeps.planning.scheduler import Scheduler
from sweeps.scores import SCORES
from sweeps.storage.load import load
from sweeps.storage.retry import EnvironmentProblem
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store


@pytest.fixture
def plan(experiment: dict[str, Any], tmp_path: Path) -> Plan:
    """Two cells of one seed."""
    space = {**experiment["space"], "backbone": "pixels", "depth": {"shared": [0]}, "seed": [0]}
    return plan_of({**experiment, "space": space, "scores": ["prediction"]}, tmp_path)


@pytest.fixture
def sweep(plan: Plan) -> Scheduler:
    """Its scheduler."""
    return scheduler_of(plan, RowLog(Store(plan.storage), plan.columns()), retry_failed=False)


def with_error(monkeypatch: pytest.MonkeyPatch, error: Exception, number: int = 1) -> None:
    """Let every fit from this number on end in an error."""
    real = cell_runner.fits_of

    def fits_of(worker: Any, jobs: Any, cache: Any, halving: Any) -> Iterator[Any]:
        for done in real(worker, jobs, cache, halving):
            yield [(turn, error if turn >= number else fits) for turn, fits in done]

    monkeypatch.setattr(cell_runner, "fits_of", fits_of)


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (OSError(errno.ESTALE, "stale file handle"), False),
        (OSError(errno.ENOSPC, "no space left"), False),
        (ValueError("negative responses"), True),
        (MemoryError(), True),
        (FileNotFoundError("/of/a/plugin"), True),
    ],
)
def test_what_is_of_the_environment_makes_no_row(
    plan: Plan, sweep: Scheduler, monkeypatch: pytest.MonkeyPatch, error: Exception, blamed: bool
) -> None:
    with_error(monkeypatch, error, 0)
    runner, found = CellRunner(WorkerData(plan.context())), sweep.next_pack()
    assert found is not None
    rows = runner.rows(jobs_of(found[1].cells), 0)
    if blamed:
        assert {row["status"] for part, _ in rows for row in part} == {"failed"}
    else:
        with pytest.raises(EnvironmentProblem, match=type(error).__name__):
            next(rows)


def test_a_score_that_its_environment_keeps_from_its_data_makes_no_row(
    plan: Plan, sweep: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(self: Any, view: Any) -> Any:
        raise FileNotFoundError(f"{plan.context().recordings[0]['path']}/images.zip")

    monkeypatch.setattr(type(SCORES["prediction"]), "computed", compute)
    found = sweep.next_pack()
    assert found is not None
    with pytest.raises(EnvironmentProblem, match=r"images\.zip"):
        next(CellRunner(WorkerData(plan.context())).rows(jobs_of(found[1].cells), 0))


class Bench(SweepPack):
    """A pack's process without Ray, whose code is this process's own."""

    def __init__(self, plan: Plan, pack: Pack) -> None:
        self._refused = self._away = self._bad_node = ""
        self._fresh = True
        self._telemetry = type("Nothing", (), {"update": lambda self: None})()
        self._open(plan.context())
        self._load({"pack": pack.as_config(), "report": 0.0})


def test_finished_rows_count_and_the_rest_is_given_back(
    plan: Plan, sweep: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execution.part_writer.FIRST_PAUSE", 0.01)
    lines: list[str] = []
    searcher = PackSearcher(sweep, plan.context(), ClusterNodes({"CPU": 1}), 1, lines.append)
    with monkeypatch.context() as patch:
        with_error(patch, OSError(errno.EIO, "input/output error"))
        config = searcher.suggest("one")
        bench = Bench(plan, Pack.from_config(config["pack"]))
        results = [bench.step()]
        while not results[-1]["done"]:
            results.append(bench.step())
    for result in results[:-1]:
        searcher.on_trial_result("one", result)
    searcher.on_trial_complete("one", results[-1])
    assert [line.partition(": ")[2] for line in lines] == [results[-1]["trouble"]]
    assert "input/output error" in lines[0]
    assert (sweep.progress.cells_done, sweep.progress.cells_failed) == (1, 0)
    assert [len(pack.cells) for pack in sweep.queue] == [1]
    config = searcher.suggest("two")
    searcher.on_trial_complete("two", Bench(plan, Pack.from_config(config["pack"])).step())
    assert searcher.problem is None
    assert sweep.finished
    sweep.row_log.fold()
    assert list(load(plan.storage, "cells")["status"]) == ["done", "done"]


def test_data_that_cannot_be_opened_now_are_waited_for(
    plan: Plan, sweep: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> Any:
        raise OSError(errno.ESTALE, "stale file handle")

    found = sweep.next_pack()
    assert found is not None
    monkeypatch.setattr("sweeps.features.worker_data.open_recording", unreadable)
    first = Bench(plan, found[1]).step()
    assert (first["done"], first["part"]) == (False, "")
    assert "stale file handle" in first["trouble"]
