"""Files that may be damaged: what a library raises over them becomes an InputError, and no size is believed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sweeps.errors import InputError, shortened
from sweeps.io.pointers import refuse_dangling

LARGE = 2**28
"""Bytes up to which anything may unpack."""

DENSEST = 1100
"""Times that more than that may unpack to: deflate, the usual compression, reaches 1032 for zeros alone."""


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


def most_unpacked(packed: int) -> int:
    """Give the most bytes that so many bytes may unpack to."""
    return max(LARGE, DENSEST * packed)


def refuse_bomb(unpacked: int, packed: int, file: str, key: str | None = None) -> None:
    """Refuse to unpack what is made to fill the memory.

    >>> refuse_bomb(10**13, 10**6, "session.zip")
    Traceback (most recent call last):
    sweeps.errors.InputError: session.zip: says that its 1000000 bytes hold 10000000000000: if so, compress it less
    """
    if unpacked > most_unpacked(packed):
        problem = f"says that its {packed} bytes hold {unpacked}: if so, compress it less"
        raise InputError(problem, file=file, key=key)


def refuse_infinite(values: np.ndarray, file: str, key: str | None = None) -> None:
    """Refuse numbers that are infinite, or become so in 32 bits; NaN is a missing one."""
    if values.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        if np.isinf(values.astype(np.float32, copy=False)).any():
            raise InputError("holds infinite values: only numbers and NaN are allowed", file=file, key=key)


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
    with reading(file, "is not a plain .npy array"):
        flat = np.frombuffer(content, kind, count, start) if count else np.empty(0, kind)
        return flat.reshape(shape, order="F" if by_columns else "C").copy()
