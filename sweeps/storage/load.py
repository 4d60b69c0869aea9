"""Results as DataFrames."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from sweeps.errors import InputError
from sweeps.storage.objects import attempt
from sweeps.storage.schema import KEYS
from sweeps.storage.store import Store

TABLES = (*KEYS, "areas")


def load(uri: str, table: str = "trials") -> pd.DataFrame:
    """Load a table of a sweep, every row once, with parts that are newer than the folded object.

    `trials`: one row per trial. `cells`: one per (recording, area) readout. `areas`: one per (trial, recording,
    area), the trial's configuration beside the cell's scores. `bootstraps`, `truths`: see the README. Safe to
    call while the sweep runs. Raises InputError when there is no such sweep or table.
    """
    if table not in TABLES:
        raise InputError("unknown table", key="table", value=table, allowed=TABLES)
    if table == "areas":
        return _areas(load(uri), load(uri, "cells"))
    store = Store(uri)
    rows = attempt(lambda: store.read_table(table), uri)
    if rows is None:
        raise InputError("no sweep has written here", key="storage", value=uri)
    return _frame(rows)


def load_rows(uri: str, table: str, keys: Sequence[str]) -> pd.DataFrame:
    """Load the rows of a table with these keys; none where the table was not written."""
    store = Store(uri)
    rows = attempt(lambda: store.read_table(table, keys), uri)
    return pd.DataFrame(columns=[KEYS[table]]) if rows is None else _frame(rows)


def _frame(rows: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = rows.replace_schema_metadata(None).to_pandas()
    return frame


def _areas(trials: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Join trials with their cells; not stored, since a cell would be repeated for every trial that shares it."""
    places = [column for column in trials.columns if column.startswith("cell.")]
    if not places:
        return cells.iloc[:0]
    keep = ["trial_id", *(c for c in trials.columns if c.startswith("config."))]
    long = trials.melt(id_vars=keep, value_vars=places, value_name="cell_id").dropna(subset=["cell_id"])
    own = [c for c in cells.columns if not c.startswith("config")]
    joined = long.drop(columns=["variable"]).merge(cells[own], on="cell_id", how="left", sort=False)
    return joined.reset_index(drop=True)
