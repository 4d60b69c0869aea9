"""Which pictures are equal pixel by pixel, whatever their names, formats and compression: cheap to ask of thousands.

A sketch is of a picture's size and first row, which a PNG gives without being decoded. Equal pictures have equal
sketches; only those whose sketches are equal need be decoded whole and compared by the digest of all pixels.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from models.inputs.geometry import LARGEST_SIZE, Geometry
from sweeps.errors import InputError
from sweeps.io.untrusted import reading
from sweeps.stimuli.images import ImageFolder

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN = frozenset((b"IHDR", b"IDAT", b"IEND", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"bKGD"))
"""Chunks of a PNG that leave its pixels as they are stored. Others may turn it or make it transparent."""

CHANNELS = {0: 1, 2: 3}
"""Channels of a PNG by its colour type: grey and RGB."""


def sketch_of(pixels: np.ndarray) -> str:
    """Return size and first row of a picture (h, w) or (h, w, 1, 3 or 4) uint8: equal where all pixels are equal."""
    return f"{pixels.shape[0]}x{pixels.shape[1]} {_digest(_rgb(pixels[:1]))}"


def content_of(pixels: np.ndarray) -> str:
    """Return the digest of a picture (h, w) or (h, w, 1, 3 or 4) uint8; grey equals three equal channels."""
    return f"{pixels.shape[0]}x{pixels.shape[1]} {_digest(_rgb(pixels))}"


def _rgb(pixels: np.ndarray) -> np.ndarray:
    coloured = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.broadcast_to(coloured, (*coloured.shape[:2], 3)) if coloured.shape[2] == 1 else coloured


def _digest(values: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).hexdigest()


def _unreadable(stored: bytes) -> str:
    return f"unreadable {hashlib.blake2b(stored, digest_size=16).hexdigest()}"


class FolderPictures:
    """Sketches and contents of some pictures of a folder: every file is read once, a PNG decoded only if need be.

    A picture that cannot be read shows what other files of the same bytes show.
    """

    def __init__(self, folder: ImageFolder, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self._contents: dict[str, str] = {}
        places = {name: folder.find(name) for name in dict.fromkeys(names)}
        entries = list(dict.fromkeys(places.values()))
        sketches = dict(zip(entries, map(self._sketch, entries, folder.contents(entries)), strict=True))
        self.sketches = np.array([sketches[places[name]] for name in names], dtype=str)

    def contents(self, rows: np.ndarray) -> list[str]:
        """Return the contents of some of them, see `content_of`; those that were decoded before are remembered."""
        return [self._content(self.folder.find(self.names[row])) for row in rows]

    def _sketch(self, entry: str, stored: bytes) -> str:
        plain = png_first_row(stored)
        if plain is not None:
            height, row = plain
            return f"{height}x{row.shape[1]} {_digest(_rgb(row))}"
        try:
            pixels = self._pixels(entry)
        except InputError:  # told when it is shown, and by a deep check
            self._contents[entry] = _unreadable(stored)
            return self._contents[entry]
        self._contents[entry] = content_of(pixels)
        return sketch_of(pixels)

    def _content(self, entry: str) -> str:
        if entry not in self._contents:
            try:
                self._contents[entry] = content_of(self._pixels(entry))
            except InputError:
                self._contents[entry] = _unreadable(*self.folder.contents([entry]))
        return self._contents[entry]

    def _pixels(self, entry: str) -> np.ndarray:
        """All pixels (h, w, 3) as a twin would see them unscaled."""
        image = self.folder.read(entry)
        with reading(self.folder.url, f"image {entry!r} cannot be read"):
            return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return a picture as a twin sees it, neither cropped nor scaled: uint8 (h, w, 3); at most LARGEST_SIZE a side."""
    width, height = (min(side, LARGEST_SIZE) for side in image.size)
    return Geometry(size=height, width=width).apply(image)


def png_first_row(stored: bytes) -> tuple[int, np.ndarray] | None:
    """Return the rows of a plain PNG and the first of them (1, w, 1 or 3) uint8; None where it must be decoded.

    Plain: grey or RGB of 8 bits, not interlaced, with no chunk but those that leave pixels as they are.
    Source: PNG specification, third edition, sections 9 (filters) and 11 (chunks).
    """
    parts = list(_chunks(stored))
    if not parts or parts[-1][0] != b"IEND" or not all(map(_is_plain, parts)) or len(parts[0][1]) != 13:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    if parts[0][0] != b"IHDR" or depth != 8 or colour not in CHANNELS or interlaced:
        return None
    if not 0 < width <= LARGEST_SIZE or not 0 < height <= LARGEST_SIZE:
        return None
    line = _unpacked([part for kind, part in parts if kind == b"IDAT"], 1 + width * CHANNELS[colour])
    if line is None or line[0] > 4:
        return None
    return height, _unfiltered(line[0], np.frombuffer(line, np.uint8, offset=1).reshape(width, -1))[None]


def _chunks(stored: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of a PNG's chunks, as far as they are whole; none of another file."""
    place = len(SIGNATURE) if stored.startswith(SIGNATURE) else len(stored)
    while place + 12 <= len(stored):
        (size,) = struct.unpack_from(">I", stored, place)
        yield stored[place + 4 : place + 8], stored[place + 8 : place + 8 + size]
        place += 12 + size


def _is_plain(chunk: tuple[bytes, bytes]) -> bool:
    """Whether a chunk leaves the pixels as they are; texts do, but for those that hold EXIF or XMP."""
    kind, content = chunk
    return kind in PLAIN or (kind == b"tEXt" and not content.startswith((b"Raw profile", b"XML")))


def _unpacked(parts: Sequence[bytes], count: int) -> bytes | None:
    """The first `count` bytes that packed parts hold; None where there are fewer."""
    stream, line = zlib.decompressobj(), b""
    try:
        for part in parts:
            line += stream.decompress(part, count - len(line))
            if len(line) == count:
                return line
    except zlib.error:
        pass
    return None


def _unfiltered(kind: int, stored: np.ndarray) -> np.ndarray:
    """A first row (w, channels) as it was before filter 0 to 4: what lies above it counts as 0."""
    if kind in (0, 2):
        return stored
    if kind in (1, 4):  # Paeth of nothing above is the pixel to the left
        return np.cumsum(stored, axis=0, dtype=np.uint8)
    row = np.empty_like(stored)
    for channel in range(stored.shape[1]):
        left = 0
        for place, value in enumerate(stored[:, channel].tolist()):
            left = (value + left // 2) % 256
            row[place, channel] = left
    return row
