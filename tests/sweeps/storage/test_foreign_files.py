"""Files of others among the tables of a sweep: pandas would read them as rows, so that `run` and `show` name them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inline import plan_of, run_inline
from rich.console import Console

from sweeps.commands.run import run_plan, write_experiment
from sweeps.report.terminal import show
from sweeps.storage.compaction import compact
from sweeps.storage.row_log import RowLog
from sweeps.storage.store import Store, warn_foreign


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sweep of one trial, folded."""
    store = Store(str(tmp_path / "rows"))
    store.put("experiment.yaml", b"name: small\n")
    log = RowLog(store, {})
    log.write("trials", [{"trial_id": "t", "status": "done", "attempt": 0}])
    log.fold()
    return store


def test_our_files_and_those_that_pandas_skips_are_not_named(store: Store) -> None:
    folder = Path(store.uri, "trials")
    compact(store.uri)
    for name in (".DS_Store", ".trials.parquet.0123", "_SUCCESS", "compacted.json"):
        (folder / name).write_bytes(b"")
    assert store.foreign() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_foreign(store)


def test_files_and_folders_of_others_are_named(store: Store) -> None:
    folder = Path(store.uri, "trials")
    (folder / "of 2025").mkdir()
    (folder / "trials (copy).parquet").write_bytes((folder / "trials.parquet").read_bytes())
    Path(store.uri, "cells").mkdir(exist_ok=True)
    Path(store.uri, "cells/trials.parquet").write_bytes(b"")
    assert store.foreign() == ["trials/of 2025", "trials/trials (copy).parquet", "cells/trials.parquet"]
    assert len(pd.read_parquet(folder)) == 2, "which is why they are named"
    for number in range(100):
        (folder / f"{number:03d}.parquet").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"pandas would read .*trials/000\.parquet, .* and 79 more; move it") as caught:
        warn_foreign(store)
    [warning] = caught
    assert len(str(warning.message)) < 2000
    assert "\n" not in str(warning.message)


def test_pandas_reads_the_folder_of_a_table_after_compaction_too(store: Store) -> None:
    compact(store.uri)
    assert store.part_names("trials") == []
    assert pd.read_parquet(Path(store.uri, "trials"))["trial_id"].tolist() == ["t"]


def test_run_and_show_name_them(experiment: dict[str, Any], tmp_path: Path) -> None:
    space = {**experiment["space"], "backbone": "pixels", "depth": {"shared": [0]}}
    plan = plan_of({**experiment, "space": space}, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    Path(plan.storage, "cells/notes.txt").write_text("mine")
    with pytest.warns(UserWarning, match=r"not of this sweep, .*: cells/notes\.txt; move it elsewhere"):
        assert run_plan(plan).finished
    with pytest.warns(UserWarning, match=r"not of this sweep, .*: cells/notes\.txt; move it elsewhere"):
        show(plan.storage, Console(file=io.StringIO()))
