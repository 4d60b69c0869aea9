"""A sweep whose rows, and whose recording, lie on a real S3 server; readers look on meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from parts import read_part
from processes import ROOT, environment
from s3 import S3Server, seaweedfs

import sweeps
from sweeps.errors import InputError
from sweeps.planning import trial_rows
from sweeps.planning.plan import make_plan
from sweeps.storage import row_log
from sweeps.storage.store import Store

READER = """
import io, json, sys, time
import fsspec, pandas as pd
import sweeps
from sweeps.errors import InputError

uri, columns, stop = sys.argv[1], set(json.loads(sys.argv[2])), sys.argv[3]
fs, root = fsspec.url_to_fs(uri, use_listings_cache=False)
seen = {"load": [], "recipe": []}
problems = []

def look(how, read):
    try:
        frame = read()
    except Exception as error:
        early = not seen[how] and (isinstance(error, FileNotFoundError) or "no sweep has written" in str(error))
        if not early:
            problems.append(f"{how}: {type(error).__name__}: {error}")
        return
    if frame["trial_id"].duplicated().any():
        problems.append(f"{how}: a trial twice")
    if columns - set(frame.columns):
        problems.append(f"{how}: columns missing: {sorted(columns - set(frame.columns))}")
    if seen[how] and len(frame) < seen[how][-1]:
        problems.append(f"{how}: {seen[how][-1]} trials have become {len(frame)}")
    seen[how].append(len(frame))

print("ready", flush=True)
while not fs.exists(stop):
    look("load", lambda: sweeps.load(uri))
    look("recipe", lambda: pd.read_parquet(io.BytesIO(fs.cat_file(f"{root}/trials/trials.parquet"))))
    time.sleep(0.01)
print(json.dumps({"seen": seen, "problems": problems}))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that this process and all that it starts talk to."""
    with seaweedfs(tmp_path_factory.mktemp("s3")) as held, held.reached():
        yield held


@contextmanager
def reader(uri: str, columns: list[str], stop: str) -> Iterator[dict[str, Any]]:
    """A process that reads all the time; what it has seen is there afterwards."""
    found: dict[str, Any] = {}
    arguments = [sys.executable, "-c", READER, uri, json.dumps(columns), stop]
    with subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield found
            fsspec.url_to_fs(stop)[0].pipe_file(stop, b"")
            found.update(json.loads(process.communicate(timeout=60)[0]))
        finally:
            process.kill()


@pytest.mark.slow
def test_readers_see_a_whole_table_at_any_moment(
    server: S3Server, experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_log, "FOLD_SECONDS", 0.0)
    monkeypatch.setattr(row_log, "FOLD_PAUSE", 0.0)
    monkeypatch.setattr(trial_rows, "FLUSH_SECONDS", 0.0)
    uri = f"{server.uri}/sweeps/small"
    space = {**experiment["space"], "depth": {"V1": [0, 1, 2, 3], "V4": [0, 1, 2, 3]}, "seed": [0, 1]}
    held = {**experiment, "space": space, "storage": uri, "compute": {"cells_per_pack": 2}}
    plan = make_plan(held)
    columns = ["trial_id", "status", "error", "config", *plan.columns()["trials"]]
    with reader(uri, columns, f"{server.uri}/stop") as found:
        result = sweeps.run(held, cache=str(tmp_path / "cache"), cpus=2)
        time.sleep(0.5)
    assert (result.progress.done, result.progress.failed) == (32, 0)
    assert found["problems"] == []
    for how in ("load", "recipe"):
        counts = found["seen"][how]
        assert counts[-1] == 32
        assert len(set(counts)) >= 4, f"{how} saw only {sorted(set(counts))}: the test shows nothing"

    table = pd.read_parquet(f"{uri}/trials", storage_options=server.storage_options)
    pd.testing.assert_frame_equal(table, sweeps.load(uri))
    assert len(sweeps.load(uri, "areas")) == 64
    assert sweeps.run(held, cache=str(tmp_path / "cache")).progress.known == 32


def test_a_recording_in_a_bucket_is_the_same_as_its_local_copy(
    server: S3Server, experiment: dict[str, Any], recording: Path, tmp_path: Path
) -> None:
    fs, root = fsspec.url_to_fs(server.uri)
    for path in recording.iterdir():
        fs.pipe_file(f"{root}/data/{recording.name}/{path.name}", path.read_bytes())
    there = [{**experiment["recordings"][0], "path": f"{server.uri}/data/{recording.name}"}]
    relative = [{**experiment["recordings"][0], "path": recording.name}]
    plans = [
        make_plan(experiment, storage=str(tmp_path / "results")),
        make_plan({**experiment, "recordings": there}, storage=str(tmp_path / "results")),
        make_plan({**experiment, "recordings": relative}, data=f"{server.uri}/data", storage=f"{server.uri}/other"),
    ]
    ids = [
        [plan.planner.trial_id(plan.planner.cells(configuration)) for configuration in plan.space.grid()]
        for plan in plans
    ]
    assert ids[0] == ids[1] == ids[2]
    assert not fs.exists(f"{root}/other/parts")


def test_a_store_on_s3_behaves_like_a_local_one(server: S3Server) -> None:
    store = Store(f"{server.uri}/store/")
    store.check_writable()
    assert store.part_names("cells") == []
    assert store.read_fold("cells") == (None, set())
    assert store.read_table("cells") is None
    name = store.write_part("cells", [{"cell_id": "a", "status": "done", "attempt": 0}])
    assert store.part_names("cells") == [name]
    assert read_part(store, "cells", name)["cell_id"].to_pylist() == ["a"]
    store.write_fold("cells", read_part(store, "cells", name), [name])
    assert store.read_fold("cells")[1] == {name}
    with pytest.raises(InputError, match="no such bucket"):
        Store("s3://no-such-bucket/store").check_writable()
