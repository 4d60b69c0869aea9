"""Picture files of every depth, orientation and number of pages, written here byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.stimuli.images import changed_by, decoded
from sweeps.stimuli.picture_file import FORMATS

SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""EXIF 2.32, tag 0x0112: which side of the upright picture the first stored row and the first stored column are."""


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pixel by pixel, by the words of the standard."""
    first_row, first_column = SIDES[orientation]
    rows, columns = stored.shape[:2]
    lying = first_row in ("left", "right")
    shown = np.zeros((columns, rows, *stored.shape[2:]) if lying else stored.shape, stored.dtype)
    for row in range(rows):
        for column in range(columns):
            along = row if first_row in ("top", "left") else rows - 1 - row
            across = column if first_column in ("top", "left") else columns - 1 - column
            shown[(across, along) if lying else (along, across)] = stored[row, column]
    return shown


def written(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x112] = orientation
    return block


def png(values: np.ndarray, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG of 16-bit grey."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(shape: tuple[int, int], raster: bytes, order: str = "<", **tags: int | list[int]) -> bytes:
    """A TIFF of one uncompressed strip; tags are t258=... and replace those of 16-bit grey."""
    own: dict[int, Any] = {256: shape[1], 257: shape[0], 258: 16, 259: 1, 262: 1, 277: 1, 278: shape[0]}
    own |= {int(name[1:]): value for name, value in tags.items()}
    own |= {273: 0, 279: len(raster)}
    entries, behind, start = b"", b"", 8 + 2 + 12 * len(own) + 4
    lists = {tag: value if isinstance(value, list) else [value] for tag, value in own.items()}
    place = start + sum(2 * len(value) for value in lists.values() if len(value) > 2)
    for tag in sorted(lists):
        values = [place] if tag == 273 else lists[tag]
        kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
        packed = struct.pack(order + letter * len(values), *values)
        if len(packed) > 4:
            packed, behind = struct.pack(order + "I", start + len(behind)), behind + packed
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "IH", 8, len(own))
    return head + entries + struct.pack(order + "I", 0) + behind + raster


def pgm(values: np.ndarray, white: int) -> bytes:
    size = f"{values.shape[1]} {values.shape[0]}"
    return f"P5\n# made here\n{size}\n{white}\n".encode() + values.astype(">u2" if white > 255 else "u1").tobytes()


def packed_12(values: np.ndarray) -> bytes:
    """Samples of 12 bits, two in three bytes, rows padded to whole bytes."""
    bits = (values[..., None] >> np.arange(11, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def shown(content: bytes, **options: Any) -> np.ndarray:
    """One grey of the decoded picture, and that of the same picture in a geometry, which must be equal."""
    image = decoded(content, "a picture", **options)
    assert image.width == image.height
    assert np.array_equal(Geometry(image.width).apply(image)[..., 0], np.asarray(image.convert("L")))
    return np.asarray(image.convert("L"))


def ramp(white: int, side: int = 8) -> np.ndarray:
    return np.round(np.linspace(0, white, side * side)).astype(np.int64).reshape(side, side)


def scaled(values: np.ndarray, white: int) -> np.ndarray:
    """255 value / white in whole numbers, so that nothing is lost; halves are even."""
    double = [[divmod(2 * 255 * int(value) + white, 2 * white) for value in row] for row in values]
    return np.array([[q - (r == 0 and q % 2) for q, r in row] for row in double])


# -- bits -------------------------------------------------------------------------------------------

VALUES = st.lists(st.integers(0, 65535), min_size=16, max_size=16).map(lambda v: np.array(v).reshape(4, 4))


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(9, 16), st.sampled_from(["<", ">"]), st.booleans(), st.sampled_from(["t281", "t341"]))
def test_grey_of_a_tiff_is_scaled_by_its_own_bits(
    values: np.ndarray, bits: int, order: str, inverted: bool, tag: str
) -> None:
    assume(not (inverted and order == ">"))  # which Pillow does not open
    white = 2**bits - 1
    values = values & white
    stated = {tag: white} if bits < 16 else {}
    content = tiff((4, 4), values.astype(f"{order}u2").tobytes(), order, t262=0 if inverted else 1, **stated)
    expected = scaled(values, white)
    assert np.array_equal(shown(content), 255 - expected if inverted else expected)
    assert changed_by(content, "") == (["depth"] if inverted or bits < 16 else [])


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_packed_samples_of_12_bits_reach_white(values: np.ndarray) -> None:
    values = values & 4095
    content = tiff((4, 4), packed_12(values), t258=12)
    assert np.array_equal(shown(content), scaled(values, 4095))
    assert changed_by(content, "") == ["depth"]


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(1, 65535), st.booleans())
def test_grey_of_a_pgm_is_scaled_by_its_maxval(values: np.ndarray, white: int, plain: bool) -> None:
    values = values % (white + 1)
    text = f"P2 4 4 {white}\n{' '.join(map(str, values.ravel()))}\n".encode()
    assert np.abs(shown(text if plain else pgm(values, white)) - scaled(values, white)).max() <= (white < 255)
    if white >= 255:
        assert np.array_equal(shown(text if plain else pgm(values, white)), scaled(values, white))


def test_colours_of_a_16_bit_ppm_reach_white() -> None:
    for white in (255, 1023, 65535):
        values = np.repeat(ramp(white)[..., None], 3, axis=-1).astype(">u2" if white > 255 else "u1")
        content = b"P6 8 8 %d\n" % white + values.tobytes()
        assert np.abs(shown(content) - scaled(ramp(white), white)).max() <= 1
        assert changed_by(content, "") == []


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_png_of_fewer_significant_bits(bits: int) -> None:
    """Scaled up to 16 bits as the specification asks, by shifting or spreading, or left at the lower end."""
    white, chunk = 2**bits - 1, ((b"sBIT", bytes([bits])),)
    values = ramp(white, 16)
    shifted, spread = values << (16 - bits), np.round(values * (65535 / white)).astype(int)
    for stored in (shifted, spread):
        assert np.array_equal(shown(png(stored, chunk)), scaled(stored, 65535))
        assert changed_by(png(stored, chunk), "") == []
    assert np.array_equal(shown(png(values, chunk)), scaled(values, white))
    assert changed_by(png(values, chunk), "") == ["depth"]
    assert np.array_equal(shown(png(values)), scaled(values, 65535))


def test_a_transparent_grey_of_16_bits_lies_on_mid_grey() -> None:
    values = np.where(np.eye(4, dtype=bool), 300, 65535)
    content = png(values, ((b"tRNS", struct.pack(">H", 300)),))
    pixels = Geometry(4).apply(decoded(content, ""))
    assert np.array_equal(pixels[..., 0], np.where(np.eye(4, dtype=bool), 128, 255))
    assert changed_by(content, "") == ["depth"]


def test_a_highest_value_that_is_a_statistic_is_none_of_the_scale() -> None:
    """TIFF 6.0: MaxSampleValue is not to affect what is shown; a number like 40000 or 3000 states no bits."""
    for highest in (3000, 40000, 65535):
        content = tiff((8, 8), ramp(3000).astype("<u2").tobytes(), t281=highest)
        assert np.array_equal(shown(content), scaled(ramp(3000), 65535))
        assert changed_by(content, "") == []


def test_what_is_above_the_stated_white_is_refused() -> None:
    content = tiff((8, 8), ramp(5000).astype("<u2").tobytes(), t281=4095)
    with pytest.raises(InputError, match=r"^here: picture holds values up to 5000, but says that white is 4095$"):
        decoded(content, "here")


SAMPLES = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
UNCHANGED = {
    "1 bit": (tiff((8, 8), bytes([0xF0] * 8), t258=1), np.where(np.arange(64).reshape(8, 8) % 8 < 4, 255, 0)),
    "1 bit, 0 is white": (
        tiff((8, 8), bytes([0xF0] * 8), t258=1, t262=0),
        np.where(np.arange(64).reshape(8, 8) % 8 < 4, 0, 255),
    ),
    "8 bits": (tiff((8, 8), SAMPLES.tobytes(), t258=8), SAMPLES),
    "8 bits, 0 is white": (tiff((8, 8), SAMPLES.tobytes(), t258=8, t262=0), 255 - SAMPLES),
    "16 bits": (tiff((8, 8), (SAMPLES * np.uint16(257)).astype("<u2").tobytes()), SAMPLES),
    "16 bits, big-endian": (tiff((8, 8), (SAMPLES * np.uint16(257)).astype(">u2").tobytes(), ">"), SAMPLES),
    "16-bit colours": (
        tiff(
            (8, 8),
            np.repeat(SAMPLES[..., None] * np.uint16(257), 3, axis=-1).astype("<u2").tobytes(),
            t258=[16] * 3,
            t262=2,
            t277=3,
        ),
        SAMPLES,
    ),
    "colours and an unnamed channel": (
        tiff(
            (8, 8),
            np.dstack([SAMPLES, SAMPLES, SAMPLES, SAMPLES * 0]).tobytes(),
            t258=[8] * 4,
            t262=2,
            t277=4,
            t338=0,
        ),
        SAMPLES,
    ),
    "grey with alpha": (
        tiff((8, 8), np.dstack([SAMPLES, SAMPLES * 0]).tobytes(), t258=[8, 8], t277=2, t338=2),
        np.full((8, 8), 128),
    ),
    "palette": (
        tiff((8, 8), SAMPLES.tobytes(), t258=8, t262=3, t320=[257 * (255 - i) for i in range(256)] * 3),
        255 - SAMPLES,
    ),
    "black ink": (
        tiff((8, 8), np.dstack([SAMPLES * 0] * 3 + [SAMPLES]).tobytes(), t258=[8] * 4, t262=5, t277=4),
        255 - SAMPLES,
    ),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_was_right_stays(name: str) -> None:
    content, expected = UNCHANGED[name]
    pixels = Geometry(8).apply(decoded(content, name))
    assert np.abs(pixels[..., 0].astype(int) - expected).max() <= 1
    assert changed_by(content, name) == []


REFUSED = {
    "two channels of grey": (tiff((8, 8), bytes(128), t258=[8, 8], t277=2, t338=0), "holds 2 channels of grey: save"),
    "four channels": (
        tiff((8, 8), bytes(256), t258=[8] * 4, t277=4, t338=[0] * 3),
        "cannot be read: a TIFF of 4 channels, 8 bits each, in a layout that is not read: save it",
    ),
    "ten bits, packed": (tiff((8, 8), bytes(80), t258=10), "cannot be read: a TIFF of 1 channels, 10 bits each"),
    "signed bytes": (tiff((8, 8), bytes(64), t258=8, t339=2), "signed or float ones, which have no known range: save"),
    "signed words": (tiff((8, 8), bytes(128), t339=2), "signed or float ones, which have no known range: save"),
    "32 bits": (tiff((8, 8), bytes(256), t258=32), "is of 32-bit pixels"),
    "floats": (tiff((8, 8), bytes(256), t258=32, t339=3), "is of 32-bit pixels"),
    "floats of a PFM": (b"Pf 2 2 -1.0\n" + bytes(16), "is of 32-bit pixels"),
    "colours of 12 bits in 16": (
        tiff((8, 8), bytes(384), t258=[16] * 3, t262=2, t277=3, t281=[4095] * 3),
        "is of 16-bit colours whose white is 4095: save the picture with 8 bits a colour",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_without_a_known_meaning_are_refused(name: str) -> None:
    content, problem = REFUSED[name]
    with pytest.raises(InputError, match=f"here: picture {problem if problem[:5] in ('holds', 'canno') else ''}") as e:
        decoded(content, "here")
    assert problem in str(e.value)
    if "cannot be read" not in problem:
        with pytest.raises(InputError, match="here: picture "):
            changed_by(content, "here")


# -- orientation ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 8),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["PNG", "TIFF", "WEBP"]),
    st.integers(0, 99),
)
def test_pictures_are_turned_as_their_files_say(orientation: int, shape: tuple[int, int], kind: str, seed: int) -> None:
    stored = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = written(stored, kind, exif=exif(orientation), **options)
    assert np.array_equal(np.asarray(decoded(content, "")), upright(stored, orientation))
    assert np.array_equal(np.asarray(decoded(content, "", exif="ignore")), stored)
    turned = orientation != 1
    assert changed_by(content, "") == (["exif"] if turned and kind != "TIFF" else [])
    assert changed_by(content, "", exif="ignore") == (["exif ignored"] if turned and kind == "TIFF" else [])


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_turned(orientation: int, mode: str) -> None:
    blocks = np.array([[10, 60, 110], [160, 210, 250]], np.uint8)
    stored = np.asarray(Image.fromarray(np.kron(blocks, np.ones((8, 8), np.uint8))).convert(mode))
    content = written(stored, "JPEG", exif=exif(orientation), quality=100)
    assert np.abs(np.asarray(decoded(content, "")).astype(int) - upright(stored, orientation)).max() <= 3
    assert changed_by(content, "") == ([] if orientation == 1 else ["exif"])


@pytest.mark.parametrize("orientation", SIDES)
def test_sixteen_bits_and_palettes_are_turned_too(orientation: int) -> None:
    values = ramp(4095)[:, :5]
    content = tiff((8, 5), values.astype("<u2").tobytes(), t274=orientation, t281=4095)
    assert np.array_equal(np.asarray(decoded(content, "")), upright(scaled(values, 4095), orientation))
    stream = io.BytesIO()
    palette = Image.fromarray(SAMPLES[:, :5]).convert("P")
    palette.save(stream, "PNG", exif=exif(orientation), transparency=0)
    pixels = np.asarray(decoded(stream.getvalue(), "").convert("RGBA"))
    assert np.array_equal(pixels, upright(np.asarray(palette.convert("RGBA")) * _opacity(palette), orientation))


def _opacity(palette: Image.Image) -> np.ndarray:
    """1 for colours, and for alpha where a pixel is not of the transparent colour."""
    clear = np.asarray(palette) == 0
    return np.dstack([np.ones((*clear.shape, 3), np.uint8), (~clear).astype(np.uint8)])


def test_the_tag_may_stand_behind_the_pixels() -> None:
    content = written(SAMPLES, "PNG", exif=exif(6))
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    end = rest.index(b"IEND") - 4
    behind = rest[:end] + chunk + rest[end:]
    assert np.array_equal(np.asarray(decoded(behind, "")), upright(SAMPLES, 6))
    assert changed_by(behind, "") == ["exif"]


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX", b"Exif\0\0" + b"\1" * 40]
)
def test_a_damaged_tag_turns_nothing(block: bytes) -> None:
    content = written(SAMPLES, "JPEG", exif=block, quality=100)
    assert decoded(content, "").size == (8, 8)
    assert changed_by(content, "") == []


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(value: int) -> None:
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(np.asarray(decoded(written(SAMPLES, kind, exif=exif(value)), "")), SAMPLES)


# -- one picture a file -----------------------------------------------------------------------------


def stack(kind: str, count: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    first, *others = (Image.new("RGB", (8, 8), (index * 40, 0, 0)) for index in range(count))
    first.save(stream, kind, save_all=True, append_images=others, **options)
    return stream.getvalue()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["TIFF", "GIF", "WEBP", "PNG", "MPO", "AVIF"]), st.integers(1, 5))
def test_several_pictures_in_a_file_are_refused(kind: str, count: int) -> None:
    content = stack(kind, count)
    if count == 1:
        assert decoded(content, "").size == (8, 8)
        return
    number = r"\d" if kind == "MPO" else count  # Pillow writes the places of some frames wrongly
    for read in (decoded, changed_by):
        with pytest.raises(InputError, match=f"^here: picture is a stack of {number} pictures: save one file a frame$"):
            read(content, "here")


def test_a_picture_beside_an_animation_is_not_one_picture() -> None:
    with pytest.raises(InputError, match="is a stack"):
        decoded(stack("PNG", 2, default_image=True), "")


@pytest.mark.parametrize("magic", [b"P4", b"P5", b"P6"])
def test_pictures_that_follow_in_a_pnm_are_refused(magic: bytes) -> None:
    size = {b"P4": 2 * 3, b"P5": 9 * 3, b"P6": 27 * 3}[magic]
    one = magic + (b" 9 3 " if magic == b"P4" else b" 9 3 255 ") + bytes(size)
    assert decoded(one + b"\n", "").size == (9, 3)
    deep = b"P5 9 3 1023 " + bytes(2 * 27)
    assert decoded(deep, "").size == (9, 3)
    for content in (one + one, deep + one):
        with pytest.raises(InputError, match="is a stack of 2 pictures"):
            decoded(content, "")


def chained(pages: list[bytes]) -> bytes:
    """TIFFs of this file's writer as pages of one: the offsets of later ones are moved, and the links set."""
    content = bytearray()
    links = []
    for page in pages:
        moved, base = bytearray(page), len(content)
        count = struct.unpack_from("<H", moved, 8)[0]
        for entry in range(10, 10 + 12 * count, 12):
            tag, kind, length = struct.unpack_from("<HHI", moved, entry)
            if tag == 273 or length * (4 if kind == 4 else 2) > 4:
                struct.pack_into("<I", moved, entry + 8, struct.unpack_from("<I", moved, entry + 8)[0] + base)
        links.append((base + 8, base + 10 + 12 * count))
        content += moved
    for (_, link), (following, _) in pairwise(links):
        struct.pack_into("<I", content, link, following)
    return bytes(content)


def test_a_reduced_copy_is_no_second_picture() -> None:
    whole = tiff((8, 8), SAMPLES.tobytes(), t258=8)
    small = tiff((4, 4), bytes(16), t258=8, t254=1)
    assert np.array_equal(np.asarray(decoded(chained([whole, small]), "")), SAMPLES)
    assert changed_by(chained([whole, small]), "") == []
    with pytest.raises(InputError, match="begins with a reduced copy of its picture"):
        decoded(chained([small, whole]), "")
    with pytest.raises(InputError, match="is a stack of 2 pictures"):
        decoded(chained([whole, small, whole]), "")


def test_the_preview_of_a_phone_s_picture_is_no_second_picture() -> None:
    """An MPO of other sizes (a preview, a gain map) is its first picture; views of a scene are several."""
    stream = io.BytesIO()
    large = Image.fromarray(np.kron(SAMPLES, np.ones((8, 8), np.uint8)))
    large.save(stream, "MPO", save_all=True, append_images=[large.resize((16, 16))], quality=100)
    content = stream.getvalue()
    assert np.abs(np.asarray(decoded(content, "")).astype(int) - np.asarray(large)).max() <= 3
    assert changed_by(content, "") == []
    assert decoded(content[: len(content) // 2 + 2000], "").size == (64, 64)  # its preview cut off
    for attribute, several in ((0x020002, True), (0x020003, True), (0x010001, False)):
        second = content.rindex(struct.pack("<I", 0x030000)) + 16
        marked = content[:second] + struct.pack("<I", attribute) + content[second + 4 :]
        if several:
            with pytest.raises(InputError, match="is a stack of 2"):
                decoded(marked, "")
        else:
            assert decoded(marked, "").size == (64, 64)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def in_format(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(stream, kind)
    return stream.getvalue()


def test_formats_that_are_not_listed_are_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"EPS": EPS, **{kind: in_format(kind) for kind in ("TGA", "PCX", "ICO", "SGI", "DDS", "IM")}}
    Image.init()
    for kind in set(Image.OPEN) - set(FORMATS):
        monkeypatch.setitem(Image.OPEN, kind, (None, Image.OPEN[kind][1]))  # whoever opens one fails otherwise
    for kind, content in contents.items():
        with pytest.raises(InputError) as caught:
            decoded(content, "v1/images.zip", "image 'a.png'")
        line = str(caught.value)
        assert line == (
            "v1/images.zip: image 'a.png' cannot be read: no known picture format; "
            "allowed: PNG, JPEG, TIFF, BMP, GIF, WEBP, AVIF, PPM"
        ), kind
        assert changed_by(content, "v1/images.zip") == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "PPM"])
def test_formats_that_are_listed_are_read(kind: str) -> None:
    assert decoded(in_format(kind), "").size == (8, 8)


@pytest.mark.filterwarnings("ignore:Image size")
def test_pixels_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)
    deep = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep, "TIFF")
    for read in (decoded, changed_by):
        with pytest.raises(InputError, match="64 pixels, the limit is 63"):
            read(deep.getvalue(), "here")
