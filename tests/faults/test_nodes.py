"""A node that is lost half-way: its packs run elsewhere, and nobody is blamed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from processes import descendants, wait_for
from slow_sweep import slow_sweep, written

import sweeps


@pytest.mark.slow
def test_a_killed_node_costs_what_it_had_under_way(experiment: dict[str, Any], tmp_path: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    held = slow_sweep(experiment, cells_per_pack=2, workers=2)
    parts = tmp_path / "rows" / "parts" / "cells"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        lost = nodes[0].all_processes["raylet"][0].process.pid

        def kill_a_node() -> None:
            wait_for(lambda: list(parts.glob("*.parquet")), 300, "the first rows are written")
            theirs = descendants(lost)
            os.kill(lost, signal.SIGKILL)
            wait_for(lambda: not any(each.alive for each in theirs), 60, "its workers are gone with it")

        killer = threading.Thread(target=kill_a_node)
        killer.start()
        found = sweeps.run(held, storage=str(tmp_path / "rows"), cache=str(tmp_path / "cache"))
        killer.join()
        wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 60, "the cluster knows it")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert (found.progress.done, found.progress.failed) == (24, 0)
    trials = sweeps.load(found.storage)
    assert len(trials) == trials["trial_id"].nunique() == 24
    assert set(written(found.storage).values()) == {1}
    assert set(sweeps.load(found.storage, "cells")["attempt"]) == {0}
