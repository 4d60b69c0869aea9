"""Damages of tables, texts, pictures, volumes and archives."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from damages.arrays import odd_array
from damages.files import flips, rewrite
from damages.manifests import OUTSIDE


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


def arrays_odd(path: Path, random: Random) -> None:
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(held))
    held[name] = odd_array(np.load(io.BytesIO(held[name])), random)
    rewrite(path, zipped(held))
