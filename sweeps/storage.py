"""Rows on object storage: immutable parts are the log, one object per table is their fold."""

from __future__ import annotations

import io
import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from sweeps.errors import InputError
from sweeps.recordings.images import open_filesystem
from sweeps.schema import KEYS, TEXT, TEXTS, as_table, column_notes, schema_of, unify

FOLDED = b"cortex-sweeps.folded"
PUT_SECONDS = 300.0
CHECK_SECONDS = 20.0
"""A server that accepts a PUT and then is silent would otherwise be waited for for ever."""

GROUP_ROWS, MERGED_ROWS = 10_000, 2_500
"""Rows of a row group of a fold, and folded rows that are compared with news at a time: some 10 MB uncompressed."""

RANKS = {"done": 0, "pruned": 1, "failed": 2}

T = TypeVar("T")


class Store:
    """One sweep's storage: a local folder or an object-store URL.

    `parts/<table>/<uuid>.parquet` are written once, each by one PUT (locally: write and rename), and
    `<table>/<table>.parquet` is replaced whole by one PUT. Listings are never cached.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.fs, root = open_filesystem(self.uri)
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    def put(self, name: str, content: bytes) -> None:
        """Write an object as a whole: it exists with all its bytes, or not at all."""
        if self.local:
            with self._replaced(name) as file:
                file.write(content)
        else:
            self.fs.pipe_file(f"{self.root}/{name}", content, timeout=PUT_SECONDS)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file on disk to fill: when it is left, the object holds all that was written; an error leaves none."""
        if self.local:
            with self._replaced(name) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                self.fs.put_file(file.name, f"{self.root}/{name}", timeout=PUT_SECONDS)

    @contextmanager
    def _replaced(self, name: str) -> Iterator[IO[bytes]]:
        target = Path(self.root) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with open(fresh, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, target)
        finally:
            fresh.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        """An object's bytes in one request, or None when there is none."""
        try:
            return bytes(self.fs.cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def check_writable(self) -> None:
        """Raise InputError, saying why, when rows cannot be written here. Leaves nothing behind locally.

        Remotely an empty object is written and removed again; a role that may write but not delete is enough,
        the object then stays.
        """
        if self.local:
            place = next(path for path in (Path(self.root), *Path(self.root).parents) if path.exists())
            if not place.is_dir():
                raise InputError(f"{place} is not a folder", key="storage", value=self.uri)
            try:
                tempfile.TemporaryFile(dir=place).close()
            except OSError as error:
                raise InputError(
                    f"{place} cannot be written: {error.strerror}", key="storage", value=self.uri
                ) from None
            return
        path = f"{self.root}/.write-check"
        try:
            self.fs.pipe_file(path, b"", timeout=CHECK_SECONDS)
            with suppress(PermissionError):
                self.fs.rm_file(path)
        except Exception as error:
            raise storage_error(self.uri, error) from None

    # -- parts --------------------------------------------------------------------------------------

    def write_part(self, table: str, rows: list[dict[str, Any]]) -> str:
        """Write rows as one part and return its name once it is durable."""
        return self.write_rows(table, rows)[0]

    def write_rows(self, table: str, rows: list[dict[str, Any]]) -> tuple[str, bytes]:
        """Write rows as one part; its name, once it is durable, and its bytes."""
        name, content = f"{uuid.uuid4().hex}.parquet", to_bytes(as_table(table, rows))
        self.put(f"parts/{table}/{name}", content)
        return name, content

    def get_part(self, table: str, name: str) -> bytes:
        """The bytes of a part by name; FileNotFoundError when it is gone (compacted meanwhile)."""
        content = self.get(f"parts/{table}/{name}")
        if content is None:
            raise FileNotFoundError(f"{self.uri}/parts/{table}/{name}")
        return content

    def read_part(self, table: str, name: str) -> pa.Table:
        """A part by name; FileNotFoundError when it is gone (compacted meanwhile)."""
        return from_bytes(self.get_part(table, name))

    def part_names(self, table: str) -> list[str]:
        """Names of the parts that are there, sorted."""
        try:
            found = self.fs.ls(f"{self.root}/parts/{table}", detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if name.endswith(".parquet") and not name.startswith("."))

    # -- folds --------------------------------------------------------------------------------------

    def open_fold(self, table: str) -> tuple[pq.ParquetFile | None, set[str]]:
        """The folded object, still compressed, and the names of the parts in it; (None, empty) when there is none.

        Locally it stays on disk, where it is whole even when it is replaced meanwhile.
        """
        name = f"{table}/{table}.parquet"
        if self.local:
            place = Path(self.root) / name
            held = pq.ParquetFile(place, pre_buffer=False) if place.exists() else None
        else:
            content = self.get(name)
            held = None if content is None else pq.ParquetFile(pa.BufferReader(content))
        if held is None:
            return None, set()
        metadata = held.schema_arrow.metadata or {}
        return held, set(json.loads(metadata.get(FOLDED, b"[]")))

    def read_fold(self, table: str) -> tuple[pa.Table | None, set[str]]:
        """The folded table and the names of the parts in it; (None, empty) when there is none yet."""
        held, folded = self.open_fold(table)
        return None if held is None else held.read(), folded

    def write_fold(self, table: str, rows: pa.Table | Iterator[pa.Table], parts: Iterable[str]) -> None:
        """Replace the folded table; `rows` may come in pieces of one schema, at least one."""
        pieces = iter([rows] if isinstance(rows, pa.Table) else rows)
        first = next(pieces)
        metadata = {FOLDED: json.dumps(sorted(parts)).encode()}
        fields = [field.with_metadata(column_notes(field.name)) for field in first.schema]
        with self.writing(f"{table}/{table}.parquet") as file:
            _write_grouped(file, itertools.chain([first], pieces), pa.schema(fields, metadata))

    def read_table(self, table: str) -> pa.Table | None:
        """Every row of a table once: the fold and all newer parts; None when neither exists."""
        held, folded = self.read_fold(table)
        fresh = [name for name in self.part_names(table) if name not in folded]
        if not fresh:  # a fold holds every row once already
            return None if held is None else unify(table, [held])
        parts = [part for part in (self._part_or_none(table, name) for name in fresh) if part is not None]
        return fold(table, [part for part in [held, *parts] if part is not None])

    def _part_or_none(self, table: str, name: str) -> pa.Table | None:
        try:
            return self.read_part(table, name)
        except FileNotFoundError:
            return None


def to_bytes(table: pa.Table) -> bytes:
    """A table as Parquet bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_bytes(content: bytes) -> pa.Table:
    """The table in Parquet bytes, one chunk for each of its row groups."""
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def _write_grouped(file: IO[bytes], pieces: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write pieces of a table as Parquet in groups of GROUP_ROWS, however long the pieces are."""
    held = schema.empty_table()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for piece in pieces:
            held = pa.concat_tables([held, piece.cast(schema)])
            whole = len(held) // GROUP_ROWS * GROUP_ROWS
            if whole:
                writer.write_table(held.slice(0, whole), row_group_size=GROUP_ROWS)
                held = held.slice(whole)
        if len(held):
            writer.write_table(held)


def merge(
    table: str, folded: pq.ParquetFile | None, parts: Iterable[bytes], schema: pa.Schema | None = None
) -> Iterator[pa.Table]:
    """`fold` of a folded object and newer parts, in pieces of one schema: some folded rows and what is new among them.

    Folded rows are sorted by key, so that of them MERGED_ROWS are held at a time. There is at least one piece.
    """
    batches = folded.iter_batches(MERGED_ROWS, use_threads=False) if folded else iter(())
    news = fold(table, [unify(table, [from_bytes(part)], texts=TEXTS) for part in parts], schema, TEXTS)
    full = schema_of(table, [*news.column_names, *(folded.schema_arrow.names if folded else ())])
    for batch in batches:
        held, key = pa.Table.from_batches([batch]), KEYS[table]
        count = pc.sum(pc.less_equal(news[key], held[key][-1])).as_py() or 0
        yield fold(table, [held, news.slice(0, count)], full)
        news = news.slice(count)
    yield unify(table, [news], full)


def fold(table: str, parts: list[pa.Table], schema: pa.Schema | None = None, texts: pa.DataType = TEXT) -> pa.Table:
    """One row per key: `done` before `pruned` before `failed`, then the latest attempt, then the latest in time.

    A pure function of the rows, whatever their order: rows that are equal in all of these are told apart by
    what they hold.
    """
    joined = unify(table, parts, schema, texts)
    key = KEYS[table]
    counts = pc.value_counts(joined[key]).flatten()
    repeated = pc.is_in(joined[key], value_set=counts[0].filter(pc.greater(counts[1], 1)))
    if pc.any(repeated).as_py():
        kept = _best_of_each(joined.filter(repeated), key)
        joined = pa.concat_tables([joined.filter(pc.invert(repeated)), kept])
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


def storage_error(uri: str, error: Exception) -> InputError:
    """What went wrong with a storage place, in the user's words; credentials are never repeated."""
    text = f"{type(error).__name__}: {error}"
    known: list[tuple[tuple[str, ...], str]] = [
        (
            ("NoCredentials", "Unable to locate credentials"),
            "no AWS credentials were found (environment, profile or role)",
        ),
        (
            (
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "AccessDenied",
                "Forbidden",
                "403",
                "PermissionError",
            ),
            "access denied: check the credentials and their permission to write here",
        ),
        (("NoSuchBucket", "bucket does not exist"), "no such bucket"),
        (
            ("EndpointConnectionError", "ConnectTimeout", "Could not connect", "Connection refused", "FSTimeout"),
            "the object store does not answer (AWS_ENDPOINT_URL)",
        ),
        (("ReadOnly", "Read-only"), "cannot be written: the file system is read-only"),
        (("NotADirectory", "FileExists", "IsADirectory"), "cannot be written: a file is in the way"),
    ]
    for words, meaning in known:
        if any(word in text for word in words):
            return InputError(meaning, key="storage", value=uri)
    return InputError(f"cannot be written ({type(error).__name__}: {error})", key="storage", value=uri)


def attempt(action: Callable[[], T], uri: str) -> T:
    """Run a storage action; whatever it raises becomes an InputError about the storage place."""
    try:
        return action()
    except InputError:
        raise
    except Exception as error:
        raise storage_error(uri, error) from None
