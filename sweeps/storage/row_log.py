"""The log of a sweep's rows: every row that is durable, and the folds made from them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from sweeps.storage.columns import schema_of
from sweeps.storage.parquet import from_bytes, merge, readable
from sweeps.storage.store import Store

TABLES = ("trials", "cells", "bootstraps", "truths")
FOLD_SECONDS, FOLD_PAUSE = 60.0, 20.0
"""Folds are so far apart, and at least so many times as far as the last one took: it writes all rows there are."""

BATCH = 2000
"""Rows that are Python objects at a time."""


@contextmanager
def plain_memory() -> Iterator[None]:
    """Give back at the end what Arrow took in between; its usual pool would keep most of it for later."""
    usual, plain = pa.default_memory_pool(), pa.system_memory_pool()
    pa.set_memory_pool(plain)
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
        usual.release_unused()
        plain.release_unused()


class RowLog:
    """Reads the log once at the start, then follows it part by part; folds it now and then.

    Only parts that are newer than the fold are held, compressed; the folded rows lie in storage, and are read group by
    group. Damaged parts are left out, so that their cells are fitted again; rows with a tombstone count as not there.
    `columns` are those of a table that are known before its first row; a table beyond TABLES is logged where it is
    named there.
    """

    def __init__(self, store: Store, columns: Mapping[str, list[str]]) -> None:
        self.store = store
        self.tables = (*TABLES, *(table for table in columns if table not in TABLES))
        self.schemas = {table: schema_of(table, columns.get(table, [])) for table in self.tables}
        self.parts: dict[str, set[str]] = {}
        self.fresh: dict[str, dict[str, bytes]] = {}
        self.damaged: set[str] = set()
        self.stale: set[str] = set(self.tables)
        self.tombstones = store.tombstones()
        for table in self.tables:
            self.parts[table] = store.open_fold(table)[1]
            self.fresh[table] = {}
            self.follow(table)
        self.fold_at = time.monotonic() + FOLD_SECONDS

    def rows(self, table: str, columns: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
        """Give every row once, as far as the parts are read, with those of the `columns` that the table has."""
        for piece in self._pieces(table)[0]:
            names = piece.column_names if columns is None else [name for name in columns if name in piece.column_names]
            for batch in piece.select(names).to_batches(max_chunksize=BATCH):
                yield from batch.to_pylist()

    def catch_up(self, table: str) -> list[dict[str, Any]]:
        """Read parts that were not read yet; their rows."""
        return [row for name in self._unread(table) for row in self.absorb(table, name)]

    def follow(self, table: str) -> None:
        """Read parts that were not read yet, whose rows nobody needs."""
        for name in self._unread(table):
            self._read(table, name)

    def absorb(self, table: str, part: str) -> list[dict[str, Any]]:
        """Read one durable part; its rows (none when it was read already)."""
        if part in self.parts[table] or part in self.damaged:
            return []
        rows = self._read(table, part)
        return [] if rows is None else list(rows.to_pylist())

    def write(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Write rows of the driver's own as a part."""
        if rows:
            self._add(table, *self.store.write_rows(table, rows))

    def take_over(self, table: str, part: str, content: bytes) -> list[dict[str, Any]]:
        """Write a part that a worker could not write itself; its rows, once they are durable (none known already)."""
        if part in self.parts[table]:
            return []
        self.store.put_part(table, part, content)
        self._add(table, part, content)
        return list(from_bytes(content).to_pylist())

    def _unread(self, table: str) -> list[str]:
        known = self.parts[table] | self.damaged
        return [name for name in self.store.part_names(table) if name not in known]

    def _read(self, table: str, part: str) -> pa.Table | None:
        """Read a part and keep its bytes until the next fold; None where it is damaged."""
        content = self.store.get_part(table, part)
        rows = readable(table, f"{self.store.uri}/parts/{table}/{part}", content)
        if rows is None:
            self.damaged.add(part)
        else:
            self._add(table, part, content)
        return rows

    def _add(self, table: str, part: str, content: bytes) -> None:
        self.parts[table].add(part)
        self.fresh[table][part] = content
        self.stale.add(table)

    def _pieces(self, table: str) -> tuple[Iterator[pa.Table], set[str]]:
        """All rows in pieces, and the names of the parts that they are from.

        Another driver of this sweep may have replaced the fold: what it lacks is read from the log again.
        """
        file, folded = self.store.open_fold(table)
        fresh = self.fresh[table]
        lost = [self.store.get_part(table, name) for name in self.parts[table] - folded - fresh.keys()]
        news = [part for name, part in fresh.items() if name not in folded]
        pieces = merge(table, file, [*news, *lost], self.schemas[table], self.tombstones)
        return pieces, self.parts[table] | folded

    def fold_if_due(self) -> None:
        """Fold when the interval has passed."""
        if time.monotonic() >= self.fold_at:
            self.fold(("trials", "cells"))

    def _write_fold(self, table: str) -> None:
        self.store.write_fold(table, *self._pieces(table))

    def fold(self, tables: Iterable[str] = ()) -> None:
        """Replace the folded objects of those tables (of all without any) that have news."""
        began = time.monotonic()
        with plain_memory():
            for table in tables or self.tables:
                if table in self.stale:
                    self.store.patiently(partial(self._write_fold, table))
                    self.fresh[table] = {}
                    self.stale.discard(table)
        ended = time.monotonic()
        self.fold_at = ended + max(FOLD_SECONDS, FOLD_PAUSE * (ended - began))
