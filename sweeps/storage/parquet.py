"""Rows as Parquet, and the fold: one row per key out of all that was written."""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeps.errors import escaped
from sweeps.storage.schema import KEYS, TEXT, TEXTS, unified_schema, unify

GROUP_ROWS, MERGED_ROWS = 10_000, 2_500
"""Rows of a row group of a fold, and folded rows that are compared with news at a time: some 10 MB uncompressed."""

RANKS = {"done": 0, "pruned": 1, "failed": 2}


class Tombstones:
    """Rows that count no more, by table: each is named by its id, attempt and time.

    A row of the same id that is made later is another one, and counts.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._named: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        for row in rows:
            self._named[row["table"]].add((row["row_id"], row["attempt"], row["finished"]))

    def has(self, table: str) -> bool:
        """Whether rows of a table are named."""
        return bool(self._named.get(table))

    def without(self, table: str, rows: pa.Table) -> pa.Table:
        """The rows that count."""
        named = self._named.get(table, set())
        if not named or not len(rows):
            return rows
        ids = pa.array(sorted({row_id for row_id, *_ in named}))
        suspect = pc.is_in(rows[KEYS[table]], value_set=ids)
        marks = (row in named for row in row_names(table, rows.filter(suspect)))
        return rows.filter([not (may_be and next(marks)) for may_be in suspect.to_pylist()])


def row_names(table: str, rows: pa.Table) -> list[tuple[Any, ...]]:
    """What tombstones name rows by: id, attempt and time; None where a table has no such column."""
    names = (KEYS[table], "attempt", "finished")
    columns = [rows[name].to_pylist() if name in rows.column_names else [None] * len(rows) for name in names]
    return list(zip(*columns, strict=True))


NO_TOMBSTONES = Tombstones()


def to_bytes(table: pa.Table) -> bytes:
    """Write a table as Parquet bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def from_bytes(content: bytes) -> pa.Table:
    """Read the table in Parquet bytes, one chunk for each of its row groups."""
    return opened(content).read(use_threads=False)


def readable(table: str, name: str, content: bytes) -> pa.Table | None:
    """Read the rows in the bytes of a part; None, with a warning, where they are not rows of this table."""
    try:
        rows = unify(table, [from_bytes(content)])
        if rows[KEYS[table]].null_count:
            raise ValueError(f"rows without {KEYS[table]}")
    except Exception as error:  # whatever a damaged or foreign file makes pyarrow raise
        warn_damaged(name, error)
        return None
    return rows


def warn_damaged(name: str, error: Exception) -> None:
    """Warn that a file is left out."""
    reason = " ".join(str(error).split())
    warnings.warn(escaped(f"{name} is damaged and left out ({reason})"), stacklevel=3)


def opened(content: bytes | Path) -> pq.ParquetFile:
    """Open a Parquet file that is read with the checksums of its pages."""
    source = pa.BufferReader(content) if isinstance(content, bytes) else content
    return pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)


def write_grouped(file: IO[bytes], pieces: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write pieces of a table as Parquet in groups of GROUP_ROWS, however long the pieces are."""
    pending = schema.empty_table()
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for piece in pieces:
            pending = pa.concat_tables([pending, piece.cast(schema)])
            whole = len(pending) // GROUP_ROWS * GROUP_ROWS
            if whole:
                writer.write_table(pending.slice(0, whole), row_group_size=GROUP_ROWS)
                pending = pending.slice(whole)
        if len(pending):
            writer.write_table(pending)


def merge(
    table: str,
    folded: pq.ParquetFile | None,
    parts: Iterable[bytes],
    schema: pa.Schema | None = None,
    tombstones: Tombstones = NO_TOMBSTONES,
) -> Iterator[pa.Table]:
    """Fold a folded object and newer parts, in pieces of one schema: some folded rows and what is new among them.

    Folded rows are sorted by key, so that of them MERGED_ROWS are in memory at a time. There is at least one piece.
    Rows with a tombstone are left out, before any is chosen.
    """
    batches = folded.iter_batches(MERGED_ROWS, use_threads=False) if folded else iter(())
    read = (unify(table, [from_bytes(part)], texts=TEXTS) for part in parts)
    news = fold(table, [tombstones.without(table, rows) for rows in read], schema, TEXTS)
    schemas = [*([schema] if schema else []), news.schema, *([folded.schema_arrow] if folded else [])]
    full = unified_schema(table, schemas)
    for batch in batches:
        older, key = pa.Table.from_batches([batch]), KEYS[table]
        count = pc.sum(pc.less_equal(news[key], older[key][-1])).as_py() or 0
        yield fold(table, [tombstones.without(table, older), news.slice(0, count)], full)
        news = news.slice(count)
    yield unify(table, [news], full)


def fold(table: str, parts: list[pa.Table], schema: pa.Schema | None = None, texts: pa.DataType = TEXT) -> pa.Table:
    """Choose one row per key: `done` before `pruned` before `failed`, then the latest attempt, then the latest in time.

    A pure function of the rows, whatever their order: rows that are equal in all of these are told apart by
    what they hold.
    """
    joined = unify(table, parts, schema, texts)
    key = KEYS[table]
    counts = pc.value_counts(joined[key]).flatten()
    repeated = pc.is_in(joined[key], value_set=counts[0].filter(pc.greater(counts[1], 1)))
    if pc.any(repeated).as_py():
        best = _best_of_each(joined.filter(repeated), key)
        joined = pa.concat_tables([joined.filter(pc.invert(repeated)), best])
    return joined.sort_by(key)


def _best_of_each(rows: pa.Table, key: str) -> pa.Table:
    best: dict[str, tuple[Any, ...]] = {}
    for index, row in enumerate(rows.to_pylist()):
        finished = row.get("finished")
        place = (
            RANKS.get(row.get("status", ""), len(RANKS)),
            -(row.get("attempt") or 0),
            -finished.timestamp() if finished else 0.0,
            repr(sorted(row.items())),
            index,
        )
        best[row[key]] = min(place, best.get(row[key], place))
    return rows.take([place[-1] for place in best.values()])
