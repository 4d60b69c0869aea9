"""Nodes that cannot run packs are left out before they take one: real clusters with nodes that are broken."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from processes import wait_for
from ray.cluster_utils import Cluster
from s3 import seaweedfs
from slow_sweep import slow_sweep

import sweeps
from sweeps.commands.run import Result, run_plan
from sweeps.errors import InputError
from sweeps.planning.plan import make_plan

pytestmark = pytest.mark.slow

UNWRITABLE = {"HOME": "/proc/nobody"}
"""The environment of a node whose user has no home folder that can be written; caches lie there."""


@contextmanager
def cluster_of(*environments: Mapping[str, str]) -> Iterator[tuple[Cluster, list[str]]]:
    """A cluster of this process, its head without cores, and a node of one core for every environment; their ids."""
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 0})
    try:
        ids = [joined(cluster, environment) for environment in environments]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster, ids
    finally:
        ray.shutdown()
        cluster.shutdown()


def joined(cluster: Cluster, environment: Mapping[str, str]) -> str:
    """Let a node with this environment join; its id."""
    node = cluster.add_node(num_cpus=1, object_store_memory=10**8, env_vars=dict(environment))
    return str(node.node_id)


def ran(experiment: Mapping[str, Any], storage: str, **options: Any) -> Result:
    """Run with the cache of each node's home."""
    return run_plan(make_plan(experiment, storage=storage, cache="~/cache"), quiet=False, **options)


def hosts() -> set[str]:
    """The nodes on which processes of packs have begun."""
    actors = ray._private.state.actors().values()
    return {actor["Address"]["NodeID"] for actor in actors if actor["ActorClassName"] == "SweepPack"}


def test_a_node_whose_cache_cannot_be_written_gets_no_pack(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = [{"HOME": str(tmp_path / name)} for name in ("first", "second")]
    with cluster_of(homes[0], UNWRITABLE, homes[1]) as (_, ids):
        result = ran(slow_sweep(experiment, cells_per_pack=2), str(tmp_path / "rows"))
        used, lines = hosts(), capsys.readouterr().out
        with pytest.raises(InputError, match="every node has to be ready"):
            ran(experiment, str(tmp_path / "others"), require_all_nodes=True)
    assert (result.finished, result.progress.failed, result.progress.done) == (True, 0, 24)
    assert used == {ids[0], ids[2]}
    assert "2 of 3 nodes are ready\n" in lines
    assert f"({ids[1][:8]}): cache = '~/cache': cannot be written: " in lines
    assert not (tmp_path / "rows" / ".proof").exists()
    assert set(sweeps.load(str(tmp_path / "rows"), "cells")["attempt"]) == {0}


def test_nodes_that_the_store_denies_or_that_do_not_reach_it_get_no_pack(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with seaweedfs(tmp_path / "s3") as server, server.reached():
        denied = {"HOME": str(tmp_path / "denied"), "AWS_SECRET_ACCESS_KEY": "of-somebody-else"}
        far = {"HOME": str(tmp_path / "far"), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        with cluster_of({"HOME": str(tmp_path / "home")}, denied, far) as (_, ids):
            result = ran(slow_sweep(experiment, cells_per_pack=2), f"{server.uri}/rows")
            used, lines = hosts(), capsys.readouterr().out
        cells = sweeps.load(result.storage, "cells")
    assert (result.finished, result.progress.failed, result.progress.done) == (True, 0, 24)
    assert used == {ids[0]}
    assert "1 of 3 nodes are ready\n" in lines
    assert f"({ids[1][:8]}): storage = '{server.uri}/rows': cannot be read: access denied" in lines
    assert f"({ids[2][:8]}): storage = '{server.uri}/rows': " in lines
    assert "AWS_ENDPOINT_URL" in lines
    assert "of-somebody-else" not in lines
    assert set(cells["status"]) == {"done"}


def test_a_node_that_comes_later_proves_the_same(
    experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = slow_sweep(experiment, seeds=4, cells_per_pack=2, workers=3)
    homes = [{"HOME": str(tmp_path / name)} for name in ("first", "later")]
    late: list[str] = []
    with cluster_of(homes[0]) as (cluster, ids):

        def join() -> None:
            wait_for((tmp_path / "rows" / "experiment.yaml").exists, 300, "the proofs are over")
            late.extend(joined(cluster, environment) for environment in (UNWRITABLE, homes[1]))

        joining = threading.Thread(target=join)
        joining.start()
        result = ran(held, str(tmp_path / "rows"))
        joining.join()
        used, lines = hosts(), capsys.readouterr().out
    assert (result.finished, result.progress.failed, result.progress.done) == (True, 0, 48)
    assert f"left out: node {ray.util.get_node_ip_address()} ({late[0][:8]}): cache = " in lines
    assert lines.count("left out") == 1
    assert used >= {ids[0], late[0]}
    assert set(sweeps.load(str(tmp_path / "rows"), "cells")["attempt"]) == {0}


def test_without_any_ready_node_the_run_ends_in_one_line(experiment: dict[str, Any], tmp_path: Path) -> None:
    with cluster_of(UNWRITABLE, UNWRITABLE), pytest.raises(InputError) as error:
        ran(experiment, str(tmp_path / "rows"))
    line = str(error.value)
    assert line.startswith("cluster: no node is ready: nodes ")
    assert line.count("cannot be written") == 1
    assert not os.path.exists(tmp_path / "rows" / ".proof")
