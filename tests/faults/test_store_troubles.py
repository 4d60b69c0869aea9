"""A store that denies one node of three, expires, vanishes or is busy in mid-run, and workers that are asked to end.

Every sweep ends with the scores of an undisturbed one: no `failed` row, none lost, none doubled.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import write_recording
from faulty_s3 import FaultyS3, Rule, faulty
from inline import plan_of, run_inline
from processes import descendants, wait_for
from s3 import stoppable
from slow_sweep import slow_sweep, written

import sweeps
from sweeps.commands.run import Result

SECONDS, AWAY_SECONDS = 12.0, 90.0
"""How long credentials are expired, and a store is away; a role or an operator would take minutes.

Workers try for 30 s before they hand their rows to the driver, which then waits.
"""

DENIED = "denied-node"


@dataclass(frozen=True)
class Lab:
    """Three nodes, a store that can be disturbed, and a small sweep with its undisturbed cells."""

    proxy: FaultyS3
    experiment: dict[str, Any]
    calm: pd.DataFrame

    def run(self, name: str, folder: Path) -> Result:
        """Run the sweep, and compare it with the undisturbed one."""
        uri = f"{self.proxy.server.uri}/{name}"
        found = sweeps.run(self.experiment, storage=uri, cache=str(folder / "cache"))
        self.proxy.rule = None
        assert found.finished
        assert found.progress.failed == found.progress.cells_failed == 0
        assert set(written(uri).values()) == {1}
        cells = sweeps.load(uri, "cells").set_index("cell_id").sort_index()
        assert cells.index.is_unique
        assert set(cells["status"]) == {"done"}
        scores = [column for column in self.calm if column.startswith(("select.", "score."))]
        pd.testing.assert_frame_equal(cells[scores], self.calm[scores], rtol=0, atol=1e-9)
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of three nodes that work, beside a head that does not; the third says who it is in its requests."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("lab")
    recording = write_recording(folder / "data" / "small")
    small = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(recording), "image": {"size": 32}}],
        "probes": {},
    }
    experiment = slow_sweep(small, seeds=2, cells_per_pack=2, workers=3, max_failures=0)
    calm = run_inline(plan_of(experiment, folder / "calm"), pack_size=8)
    rows = sweeps.load(calm.row_log.store.uri, "cells").set_index("cell_id").sort_index()
    with stoppable(folder / "s3") as s3, faulty(s3.server) as proxy, proxy.server.reached():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        try:
            for name in ("first-node", "second-node", DENIED):
                cluster.add_node(num_cpus=1, object_store_memory=10**8, env_vars={"AWS_SDK_UA_APP_ID": name})
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield Lab(proxy, experiment, rows)
        finally:
            ray.shutdown()
            cluster.shutdown()


def puts_of_cells(method: str, path: str) -> bool:
    """Whether a request writes rows of cells."""
    return method == "PUT" and "/parts/cells/" in path


def for_a_while(refusal: tuple[int, str], seconds: float) -> Rule:
    """Refuse everything for so long, once the first rows are written."""
    began: list[float] = []

    def rule(method: str, path: str, agent: str) -> tuple[int, str] | None:
        if not began:
            if puts_of_cells(method, path):
                began.append(time.monotonic())
            return None
        return refusal if time.monotonic() - began[0] < seconds else None

    return rule


@pytest.mark.slow
def test_one_node_of_three_is_denied(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lab.proxy.refused.clear()
    lab.proxy.rule = lambda method, path, agent: (
        (403, "AccessDenied") if puts_of_cells(method, path) and DENIED in agent else None
    )
    with caplog.at_level(logging.WARNING, "sweeps"):
        lab.run("denied", tmp_path)
    assert lab.proxy.refused["PUT"]
    lines = [line for line in caplog.messages if "cannot write" in line]
    assert lines
    assert all("access denied" in line and "the driver writes its rows" in line for line in lines)
    assert len(set(lines)) == 1


@pytest.mark.parametrize(
    ("name", "refusal", "seconds", "words"),
    [
        ("expired", (400, "ExpiredToken"), SECONDS, "the credentials have expired"),
        ("vanished", (0, ""), AWAY_SECONDS, "does not answer"),
    ],
)
@pytest.mark.slow
def test_the_store_refuses_everybody_for_a_while(
    lab: Lab,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    refusal: tuple[int, str],
    seconds: float,
    words: str,
) -> None:
    lab.proxy.refused.clear()
    lab.proxy.rule = for_a_while(refusal, seconds)
    with caplog.at_level(logging.WARNING, "sweeps"):
        lab.run(name, tmp_path)
    assert lab.proxy.refused
    assert any(words in line and "waiting up to 60 min" in line for line in caplog.messages), caplog.messages
    assert lab.proxy.server.secret_key not in caplog.text


@pytest.mark.slow
def test_the_store_is_busy_every_other_time(lab: Lab, tmp_path: Path) -> None:
    lab.proxy.refused.clear()
    turns = itertools.count()
    lab.proxy.rule = lambda method, path, agent: (503, "SlowDown") if next(turns) % 2 else None
    lab.run("busy", tmp_path)
    assert lab.proxy.refused["PUT"] > 5


@pytest.mark.slow
def test_workers_that_are_asked_to_end(lab: Lab, tmp_path: Path) -> None:
    ended: list[int] = []
    wrote: list[str] = []

    def note(method: str, path: str, agent: str) -> None:
        if puts_of_cells(method, path):
            wrote.append(path)

    def end_some() -> None:
        for number in (2, 6):
            wait_for(lambda number=number: len(wrote) >= number, 300, "rows are written")
            workers = [each for each in descendants(os.getpid()) if each.title.startswith("ray::SweepPack")]
            os.kill(workers[0].pid, signal.SIGTERM)
            ended.append(workers[0].pid)

    lab.proxy.rule = note
    thread = threading.Thread(target=end_some)
    thread.start()
    lab.run("ended", tmp_path)
    thread.join()
    assert len(ended) == 2
