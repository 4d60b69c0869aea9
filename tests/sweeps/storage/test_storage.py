"""The tables: parts, their fold, what a reader sees."""

from __future__ import annotations

import itertools
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline
from parts import read_part

import sweeps
from sweeps.errors import InputError
from sweeps.storage import parquet as folding
from sweeps.storage.columns import as_table, schema_of
from sweeps.storage.parquet import fold, merge, to_bytes
from sweeps.storage.schema import COLUMNS, KEYS
from sweeps.storage.store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Rows = list[dict[str, Any]]

rows_of_cells = st.lists(
    st.fixed_dictionaries(
        {
            "cell_id": st.sampled_from("abcd"),
            "status": st.sampled_from(["done", "failed"]),
            "attempt": st.integers(0, 2),
            "finished": st.integers(0, 2).map(lambda hours: NOON + timedelta(hours=hours)),
            "seconds": st.sampled_from([1.0, 2.0, None]),
        },
        optional={"score.prediction": st.sampled_from([0.1, 0.2]), "config.seed": st.integers(0, 1)},
    ),
    max_size=12,
)


def contents(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table whatever the order of its columns."""
    return table.select(sorted(table.column_names)).to_pylist()


def in_parts(rows: Rows, cuts: list[int], order: random.Random) -> list[pa.Table]:
    """The rows in a random order, cut into parts."""
    rows = rows.copy()
    order.shuffle(rows)
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    return [as_table("cells", rows[a:b]) for a, b in itertools.pairwise(edges)]


@given(rows_of_cells, st.lists(st.integers(0, 12), max_size=4), st.randoms(use_true_random=False))
def test_the_fold_is_a_pure_function_of_the_log(rows: Rows, cuts: list[int], order: random.Random) -> None:
    schema = schema_of("cells", ["score.prediction", "config.seed"])
    whole = fold("cells", [as_table("cells", rows)], schema)
    parts = in_parts(rows, cuts, order)
    assert contents(fold("cells", parts, schema)) == contents(whole)
    assert contents(fold("cells", [*parts, *parts], schema)) == contents(whole)
    folded_on_the_way = [fold("cells", parts[:2], schema), *parts[1:]]
    assert contents(fold("cells", folded_on_the_way, schema)) == contents(whole)
    assert whole["cell_id"].to_pylist() == sorted({row["cell_id"] for row in rows})


@given(rows_of_cells)
def test_a_done_row_wins_then_the_latest_attempt_then_the_latest_in_time(rows: Rows) -> None:
    for kept in fold("cells", [as_table("cells", rows)]).to_pylist():
        rivals = [row for row in rows if row["cell_id"] == kept["cell_id"]]
        done = [row for row in rivals if row["status"] == "done"]
        best = max((row["attempt"], row["finished"]) for row in done or rivals)
        assert kept["status"] == ("done" if done else "failed")
        assert (kept["attempt"], kept["finished"]) == best


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=6), st.randoms(use_true_random=False))
def test_tables_without_a_status_are_folded_as_purely(pairs: list[tuple[str, int]], order: random.Random) -> None:
    rows: Rows = [{"cell_id": key, "replicates": [float(value)]} for key, value in pairs]
    whole = fold("bootstraps", [as_table("bootstraps", rows)])
    order.shuffle(rows)
    assert contents(fold("bootstraps", [as_table("bootstraps", [row]) for row in rows])) == contents(whole)


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_typed_even_where_every_value_is_missing(table: str, tmp_path: Path) -> None:
    names = ["config.seed", "config.readout.alpha", "config.depth.V1", "score.prediction", "cell.small.V1"]
    extra = names if table in ("trials", "cells") else []
    part = as_table(table, [{KEYS[table]: "a", **dict.fromkeys(extra)}])
    store = Store(str(tmp_path))
    store.write_fold(table, fold(table, [part]), ["p"])
    for held in (part, pq.read_table(tmp_path / table / f"{table}.parquet")):
        assert set(held.column_names) == {*COLUMNS[table], *extra}
        assert not any(pa.types.is_null(field.type) for field in held.schema)
        assert held.schema.remove_metadata() == schema_of(table, extra)


def test_parts_of_different_columns_share_one_schema() -> None:
    first = as_table("trials", [{"trial_id": "a", "score.prediction": None, "config.readout.alpha": "auto"}])
    second = as_table("trials", [{"trial_id": "b", "config.seed": 3}])
    whole = fold("trials", [first, second])
    assert whole.schema.field("score.prediction").type == pa.float64()
    assert whole.schema.field("config.seed").type == pa.int64()
    assert whole["config.seed"].to_pylist() == [None, 3]
    assert whole["config.readout.alpha"].to_pylist() == ["auto", None]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_fold("trials", fold("trials", [], schema_of("trials", ["score.prediction"])), [])
    frame = pd.read_parquet(tmp_path / "trials")
    assert len(frame) == 0
    assert {"trial_id", "status", "score.prediction"} <= set(frame.columns)


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "fresh"))
    rows = [
        {"cell_id": "a", "status": "done", "attempt": 0, "finished": NOON, "score.prediction": 0.25},
        {"cell_id": "b", "status": "failed", "error": "ValueError: no\nsuch thing", "config.seed": 2**40},
    ]
    name = store.write_part("cells", rows)
    assert read_part(store, "cells", name) == as_table("cells", rows)
    assert store.part_names("cells") == [name]
    with pytest.raises(FileNotFoundError):
        read_part(store, "cells", "gone.parquet")


def test_a_reader_sees_parts_that_are_newer_than_the_fold(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old = store.write_part("trials", [{"trial_id": "a", "status": "failed", "attempt": 0, "finished": NOON}])
    store.write_fold("trials", fold("trials", [read_part(store, "trials", old)]), [old])
    store.write_part("trials", [{"trial_id": "a", "status": "done", "attempt": 1, "finished": NOON}])
    store.write_part("trials", [{"trial_id": "b", "status": "done", "attempt": 0, "finished": NOON}])
    assert pd.read_parquet(tmp_path / "trials")["status"].tolist() == ["failed"]
    seen = sweeps.load(str(tmp_path))
    assert seen[["trial_id", "status"]].to_numpy().tolist() == [["a", "done"], ["b", "done"]]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "trials" / "trials.parquet").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        store.put("trials/trials.parquet", b"content")
    with pytest.raises(TypeError):
        store.put("parts/cells/part.parquet", "text")  # type: ignore[arg-type]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_no_part_is_left_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = store.write_part("trials", [{"trial_id": "a", "status": "done", "attempt": 0, "finished": NOON}])
    for junk in ("notes.txt", ".DS_Store", f".{name}.1f2e", ".hidden.parquet", f"{name}.tmp"):
        (tmp_path / "parts" / "trials" / junk).write_text("junk")
    assert store.part_names("trials") == [name]
    assert sweeps.load(str(tmp_path))["trial_id"].tolist() == ["a"]


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/there")
    store.check_writable()
    assert list(tmp_path.iterdir()) == []
    store.write_part("trials", [{"trial_id": "a", "status": "done", "attempt": 0, "finished": NOON}])
    assert sweeps.load(str(tmp_path / "there"))["trial_id"].tolist() == ["a"]


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep has written here") as caught:
        sweeps.load(str(tmp_path / "nothing"))
    assert str(tmp_path / "nothing") in str(caught.value)
    with pytest.raises(InputError, match=r"table = 'trails': unknown table; .*did you mean 'trials'"):
        sweeps.load(str(tmp_path), table="trails")


def test_areas_are_trials_joined_with_their_cells(experiment: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    trials, cells = sweeps.load(plan.storage), sweeps.load(plan.storage, "cells")
    areas = sweeps.load(plan.storage, "areas")
    assert len(areas) == 2 * len(trials) == 36
    assert not areas.duplicated(["trial_id", "recording", "area"]).any()
    held, own = trials.set_index("trial_id"), cells.set_index("cell_id")
    for row in areas.to_dict("records"):
        assert row["cell_id"] == held.at[row["trial_id"], f"cell.{row['recording']}.{row['area']}"]
        assert row["depth"] == row[f"config.depth.{row['area']}"]
        assert row["score.prediction"] == own.at[row["cell_id"], "score.prediction"]
    means = areas.groupby("trial_id")["score.prediction"].mean()
    pd.testing.assert_series_equal(means, held["score.prediction"].sort_index(), check_names=False, rtol=1e-12)


@given(rows_of_cells, rows_of_cells, st.lists(st.integers(0, 12), max_size=3), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_a_fold_is_made_anew_in_pieces(older: Rows, newer: Rows, cuts: list[int], order: random.Random) -> None:
    schema = schema_of("cells", ["score.prediction", "config.seed"])
    parts = in_parts(newer, cuts, order)
    whole = fold("cells", [as_table("cells", older), *parts], schema)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        patch.setattr(folding, "MERGED_ROWS", 2)
        patch.setattr(folding, "GROUP_ROWS", 2)
        store = Store(place)
        store.write_fold("cells", fold("cells", [as_table("cells", older)]), ["old"])
        pieces = merge("cells", store.open_fold("cells")[0], map(to_bytes, parts), schema)
        store.write_fold("cells", pieces, ["old", "new"])
        held, names = store.open_fold("cells")
        assert held is not None
        groups = [held.metadata.row_group(group).num_rows for group in range(held.num_row_groups)]
        assert groups == [2] * (len(whole) // 2) + [1] * (len(whole) % 2)
        assert contents(held.read()) == contents(whole)
        assert names == {"old", "new"}
