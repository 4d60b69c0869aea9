"""Ways in which the files of a recording are damaged, by the ending of the file; the same for the same random state."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import yaml

Damage = Callable[[Path, Random], None]

OUTSIDE = ("../../outside.npy", "/etc/hostname", "..", "../secret")
"""Places that are not in the recording."""

LAUGHS = "\n".join(
    ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    + [f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in zip("abcdefghi", "bcdefghij", strict=True)]
)
"""YAML of a few lines that stands for 9 ** 10 values."""

ODD: list[Any] = [None, [], {}, -1, 0, 2**70, 1e308, 1e-308, float("nan"), float("inf"), "", "text", "0", True, [[1]]]
"""Values that stand where others should."""

YAML_ODD = [
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "!!python/name:os.system",
    "*missing",
    "&a [*a]",
    "0x" + "f" * 4000,
    "!!binary '%'",
    "!!float ''",
    "{[1]: 2}",
    "2001-99-99",
    "!!set {a}",
    "{<<: 1}",
]
"""YAML that its reader stumbles over, or reads as what nobody expects."""


# -- any file ---------------------------------------------------------------------------------------


def cut(path: Path, random: Random) -> None:
    content = path.read_bytes()
    rewrite(path, content[: random.randrange(len(content) or 1)])


def empty(path: Path, random: Random) -> None:
    rewrite(path, b"")


def flipped(path: Path, random: Random) -> None:
    rewrite(path, flips(path.read_bytes(), random))


def flips(content: bytes, random: Random) -> bytes:
    """Some bits changed, near the start as often as anywhere."""
    held = bytearray(content or b"\0")
    for _ in range(random.choice([1, 3, 30])):
        held[random.randrange(min(len(held), random.choice([200, len(held)])))] ^= 1 << random.randrange(8)
    return bytes(held)


def text(path: Path, random: Random) -> None:
    rewrite(
        path, random.choice([b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe\x00"])
    )


def another(path: Path, random: Random) -> None:
    others = sorted(each for each in path.parent.rglob("*") if each.is_file() and each != path)
    rewrite(path, random.choice(others).read_bytes() if others else b"")


def gone(path: Path, random: Random) -> None:
    path.unlink()


def renamed(path: Path, random: Random) -> None:
    path.rename(
        path.with_name(random.choice([re.sub(r"\d+", "9" * 40, path.name), f"{path.name}.part", "²" + path.name]))
    )


def a_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def folder_is_a_file(path: Path, random: Random) -> None:
    folder = path.parent
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def linked_to_itself(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path)


def linked_to_nothing(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


def folder_in_itself(path: Path, random: Random) -> None:
    (path.parent / "again").symlink_to(path.parent)


def rewrite(path: Path, content: bytes) -> None:
    """Other contents, in a file of their own: the old one may be shared."""
    path.unlink()
    path.write_bytes(content)


# -- arrays -----------------------------------------------------------------------------------------


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=allow_pickle)
    return held.getvalue()


def header(descr: Any, shape: Any, fortran: Any = False) -> bytes:
    """The header of a .npy file that says so."""
    content = f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}".encode()
    content += b" " * (-len(content) % 64 + 53) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content


def placed(held: np.ndarray, value: float, random: Random) -> np.ndarray:
    """The same with one value, or all of them, replaced."""
    held = held.astype(np.float64)
    if held.size:
        place = slice(None) if random.random() < 0.2 else random.randrange(held.size)
        held.reshape(-1)[place] = value
    return held


def odd_array(held: np.ndarray, random: Random) -> bytes:
    """What a .npy file may hold in place of an array."""
    numeric = held.dtype.kind in "fiub"
    forms: list[Callable[[], bytes]] = [
        lambda: npy(held.astype(object), allow_pickle=True),
        lambda: npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        lambda: npy(held[None]),
        lambda: npy(held[..., None]),
        lambda: npy(held.ravel()),
        lambda: npy(held.reshape(-1)[0]) if held.size else npy(np.float64(0)),
        lambda: npy(held[:0]),
        lambda: npy(held[..., :0]),
        lambda: npy(held[:-1]),
        lambda: npy(np.concatenate([held, held[-1:]]) if held.ndim else held),
        lambda: npy(held.T),
        lambda: npy(held.astype("U20")),
        lambda: npy(held.astype("S20")),
        lambda: npy(np.zeros(held.shape, "M8[s]")),
        lambda: npy(np.zeros(held.shape, [("a", "f4"), ("b", "i4")])),
        lambda: npy(np.zeros(held.shape, complex)),
        lambda: npy(np.zeros(held.shape, bool)),
        lambda: npy(np.zeros(held.shape)),
        lambda: npy(np.full(held.shape, 2**63, np.uint64)),
        lambda: npy(np.full(held.shape, -(2**63), np.int64)),
        lambda: header("<f8", (10**13,)) + bytes(80),
        lambda: header("<f8", (10**9, 2)) + bytes(80),
        lambda: header("<f8", (-1, 4)) + bytes(80),
        lambda: header("<f8", (2**62, 2**62)) + bytes(80),
        lambda: header("<f8", (0, 10**13)),
        lambda: header("<f8", "text") + bytes(80),
        lambda: header("<f8", (2.5,)) + bytes(80),
        lambda: header("<f8", (4,), "yes") + bytes(80),
        lambda: header("|V0", (4,)),
        lambda: header(("<f8", (10**9,)), (1,)),
        lambda: header("<f8,", (4,)) + bytes(80),
        lambda: header("|O", held.shape) + b"cos\nsystem\n(S'false'\ntR.",
        lambda: b"\x93NUMPY\x07\x07" + npy(held)[8:],
        lambda: npy(held).replace(b"{", b"(" * 40, 1),
        lambda: npy(held).replace(b"'descr'", b"\n\t'descr", 1),
    ]
    for value in (np.nan, np.inf, -np.inf, 1e300, -1.0, 0.5) if numeric else ():
        forms.append(lambda value=value: npy(placed(held, value, random)))
    return random.choice(forms)()


def array_odd(path: Path, random: Random) -> None:
    rewrite(path, odd_array(np.load(path), random))


def arrays_odd(path: Path, random: Random) -> None:
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(held))
    held[name] = odd_array(np.load(io.BytesIO(held[name])), random)
    rewrite(path, zipped(held))


# -- manifests --------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nested value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def manifest_odd(path: Path, random: Random) -> None:
    """Another value in some place of a JSON or YAML file, or one less."""
    held = yaml.safe_load(path.read_text())
    place = random.choice(list(places(held)) or [()])
    marker = "@place@"
    changed = replaced(held, place, marker, random.random() < 0.2)
    if path.suffix == ".json":
        odd = random.choice([*(json.dumps(value) for value in (*ODD, *OUTSIDE)), "9" * 5000, "[" * 20000, "1e999"])
        rewrite(path, json.dumps(changed).replace(json.dumps(marker), odd, 1).encode())
    else:
        odd = random.choice([*(json.dumps(value) for value in (*ODD, *OUTSIDE)), *YAML_ODD, "*j"])
        content = yaml.safe_dump(changed, sort_keys=False).replace(f"'{marker}'", odd, 1)
        rewrite(path, (f"{LAUGHS}\n{content}" if odd == "*j" else content).encode())


def replaced(held: Any, place: tuple[Any, ...], value: Any, drop: bool) -> Any:
    """The value with another in a place, or without what is there."""
    if not place:
        return value
    first, *rest = place
    if drop and not rest and isinstance(held, dict):
        return {key: each for key, each in held.items() if key != first}
    if isinstance(held, dict):
        return {key: replaced(each, tuple(rest), value, drop) if key == first else each for key, each in held.items()}
    return [replaced(each, tuple(rest), value, drop) if key == first else each for key, each in enumerate(held)]


def manifest_whole(path: Path, random: Random) -> None:
    rewrite(path, random.choice([b"[]", b"null", b"1", b"{", b"\xff\xfe{", b"[" * 50000, b"{a: [", LAUGHS.encode()]))


# -- tables and texts -------------------------------------------------------------------------------


def table_odd(path: Path, random: Random) -> None:
    """A table whose columns or cells are not as they should be."""
    cell = "\t" if path.suffix == ".tsv" else ","
    rows = [line.split(cell) for line in path.read_text().splitlines()]
    column, row = random.randrange(len(rows[0])), random.randrange(1, len(rows))
    forms: list[Callable[[], list[list[str]]]] = [
        lambda: [line[:column] + line[column + 1 :] for line in rows],
        lambda: [[*line, line[column]] for line in rows],
        lambda: [[*rows[0][:column], rows[0][column - 1], *rows[0][column + 1 :]], *rows[1:]],
        lambda: rows[:1],
        lambda: rows[:row] + rows[row + 1 :],
        lambda: [*rows, rows[row]],
        lambda: [*rows[:row], [*rows[row], "more"], *rows[row + 1 :]],
        lambda: [*rows[:row], rows[row][:-1], *rows[row + 1 :]],
        lambda: [rows[0], *([*line, "more"] for line in rows[1:])],
        lambda: [rows[0], *rows[:0:-1]],
    ]
    for value in ("", "text", "-1", "1e999", "nan", "9" * 30, '"', "\0", "²", *OUTSIDE, "0.5", "inf", "role"):
        forms.append(lambda value=value: put(rows, row, column, value))
        forms.append(lambda value=value: put(rows, 0, column, value))
    content = "\n".join(cell.join(line) for line in random.choice(forms)())
    rewrite(path, random.choice([content.encode(), content.encode("utf-16"), b"\xef\xbb\xbf" + content.encode()]))


def put(rows: list[list[str]], row: int, column: int, value: str) -> list[list[str]]:
    """The rows with another cell."""
    found = [list(line) for line in rows]
    found[row][column] = value
    return found


def words_odd(path: Path, random: Random) -> None:
    """A text with one of its words replaced."""
    content = path.read_bytes()
    code = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    parts = re.split(r"(\S+)", content.decode(code))
    place = random.randrange(len(parts) // 2) * 2 + 1
    parts[place] = random.choice(["", '"', '""', "1e999", "-1", "2.5", "9" * 5000, "²", "<", "!", '"' * 999, "1e300"])
    rewrite(path, "".join(parts).encode(code))


# -- pictures, volumes and archives -----------------------------------------------------------------


def png_header(content: bytes, width: int, height: int, depth: int, colour: int) -> bytes:
    """A PNG that says that it has another size and type."""
    head = b"IHDR" + struct.pack(">IIBB", width, height, depth, colour) + content[26:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


def odd_picture(content: bytes, random: Random) -> bytes:
    """What a picture's file may hold."""
    size = random.choice([(0, 0), (1, 1), (60000, 60000), (2**31 - 1, 1), (7, 5), (30000, 3000)])
    changed = png_header(content, *size, *random.choice([(8, 2), (16, 0), (8, 3), (1, 0), (8, 6), (9, 9)]))
    tiff = b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\x01\0\0\0\xff\xff\0\0\x08\0\0\0"
    return random.choice([changed, flips(content, random), content[: random.randrange(len(content))], tiff, b"GIF89a"])


def picture_odd(path: Path, random: Random) -> None:
    rewrite(path, odd_picture(path.read_bytes(), random))


def volume_odd(path: Path, random: Random) -> None:
    """A NIfTI volume with other fields in its header, or other numbers."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    place, form, values = random.choice(
        [
            (40, "<h", (-1, 0, 1, 7, 99)),  # dim[0]
            (42, "<h", (-5, 0, 1, 32767)),  # dim[1]
            (46, "<h", (-5, 0, 1, 32767)),  # dim[3]
            (70, "<h", (0, 1, 16, 32, 64, 128, 1536, 2304, 999)),  # datatype
            (72, "<h", (0, 1, 8, 32, 64)),  # bitpix
            (108, "<f", (0.0, -1.0, 1e30, float("nan"), float("inf"))),  # vox_offset
            (112, "<f", (0.0, 1e38, float("nan"), float("inf"))),  # scl_slope
            (116, "<f", (0.5, 1e38, float("nan"), float("inf"))),  # scl_inter
            (344, "<i", (0, -1)),  # magic
        ]
    )
    struct.pack_into(form, content, place, random.choice(values))
    rewrite(path, random.choice([gzip.compress(content), gzip.compress(content), bytes(content)]))


def zipped(held: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in held.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def archive_odd(path: Path, random: Random) -> None:
    """A zip with a file less, another file, or an entry that is not what it says."""
    with zipfile.ZipFile(path) as archive:
        held = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    name = random.choice(sorted(held))
    content = held.pop(name)
    forms: list[Callable[[], bytes]] = [
        lambda: zipped(held),
        lambda: zipped({}),
        lambda: zipped({**held, name: flips(content, random)}),
        lambda: zipped({**held, name: odd_picture(content, random) if name.endswith(".png") else b""}),
        lambda: zipped({**held, f"../{name}": content}),
        lambda: zipped({**held, f"/{name}": content}),
        lambda: zipped({**held, name.replace("/", "\\"): content}),
        lambda: zipped({**held, f"{name}/": b""}),
        lambda: zipped({**held, name: content, f"{name}/in": b""}),
        lambda: entry_field(zipped({name: content, **held}), 24, "<I", 2**31),  # unpacked size
        lambda: entry_field(zipped({name: content, **held}), 20, "<I", 2**31),  # packed size
        lambda: entry_field(zipped({name: content, **held}), 10, "<H", random.choice([1, 9, 12, 14, 99])),  # method
        lambda: entry_field(zipped({name: content, **held}), 8, "<H", 1),  # encrypted
        lambda: entry_field(zipped({name: content, **held}), 42, "<I", 2**31),  # where it begins
        lambda: entry_field(zipped({name: content, **held}), 38, "<I", 0o120777 << 16),  # a symbolic link
    ]
    rewrite(path, random.choice(forms)())


def entry_field(content: bytes, place: int, form: str, value: int) -> bytes:
    """A zip with another value in a field of its directory's entries."""
    held = bytearray(content)
    for entry in re.finditer(b"PK\x01\x02", content):
        struct.pack_into(form, held, entry.start() + place, value)
    return bytes(held)


# -- HDF5 -------------------------------------------------------------------------------------------


def hdf5_odd(path: Path, random: Random) -> None:
    """An HDF5 file with a dataset less, or another one in its place."""
    rewrite(path, path.read_bytes())
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, held: names.append(name) if isinstance(held, h5py.Dataset) else None)
        name = random.choice(names)
        values = file[name][()]
        del file[name]
        with np.errstate(all="ignore"):
            forms = list(hdf5_forms(file, name, np.asarray(values), random))
        random.choice(forms)()


def hdf5_forms(file: h5py.File, name: str, held: np.ndarray, random: Random) -> Iterator[Callable[[], Any]]:
    """What may stand in place of a dataset: writers of it."""
    parent = name.rsplit("/", 1)[0]
    yield lambda: None
    yield lambda: file.create_group(name)
    yield lambda: file.pop(parent, None)
    if held.dtype.kind in "OSU":
        yield from (lambda value=value: file.create_dataset(name, data=value) for value in ("", b"\xff", [1.0], "VISp"))
        return
    flat = np.atleast_1d(held)
    for values in (
        *(held[None], held[..., None], flat.ravel()[:1], flat.ravel()[0], flat[:0], flat[..., :0], flat[:-1]),
        *(held.astype("S8"), held.astype(complex), np.zeros(held.shape, [("a", "f4")]), np.zeros(held.shape)),
        *(placed(held, value, random) for value in (np.nan, np.inf, -1.0, 1e300, 1e5, 0.5)),
        *(held.astype(np.int8), np.full(held.shape, 2**63, np.uint64), held.astype(bool), h5py.Empty("f4")),
    ):
        yield lambda values=values: file.create_dataset(name, data=values)
    huge = (*[10**7] * held.ndim,)
    yield lambda: file.create_dataset(name, huge, "f4", chunks=(*[1] * held.ndim,))
    yield lambda: file.create_dataset(name, (30000, *held.shape[1:], 30000)[: held.ndim], "f8", chunks=True)
    yield lambda: file.create_dataset(name, data=held, chunks=held.shape, compression="gzip", shuffle=True)
    yield lambda: file.create_dataset(name, data=held.astype(held.dtype.newbyteorder(">")))
    yield lambda: file.create_dataset(name, held.shape, held.dtype, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    yield lambda: file.__setitem__(name, h5py.ExternalLink("../outside.hdf5", "data"))
    yield lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}"))
    yield lambda: file.__setitem__(name, h5py.SoftLink("/"))
    yield lambda: file.create_virtual_dataset(name, virtual(held))


def virtual(held: np.ndarray) -> h5py.VirtualLayout:
    """A dataset that lies in a file outside."""
    layout = h5py.VirtualLayout(held.shape, held.dtype)
    layout[...] = h5py.VirtualSource("../outside.hdf5", "data", held.shape)
    return layout


ANY: tuple[Damage, ...] = (
    *(cut, cut, empty, flipped, flipped, text, another, gone, renamed, a_folder, folder_is_a_file),
    *(linked_to_itself, linked_to_nothing, folder_in_itself),
)
"""Damages of any file."""

BY_ENDING: dict[str, tuple[Damage, ...]] = {
    ".npy": (array_odd,),
    ".npz": (arrays_odd, archive_odd),
    ".json": (manifest_odd, manifest_whole),
    ".yml": (manifest_odd, manifest_odd, manifest_whole),
    ".csv": (table_odd,),
    ".tsv": (table_odd,),
    ".ctab": (words_odd,),
    ".TextGrid": (words_odd,),
    ".png": (picture_odd,),
    ".gz": (volume_odd,),
    ".zip": (archive_odd,),
    **dict.fromkeys((".hdf5", ".hf5", ".hdf", ".nwb"), (hdf5_odd,)),
}
"""Ending of a file -> damages that know what it holds."""
