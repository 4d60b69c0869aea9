"""Files that may be damaged: what a library raises over them becomes an InputError, and no size is believed."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sweeps.errors import InputError, shortened
from sweeps.io.guards.free_memory import refuse_beyond_memory, refuse_numbers_beyond_memory
from sweeps.io.pointers import refuse_dangling

LARGE = 2**28
"""Bytes up to which anything may unpack."""

DENSEST = 1100
"""Times that more than that may unpack to: deflate, the usual compression, reaches 1032 for zeros alone."""

MOST_COLUMNS = 10_000
"""Columns of a table of text. Recordings have few; a table that lies on its side has as many as it should have rows."""

DENSEST_NUMBERS = 100
"""The same for arrays of numbers that are measured or computed, which are not zeros alone."""


@contextmanager
def reading(file: str, problem: str = "cannot be read") -> Iterator[None]:
    """Turn whatever a library raises over a file, which is nowhere documented, into an InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:  # a link that leads nowhere, among others that are there
        named = error.filename or (error.args[0] if len(error.args) == 1 else file)
        refuse_dangling(str(named), str(named))
        raise InputError("missing file", file=str(named)) from None
    except Exception as error:
        raise InputError(f"{problem}: {type(error).__name__}: {shortened(str(error))}", file=file) from None


def most_unpacked(packed: int, densest: int = DENSEST) -> int:
    """Give the most bytes that so many bytes may unpack to."""
    return max(LARGE, densest * packed)


def refuse_bomb(unpacked: int, packed: int, file: str, key: str | None = None, densest: int = DENSEST) -> None:
    """Refuse to unpack what is made to fill the memory.

    >>> refuse_bomb(10**13, 10**6, "session.zip")
    Traceback (most recent call last):
    sweeps.errors.InputError: session.zip: says that its 1000000 bytes hold 10000000000000: if so, compress it less
    """
    if unpacked > most_unpacked(packed, densest):
        problem = f"says that its {packed} bytes hold {unpacked}: if so, compress it less"
        raise InputError(problem, file=file, key=key)


def refuse_infinite(values: np.ndarray, file: str, key: str | None = None) -> None:
    """Refuse numbers that are infinite, or become so in 32 bits; NaN is a missing one."""
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        if np.isinf(values.astype(np.float32, copy=False)).any():
            raise InputError("holds infinite values: only numbers and NaN are allowed", file=file, key=key)


def refuse_wide(content: bytes, file: str) -> None:
    """Refuse the contents of a table of text whose header has more columns than any table that is read here.

    Of 400,000 the parser alone would take minutes.
    """
    header = content.partition(b"\n")[0]
    columns = 1 + max(header.count(b","), header.count(b"\t"))
    if columns > MOST_COLUMNS:
        raise InputError(f"has {columns:,} columns, at most {MOST_COLUMNS:,} are read", file=file)


def npy_header(stream: Any, file: str, kinds: str = "fiub") -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether it is stored column by column, and type; the stream is left at the first number."""
    with reading(file, "is not a plain .npy array"):
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, kind = read(stream)
    if kind.hasobject:
        problem = "is not a plain .npy array: it holds pickled objects, which are never loaded"
        raise InputError(f"{problem}; where you trust it, convert it once: {_conversion(file, kinds, True)}", file=file)
    if kind.kind not in kinds:
        wanted = "one text per entry" if "U" in kinds else "numbers"
        advice = f"; convert it: {_conversion(file, kinds)}" if kind.kind in "US" else ""
        raise InputError(f"must hold {wanted}, not {kind}{advice}", file=file)
    if min(shape, default=0) < 0:
        raise InputError(f"is not a plain .npy array: its shape is {shape}", file=file)
    return shape, by_columns, kind


def _conversion(file: str, kinds: str, pickled: bool = False) -> str:
    """Write the line of Python that stores a file again as what is wanted: texts, or numbers."""
    load, kind = ", allow_pickle=True" if pickled else "", "str" if "U" in kinds else "float"
    if file.endswith(".npz"):
        return f"np.savez(file, **{{key: array.astype({kind}) for key, array in np.load(file{load}).items()}})"
    return f"np.save(file, np.load(file{load}).astype({kind}))"


def npy_array(content: bytes, file: str, kinds: str = "fiub") -> np.ndarray:
    """Read the array that the contents of a .npy file hold, of numbers or of other kinds of NumPy's types."""
    stream = io.BytesIO(content)
    shape, by_columns, kind = npy_header(stream, file, kinds)
    count, start = math.prod(shape), stream.tell()
    if len(content) - start < count * kind.itemsize:
        raise InputError(f"is not a plain .npy array: it ends early, its header says {shape} of {kind}", file=file)
    refuse_numbers_beyond_memory(count, kind.itemsize, file)
    with reading(file, "is not a plain .npy array"):
        flat = np.frombuffer(content, kind, count, start) if count else np.empty(0, kind)
        return flat.reshape(shape, order="F" if by_columns else "C").copy()


def npz_arrays(content: bytes, file: str) -> dict[str, np.ndarray]:
    """Read the numeric arrays of the contents of an .npz file, as float64 by their names.

    Nothing is unpacked before the headers of all members say what they hold, and that there is room for it.
    """
    with reading(file, "is not a plain .npz file"), zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        refuse_bomb(sum(entry.file_size for entry in entries), len(content), file, densest=DENSEST_NUMBERS)
        needed = [_check_member(archive, entry, len(content), file) for entry in entries]
        doubles, packed = sum(doubles for doubles, _ in needed), max((raw for _, raw in needed), default=0)
        refuse_beyond_memory(doubles + 2 * packed, file, what=" in float64")
        return {_key(entry): _member(archive, entry, file) for entry in entries}


def _check_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, packed: int, file: str) -> tuple[int, int]:
    """Read the header of a member: its bytes in float64, and as they are; InputError where these have no room."""
    key = _key(entry)
    refuse_bomb(entry.file_size, min(packed, entry.compress_size), file, key, DENSEST_NUMBERS)
    with _keyed(key), archive.open(entry) as stream:
        shape, _, kind = npy_header(stream, file)
        count, start = math.prod(shape), stream.tell()
    if entry.file_size - start < count * kind.itemsize:
        raise InputError(
            f"is not a plain .npy array: it ends early, its header says {shape} of {kind}", file=file, key=key
        )
    refuse_beyond_memory(8 * count + 2 * count * kind.itemsize, file, key, " in float64")
    return 8 * count, count * kind.itemsize


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: str) -> np.ndarray:
    with _keyed(_key(entry)):
        return npy_array(archive.read(entry), file).astype(np.float64, copy=False)


def _key(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy")


@contextmanager
def _keyed(key: str) -> Iterator[None]:
    """Let what is wrong with a member of a file name it."""
    try:
        yield
    except InputError as error:
        error.key = key
        raise
