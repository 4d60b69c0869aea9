"""Rows on object storage: immutable parts are the log, one object per table is their fold."""

from __future__ import annotations

import itertools
import json
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeps.errors import InputError, listed
from sweeps.io.guards.regular_files import refuse_special
from sweeps.storage.objects import Objects, attempt
from sweeps.storage.parquet import (
    MERGED_ROWS,
    NO_TOMBSTONES,
    Tombstones,
    fold,
    opened,
    readable,
    row_names,
    to_bytes,
    warn_damaged,
    write_grouped,
)
from sweeps.storage.schema import FORGOTTEN, KEYS, unify

FOLDED = b"cortex-sweeps.folded"
COMPACTED, COMPACTED_BEFORE = "_compacted.json", "compacted.json"
"""Lies beside a fold whose parts were removed. Pandas, which reads every file of a folder, skips what begins with `_`;
the earlier name stays known."""


class Store(Objects):
    """One sweep's storage.

    `parts/<table>/<uuid>.parquet` are written once, and `<table>/<table>.parquet` is replaced whole.
    """

    def write_part(self, table: str, rows: list[dict[str, Any]]) -> str:
        """Write rows as one part and return its name once it is durable."""
        return self.write_rows(table, rows)[0]

    def write_rows(self, table: str, rows: list[dict[str, Any]]) -> tuple[str, bytes]:
        """Write rows as one part; its name, once it is durable, and its bytes."""
        name, content = part_of(table, rows)
        self.put_part(table, name, content)
        return name, content

    def put_part(self, table: str, name: str, content: bytes) -> None:
        """Write the bytes of a part; they are durable when this returns."""
        self.put(f"parts/{table}/{name}", content)

    def get_part(self, table: str, name: str) -> bytes:
        """Read the bytes of a part by name; FileNotFoundError when it is gone (compacted meanwhile)."""
        content = self.get(f"parts/{table}/{name}")
        if content is None:
            raise FileNotFoundError(f"{self.uri}/parts/{table}/{name}")
        return content

    def part_names(self, table: str) -> list[str]:
        """List the parts that are there by name, sorted."""
        return [name for name in self.names(f"parts/{table}") if name.endswith(".parquet")]

    def open_fold(self, table: str, through: bool = True) -> tuple[pq.ParquetFile | None, set[str]]:
        """Open the folded object, still compressed, with the names of the parts in it; (None, empty) if there is none.

        It is read `through` once, with the checksums of its pages. Locally it stays on disk, where it is whole even
        when it is replaced meanwhile. One that is damaged counts as none, with a warning, as long as its parts are
        there; where they were compacted into it, InputError.
        """
        name = f"{table}/{table}.parquet"
        place = Path(self.root) / name
        if self.local:
            refuse_special(str(place), f"{self.uri}/{name}")
        content = (place if place.exists() else None) if self.local else self.get(name)
        if content is None:
            return None, set()
        try:
            file = opened(content)
            parts = set(json.loads((file.schema_arrow.metadata or {})[FOLDED]))
            for _ in file.iter_batches(MERGED_ROWS, use_threads=False) if through else ():
                pass
        except Exception as error:  # whatever a damaged file makes pyarrow raise
            return self._without_fold(table, error)
        return file, parts

    def _without_fold(self, table: str, error: Exception) -> tuple[None, set[str]]:
        """Go on from the parts, which hold what a damaged fold held, unless they were removed: InputError."""
        name = f"{self.uri}/{table}/{table}.parquet"
        if {COMPACTED, COMPACTED_BEFORE} & set(self.names(table)):
            why = " ".join(str(error).split())
            raise InputError(
                f"is damaged, and its parts were compacted into it ({why}): "
                "put an earlier copy there, or remove it and what it held is computed again",
                file=name,
            ) from None
        warn_damaged(name, error)
        return None, set()

    def read_fold(self, table: str) -> tuple[pa.Table | None, set[str]]:
        """Read the folded table and the names of the parts in it; (None, empty) when there is none; see `open_fold`."""
        file, parts = self.open_fold(table, through=False)
        try:
            return None if file is None else file.read(), parts
        except Exception as error:
            return self._without_fold(table, error)

    def write_fold(self, table: str, rows: pa.Table | Iterator[pa.Table], parts: Iterable[str]) -> None:
        """Replace the folded table; `rows` may come in pieces of one schema, at least one."""
        from sweeps.storage.columns import column_notes

        pieces = iter([rows] if isinstance(rows, pa.Table) else rows)
        first = next(pieces)
        metadata = {FOLDED: json.dumps(sorted(parts)).encode()}
        fields = [field.with_metadata(column_notes(field.name)) for field in first.schema]
        with self.writing(f"{table}/{table}.parquet") as file:
            write_grouped(file, itertools.chain([first], pieces), pa.schema(fields, metadata))

    def read_table(self, table: str, keys: Sequence[str] | None = None) -> pa.Table | None:
        """Read every row of a table once, or those of these `keys`: the fold and all newer parts; None for neither.

        Parts that are damaged are left out with a warning, rows with a tombstone silently. Where a part is gone
        meanwhile, a newer fold has its rows; tombstones are read first, since they go after what they name.
        """
        while True:
            try:
                tombstones = self.tombstones() if table != FORGOTTEN else NO_TOMBSTONES
                folded, names = self.read_fold(table)
                fresh = [name for name in self.part_names(table) if name not in names]
                parts = [folded, *(self.part_or_none(table, name) for name in fresh)]
            except FileNotFoundError:
                continue
            rows = [tombstones.without(table, _of(part, table, keys)) for part in parts if part is not None]
            if not fresh:  # a fold holds every row once already
                return None if folded is None else unify(table, rows)
            return fold(table, rows)

    def foreign(self) -> list[str]:
        """List what lies beside folded tables and is not ours: pandas would read it as rows, or fail over it.

        Names that begin with `.` or `_` are left out, as pandas skips them.
        """
        there = set(self.names("")) - {FORGOTTEN}  # one listing, in place of one for every table that is not there
        beside = ((table, name) for table in KEYS if table in there for name in self.names(table))
        ours = {f"{table}/{name}" for table in KEYS for name in (f"{table}.parquet", COMPACTED_BEFORE)}
        names = (f"{table}/{name}" for table, name in beside if not name.startswith("_"))
        return [name for name in names if name not in ours]

    def tombstones(self) -> Tombstones:
        """Read which rows were removed for good."""
        parts = [self.part_or_none(FORGOTTEN, name) for name in self.part_names(FORGOTTEN)]
        return Tombstones(row for part in parts if part is not None for row in part.to_pylist())

    def part_or_none(self, table: str, name: str) -> pa.Table | None:
        """Read a part by name; None, with a warning, when it is damaged; FileNotFoundError when it is gone."""
        return readable(table, f"{self.uri}/parts/{table}/{name}", self.get_part(table, name))

    def names_of_rows(self, table: str, keys: Sequence[str]) -> set[tuple[Any, ...]]:
        """What tombstones name every row of these keys by, those included that the fold does not choose."""
        parts = [self.read_fold(table)[0], *(self.part_or_none(table, name) for name in self.part_names(table))]
        return {name for part in parts if part is not None for name in row_names(table, _of(part, table, keys))}


def part_of(table: str, rows: list[dict[str, Any]]) -> tuple[str, bytes]:
    """Make a part of rows: its name, which no other part has, and its bytes."""
    from sweeps.storage.columns import as_table

    return f"{uuid.uuid4().hex}.parquet", to_bytes(as_table(table, rows))


def warn_foreign(store: Store) -> None:
    """Warn, in one line, of files that are not ours among the tables of a sweep."""
    names = attempt(store.foreign, store.uri)
    if names:
        problem = f"{store.uri}: not of this sweep, but pandas would read it with the tables: {listed(names)}"
        warnings.warn(f"{problem}; move it elsewhere", stacklevel=3)


def _of(rows: pa.Table, table: str, keys: Sequence[str] | None) -> pa.Table:
    """The rows of these keys; all without any."""
    return rows if keys is None else rows.filter(pc.is_in(rows[KEYS[table]], value_set=pa.array(keys, pa.string())))
