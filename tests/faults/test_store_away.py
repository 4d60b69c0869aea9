"""A whole run whose S3 server is killed half-way, and is away for a while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from inline import plan_of, run_inline
from processes import command, descendants, started, wait_for
from s3 import stoppable
from slow_sweep import slow_sweep, written

import sweeps
from sweeps.storage.store import Store

AWAY_SECONDS = 9.0


@pytest.mark.slow
def test_a_sweep_outlives_its_store(experiment: dict[str, Any], tmp_path: Path) -> None:
    held = slow_sweep(experiment, cells_per_pack=2)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(held))
    log = tmp_path / "log"
    with stoppable(tmp_path / "s3") as s3, s3.server.reached():
        store = Store(f"{s3.server.uri}/rows")
        places = ["--storage", store.uri, "--cache", str(tmp_path / "cache"), "--cpus", "2"]
        with started(command("run", str(tmp_path / "small.yaml"), *places), log) as run:
            wait_for(lambda: store.part_names("cells") or run.poll() is not None, 120, "the first rows are durable")
            theirs = descendants(run.pid)
            s3.kill()
            began = time.monotonic()
            calm = run_inline(plan_of(held, tmp_path / "calm"), pack_size=2)
            wait_for(lambda: "does not answer" in log.read_text(), 60, "the user is told")
            time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
            assert run.poll() is None
            theirs |= descendants(run.pid)
            s3.restart()
            assert run.wait(timeout=120) == 0, log.read_text()
            wait_for(lambda: not any(each.alive for each in theirs), 30, "no orphan is left")
        assert s3.server.secret_key not in log.read_text()
        assert set(written(store.uri).values()) == {1}
        for table, key in (("trials", "trial_id"), ("cells", "cell_id")):
            found, wanted = (
                sweeps.load(uri, table).set_index(key).sort_index() for uri in (store.uri, calm.row_log.store.uri)
            )
            assert found.index.is_unique
            assert set(found["status"]) == {"done"}
            scores = [name for name in wanted if name.startswith(("select.", "score."))]
            pd.testing.assert_frame_equal(found[scores], wanted[scores], rtol=0, atol=1e-9)
