"""Rows on object storage: immutable parts are the log, one object per table is their fold."""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from sweeps.errors import InputError
from sweeps.patience import patiently
from sweeps.recordings.images import open_filesystem
from sweeps.schema import KEYS, TEXT, TEXTS, as_table, column_notes, schema_of, unify

FOLDED = b"cortex-sweeps.folded"
COMPACTED = "compacted.json"
"""Lies beside a fold whose parts were removed."""

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
    `<table>/<table>.parquet` is replaced whole by one PUT. Listings are never cached. An object store that is away or
    busy is waited for, up to `patience` seconds.
    """

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        self.uri, self.patience = uri.rstrip("/"), patience
        self.fs, root = open_filesystem(self.uri)
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Store], tuple[str, float]]:
        return Store, (self.uri, self.patience)

    def _remote(self, action: str, *given: Any, **options: Any) -> Any:
        """A call of the file system; listings and objects of an object store come after some patience."""
        call = functools.partial(getattr(self.fs, action), *given, **options)
        return call() if self.local else patiently(call, self.uri, self.patience)

    def put(self, name: str, content: bytes) -> None:
        """Write an object as a whole: it exists with all its bytes, or not at all."""
        if self.local:
            with self._replaced(name) as file:
                file.write(content)
        else:
            self._remote("pipe_file", f"{self.root}/{name}", content, timeout=PUT_SECONDS)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; whether it was written. A store that knows no such put overwrites."""
        path = f"{self.root}/{name}"
        try:
            if self.local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with open(path, "xb") as file:
                    file.write(content)
            else:
                self._remote("pipe_file", path, content, mode="create", timeout=PUT_SECONDS)
        except FileExistsError:
            return False
        except OSError as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                return False
            if code not in ("NotImplemented", "501"):
                raise
            self.put(name, content)
        return True

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are gone already are none too many. InputError where that is not allowed."""
        paths = [f"{self.root}/{name}" for name in names]
        try:
            for path in paths if self.local else ():
                Path(path).unlink(missing_ok=True)
            if len(paths) == 1 and not self.local:
                with suppress(FileNotFoundError):
                    self._remote("rm_file", paths[0])
            elif paths and not self.local:
                self._remote("rm", paths)
                if self._remote("exists", paths[-1]):  # s3fs does not say so when a bulk removal is refused
                    raise PermissionError
        except PermissionError:
            raise InputError(
                "objects may not be removed here (s3:DeleteObject)", key="storage", value=self.uri
            ) from None

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
                self._remote("put_file", file.name, f"{self.root}/{name}", timeout=PUT_SECONDS)

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
            return bytes(self._remote("cat_file", f"{self.root}/{name}"))
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
        return [name for name in self.names(f"parts/{table}") if name.endswith(".parquet")]

    def names(self, folder: str) -> list[str]:
        """Names of the objects in a folder, sorted; none where there is no such folder."""
        try:
            found = self._remote("ls", f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if name and not name.startswith("."))

    # -- folds --------------------------------------------------------------------------------------

    def open_fold(self, table: str) -> tuple[pq.ParquetFile | None, set[str]]:
        """The folded object, still compressed, and the names of the parts in it; (None, empty) when there is none.

        Locally it stays on disk, where it is whole even when it is replaced meanwhile.
        """
        name = f"{table}/{table}.parquet"
        place = Path(self.root) / name
        content = (place if place.exists() else None) if self.local else self.get(name)
        if content is None:
            return None, set()
        try:
            held = _opened(content)
            folded = set(json.loads((held.schema_arrow.metadata or {})[FOLDED]))
        except Exception as error:  # whatever a damaged file makes pyarrow raise
            return self._without_fold(table, f"{self.uri}/{name}", error)
        return held, folded

    def _without_fold(self, table: str, name: str, error: Exception) -> tuple[None, set[str]]:
        """What a damaged fold held lies in its parts, too, unless they were removed."""
        if COMPACTED in self.names(table):
            raise InputError(f"is damaged, and its parts were compacted into it ({error})", file=name) from None
        warn_damaged(name, error)
        return None, set()

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
        """Every row of a table once: the fold and all newer parts; None when neither exists.

        Parts that are damaged are left out with a warning. Where one is gone meanwhile, a newer fold has its rows.
        """
        while True:
            held, folded = self.read_fold(table)
            fresh = [name for name in self.part_names(table) if name not in folded]
            if not fresh:  # a fold holds every row once already
                return None if held is None else unify(table, [held])
            try:
                parts = [held, *(self.part_or_none(table, name) for name in fresh)]
            except FileNotFoundError:
                continue
            return fold(table, [part for part in parts if part is not None])

    def part_or_none(self, table: str, name: str) -> pa.Table | None:
        """A part by name; None, with a warning, when it is damaged; FileNotFoundError when it is gone."""
        return readable(table, f"{self.uri}/parts/{table}/{name}", self.get_part(table, name))


def to_bytes(table: pa.Table) -> bytes:
    """A table as Parquet bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def from_bytes(content: bytes) -> pa.Table:
    """The table in Parquet bytes, one chunk for each of its row groups."""
    return _opened(content).read(use_threads=False)


def readable(table: str, name: str, content: bytes) -> pa.Table | None:
    """The rows in the bytes of a part; None, with a warning, where they are not rows of this table."""
    try:
        found = unify(table, [from_bytes(content)])
        if found[KEYS[table]].null_count:
            raise ValueError(f"rows without {KEYS[table]}")
    except Exception as error:  # whatever a damaged or foreign file makes pyarrow raise
        warn_damaged(name, error)
        return None
    return found


def warn_damaged(name: str, error: Exception) -> None:
    """Say that a file is left out."""
    warnings.warn(f"{name} is damaged and left out ({' '.join(str(error).split())})", stacklevel=3)


def _opened(content: bytes | Path) -> pq.ParquetFile:
    source = pa.BufferReader(content) if isinstance(content, bytes) else content
    return pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)


def _write_grouped(file: IO[bytes], pieces: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write pieces of a table as Parquet in groups of GROUP_ROWS, however long the pieces are."""
    held = schema.empty_table()
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
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
