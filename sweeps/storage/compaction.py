"""Removing the parts that a folded object holds: fewer objects to list, and to pay for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from sweeps.errors import InputError
from sweeps.storage.objects import attempt
from sweeps.storage.parquet import NO_TOMBSTONES, Tombstones, merge, readable
from sweeps.storage.retry import RETRY_SECONDS
from sweeps.storage.run_lock import RunLock
from sweeps.storage.schema import FORGOTTEN, KEYS
from sweeps.storage.store import COMPACTED, Store


@dataclass(frozen=True)
class Compacted:
    """What became of a table: rows in its folded object, parts that were removed and that were left as damaged."""

    table: str
    rows: int
    removed: int
    damaged: int


def compact(uri: str, say: Callable[[str], None] = print) -> list[Compacted]:
    """Fold every part of a sweep, read the folds back, and remove the parts that they hold.

    Refused while a run is at work there. Until a fold was read back and holds every row of a part, the part stays;
    what ends half-way leaves all rows, and the next call goes on. Damaged parts are left. Rows that were forgotten go
    with their parts, and their tombstones last. InputError where no sweep has written, where another process is at
    work, and where objects may not be removed.
    """
    store = Store(uri, RETRY_SECONDS)
    if attempt(lambda: store.get("experiment.yaml"), uri) is None:
        raise InputError("no sweep has written here", key="storage", value=uri)
    with RunLock(store, "compact", say=say):
        tombstones = attempt(store.tombstones, uri)
        tables = [attempt(partial(_compact, store, table, tombstones), uri) for table in KEYS if table != FORGOTTEN]
        compacted = [table for table in tables if table is not None]
        if not any(table.damaged for table in compacted):  # else a damaged part may hold a row that was forgotten
            compacted += attempt(partial(_without_tombstones, store), uri)
    return compacted


def _without_tombstones(store: Store) -> list[Compacted]:
    """Remove the tombstones, once nothing holds what they name."""
    names = store.part_names(FORGOTTEN)
    store.remove([f"parts/{FORGOTTEN}/{name}" for name in names])
    return [Compacted(FORGOTTEN, 0, len(names), 0)] if names else []


def _compact(store: Store, table: str, tombstones: Tombstones) -> Compacted | None:
    names = store.part_names(table)
    if not names and not tombstones.has(table):
        return None
    file, folded = store.open_fold(table)
    if not names and file is None:
        return None
    sound = [name for name in names if _keys(store, table, name) is not None]
    fresh = [name for name in sound if name not in folded]
    if fresh or tombstones.has(table):
        news = (store.get_part(table, name) for name in fresh)
        store.write_fold(table, merge(table, file, news, tombstones=tombstones), sound)
    keys = _folded_keys(store, table)
    removed = [name for name in sound if _contains(keys, _keys(store, table, name, tombstones))]
    store.put(f"{table}/{COMPACTED}", json.dumps({"parts": len(removed)}).encode())
    store.remove([f"parts/{table}/{name}" for name in removed])
    return Compacted(table, len(keys), len(removed), len(names) - len(sound))


def _keys(store: Store, table: str, name: str, tombstones: Tombstones = NO_TOMBSTONES) -> pa.ChunkedArray | None:
    """Keys of the rows of a part that count; None where it is damaged."""
    rows = readable(table, f"{store.uri}/parts/{table}/{name}", store.get_part(table, name))
    return None if rows is None else tombstones.without(table, rows)[KEYS[table]]


def _folded_keys(store: Store, table: str) -> pa.ChunkedArray:
    """Keys of the folded object after all of it was read, with the checksums of its pages."""
    file, _ = store.open_fold(table)
    if file is None:
        raise InputError("was not found after it was written", file=f"{store.uri}/{table}/{table}.parquet")
    return file.read([KEYS[table]])[KEYS[table]]


def _contains(keys: pa.ChunkedArray, wanted: pa.ChunkedArray | None) -> bool:
    return wanted is not None and bool(pc.all(pc.is_in(wanted, value_set=keys), min_count=0).as_py())
