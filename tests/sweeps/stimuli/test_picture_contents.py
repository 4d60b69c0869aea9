"""Equal pictures are found whatever their files, and no others; the first row of a PNG needs no decoding."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sweeps.errors import InputError
from sweeps.stimuli.images import ImageFolder
from sweeps.stimuli.picture_contents import FolderPictures, content_of, png_first_row, sketch_of


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: np.ndarray, filters: list[int], level: int = 6, part: int = 7) -> bytes:
    """A PNG whose rows have these filters, its data in parts of a few bytes: written by the specification alone."""
    height, width, channels = pixels.shape
    lines, above = b"", [0] * width * channels
    for row, kind in zip(pixels.reshape(height, -1).tolist(), filters, strict=True):
        line = [kind]
        for place, value in enumerate(row):
            left = row[place - channels] if place >= channels else 0
            corner = above[place - channels] if place >= channels else 0
            guess = left + above[place] - corner
            paeth = min((left, above[place], corner), key=lambda one: abs(guess - one))
            line.append((value - (0, left, above[place], (left + above[place]) // 2, paeth)[kind]) % 256)
        lines, above = lines + bytes(line), row
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    packed = zlib.compress(lines, level)
    parts = [chunk(b"IDAT", packed[start : start + part]) for start in range(0, len(packed), part)]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(parts) + chunk(b"IEND", b"")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([1, 3]), st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_the_first_row_is_that_of_the_decoder(seed: int, channels: int, filters: list[int]) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (len(filters), int(random.integers(1, 9)), channels), dtype=np.uint8)
    stored = png(pixels, filters, int(random.integers(0, 10)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored))).reshape(pixels.shape), pixels)
    row = png_first_row(stored)
    assert row is not None
    assert row[0] == len(filters)
    assert np.array_equal(row[1][0], pixels[0])


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def picture(seed: int = 0, mode: str = "RGB") -> Image.Image:
    shape = (6, 8) if mode == "L" else (6, 8, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_what_is_not_plain_is_decoded() -> None:
    texts = PngInfo()
    texts.add_text("Software", "made up")
    assert png_first_row(stored(picture(), "PNG", pnginfo=texts)) is not None
    turned = Image.Exif()
    turned[0x0112] = 6
    for content in (
        stored(picture(), "PNG", exif=turned),
        stored(picture().convert("P"), "PNG"),
        stored(picture().convert("RGBA"), "PNG"),
        stored(picture(mode="L"), "PNG", transparency=3),
        stored(Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)), "PNG"),
        stored(picture(), "BMP"),
        stored(picture(), "PNG")[:-20],
        b"",
    ):
        assert png_first_row(content) is None


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 4), min_size=2, max_size=12), draw=st.integers(0, 2**20))
def test_equal_pixels_are_equal_contents(tmp_path_factory: pytest.TempPathFactory, seeds: list[int], draw: int) -> None:
    """Pictures of few distinct kinds, each stored in another way, some with the same first row as another."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(draw)
    pixels = []
    for index, seed in enumerate(seeds):
        values = np.asarray(picture(seed % 3)).copy()
        values[1:] = np.asarray(picture(seed))[1:]  # 0 and 3, 1 and 4 share their first row
        pixels.append(values)
        kind, options = [("PNG", {"compress_level": 0}), ("PNG", {}), ("BMP", {}), ("TIFF", {})][random.integers(4)]
        suffix = {"PNG": "png", "BMP": "bmp", "TIFF": "tif"}[kind]
        (folder / f"{index}.{suffix}").write_bytes(stored(Image.fromarray(values), kind, **options))
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: int(name.split(".")[0]))
    shown = FolderPictures(ImageFolder(str(folder)), names)
    contents = shown.contents(np.arange(len(names)))
    for one in range(len(names)):
        for two in range(one):
            same = np.array_equal(pixels[one], pixels[two])
            assert (contents[one] == contents[two]) == same
            assert same <= (shown.sketches[one] == shown.sketches[two])


def test_grey_is_three_equal_channels() -> None:
    grey = np.asarray(picture(mode="L"))
    coloured = np.repeat(grey[..., None], 3, axis=-1)
    assert content_of(grey) == content_of(coloured) == content_of(grey[..., None])
    assert sketch_of(grey) == sketch_of(coloured)
    assert content_of(grey) != content_of(grey.reshape(8, 6))


def test_a_picture_that_cannot_be_decoded_equals_its_own_bytes_alone(tmp_path: Path) -> None:
    broken = stored(picture().convert("RGBA"), "PNG")[:60]
    for name, content in {"a.png": broken, "b.png": broken, "c.png": broken[:55]}.items():
        (tmp_path / name).write_bytes(content)
    shown = FolderPictures(ImageFolder(str(tmp_path)), ["a.png", "b.png", "c.png"])
    first, same, other = shown.contents(np.arange(3))
    assert first == same != other
    with pytest.raises(InputError, match=r"a\.png"):  # told when it is shown
        ImageFolder(str(tmp_path)).read("a.png")
