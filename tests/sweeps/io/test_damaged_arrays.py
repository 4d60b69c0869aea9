"""Arrays and archives that others made: what is no plain array is refused in one line, sizes are not believed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from sweeps.errors import InputError
from sweeps.io.untrusted import (
    DENSEST,
    LARGE,
    most_unpacked,
    npy_array,
    npy_header,
    reading,
    refuse_bomb,
    refuse_infinite,
)


def as_npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "scalar": np.array(7.5),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "flags": np.array([True, False]),
    "unsigned": np.array([3, 250], dtype=np.uint8),
    "big endian": np.arange(3, dtype=">f4"),
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("name", ARRAYS)
def test_plain_arrays_are_read_as_numpy_reads_them(name: str, version: tuple[int, int]) -> None:
    content = as_npy(ARRAYS[name], version)
    found = npy_array(content, "x.npy")
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert (found.dtype, found.shape, found.flags.writeable) == (ARRAYS[name].dtype, ARRAYS[name].shape, True)
    stream = io.BytesIO(content)
    shape, by_columns, kind = npy_header(stream, "x.npy")
    assert (shape, by_columns, kind) == (found.shape, name == "columns", found.dtype)
    assert len(content) - stream.tell() == found.nbytes


def test_what_follows_an_array_is_not_read_and_what_is_missing_is_told() -> None:
    content = as_npy(ARRAYS["matrix"])
    np.testing.assert_array_equal(npy_array(content + b"more", "x.npy"), ARRAYS["matrix"])
    for cut in (1, 8, 48):
        with pytest.raises(
            InputError, match=r"x\.npy: is not a plain \.npy array: it ends early, its header says \(2, 3\)"
        ):
            npy_array(content[:-cut], "x.npy")


@pytest.mark.parametrize(
    ("array", "kinds", "problem"),
    [
        (np.array(["a", "b"]), "fiub", r"must hold numbers, not <U1; convert it: .*astype\(float\)\)"),
        (np.array([b"a"]), "fiub", r"must hold numbers, not \|S1; convert it"),
        (np.array([1 + 2j]), "fiub", r"must hold numbers, not complex128$"),
        (np.array([1.0]), "U", r"must hold one text per entry, not float64$"),
        (np.array([True]), "fiu", r"must hold numbers, not bool$"),
        (
            np.array([{}], dtype=object),
            "fiub",
            r"pickled objects, which are never loaded; .*np\.load\(file, allow_pickle=True\)\.astype\(float\)",
        ),
    ],
)
def test_arrays_of_another_kind_are_refused(array: np.ndarray, kinds: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        npy_array(as_npy(array), "x.npy", kinds)


def test_texts_are_read_where_they_are_wanted_and_archives_have_a_line_of_their_own() -> None:
    assert npy_array(as_npy(np.array(["a", "bc"])), "x.npy", "U").tolist() == ["a", "bc"]
    with pytest.raises(InputError, match=r"convert it once: np\.savez\(file, .*astype\(str\) .*np\.load\(file, allow"):
        npy_array(as_npy(np.array([{}], dtype=object)), "x.npz", "U")
    with pytest.raises(InputError, match=r"convert it: np\.savez\(file, .*np\.load\(file\)\.items"):
        npy_array(as_npy(np.array(["a"])), "x.npz")


@pytest.mark.parametrize("shape", ["(-1,)", "(2, -3)", "(10000000000000000000000,)"])
def test_impossible_shapes_are_refused(shape: str) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    with pytest.raises(InputError, match=r"x\.npy: is not a plain \.npy array"):
        npy_array(content, "x.npy")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"PK\x03\x04" * 9, as_npy(np.arange(3))[:20]]
)
def test_what_is_no_array_is_one_line(content: bytes) -> None:
    with pytest.raises(InputError, match=r"^x\.npy: is not a plain \.npy array: \w+: [^\n]*$"):
        npy_array(content, "x.npy")


@pytest.mark.parametrize(("packed", "most"), [(0, LARGE), (LARGE // DENSEST, LARGE), (LARGE, DENSEST * LARGE)])
def test_a_little_may_unpack_to_much_and_much_to_a_multiple(packed: int, most: int) -> None:
    assert most_unpacked(packed) == most
    assert most_unpacked(LARGE // DENSEST + 1) > LARGE
    refuse_bomb(most, packed, "x.zip")
    with pytest.raises(InputError, match=rf"x\.zip: a\.npy: says that its {packed} bytes hold {most + 1}"):
        refuse_bomb(most + 1, packed, "x.zip", "a.npy")


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (np.array([1.0, np.nan, -2.0]), False),
        (np.array([1.0, np.inf]), True),
        (np.array([-np.inf], dtype=np.float32), True),
        (np.array([1e39]), True),
        (np.array([1e38]), False),
        (np.array([2**62]), False),
    ],
)
def test_infinite_numbers_are_refused_also_those_that_32_bits_make_so(values: np.ndarray, refused: bool) -> None:
    if not refused:
        refuse_infinite(values, "x.npy")
        return
    with pytest.raises(InputError, match=r"x\.npy: responses: holds infinite values"):
        refuse_infinite(values, "x.npy", "responses")


def test_whatever_a_library_raises_names_the_file(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"^x\.h5: cannot be read: KeyError: 'k'$"), reading("x.h5"):
        raise KeyError("k")
    with pytest.raises(InputError, match=r"^own$"), reading("x.h5"):
        raise InputError("own")
    with pytest.raises(InputError, match=r"^/no/such: missing file$"), reading("x.h5"):
        open("/no/such")  # noqa: SIM115
    with pytest.raises(InputError, match=r"^plain: missing file$"), reading("x.h5"):
        raise FileNotFoundError("plain")
    with pytest.raises(InputError, match=r"^x\.h5: missing file$"), reading("x.h5"):
        raise FileNotFoundError
