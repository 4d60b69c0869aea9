"""What a picture file says of its pixels: pages, orientation, depth, channels. They are read by it, or refused."""

from __future__ import annotations

import io
import re
import struct
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sweeps.errors import InputError

Exif = Literal["obey", "ignore"]
"""What becomes of the orientation that a file states: the picture is turned by it, or shown as it is stored."""

RULES = {"depth": 1, "exif": 1, "exif ignored": 1, "alpha": 1}
"""Rules by which pixels are others than those that were read before there were rules, each with its version."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "PPM")
"""Formats that are read, by Pillow's names; an MPO is a JPEG. Others may run a program (EPS: Ghostscript)."""

FULL = 65535
ORIENTATION, BITS, PHOTOMETRIC, SAMPLES, HIGHEST, EXTRA, SAMPLE_FORMAT = 274, 258, 262, 277, (281, 341), 338, 339
SUBFILE, DESCRIPTION = 254, 270
WHITE_IS_ZERO, GREY, ALPHA, SIGNED = 0, (0, 1), (1, 2), 2

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation of a file -> what turns its stored pixels upright. Source: EXIF 2.32, tag 0x0112."""

BACK = {6: 8, 8: 6}
"""Orientations that are not undone by themselves."""


def opened(content: bytes) -> Image.Image:
    """Open the contents of a picture file, in one of FORMATS alone; UnidentifiedImageError where they are none."""
    Image.init()
    return Image.open(io.BytesIO(content), formats=[kind for kind in FORMATS if kind in Image.OPEN])


class PictureFile:
    """A picture file as its own statements have it: 8 bits, upright, one picture.

    - Orientation: the EXIF tag (JPEG, PNG, WebP, AVIF) or TIFF tag 274 is obeyed, unless `exif` is `ignore`.
    - Grey of more than 8 bits becomes round(value * 255 / white). White is 2^bits - 1 by BitsPerSample of a TIFF, or by
      its MaxSampleValue where that is such a number (else it is a statistic, as TIFF 6.0 has it); maxval of a PGM; for
      a 16-bit PNG 65535, or 2^bits - 1 where sBIT states fewer bits and the samples are not scaled up, as they should
      be. WhiteIsZero is turned round.
    - A transparent grey of a 16-bit PNG becomes an alpha channel; what alpha is laid on, `Geometry` says.
    - Refused: several pictures in a file, grey with channels that are no alpha, signed, 32-bit and float pixels.
      In an MPO the first picture is shown, as every viewer does, unless others are views of the same scene, or unnamed
      and of its size; in a TIFF, reduced copies and masks do not count as pictures.
    """

    def __init__(self, content: bytes, exif: Exif = "obey") -> None:
        self.content, self.exif = content, exif
        self.image = opened(content)
        self.tags: dict[int, Any] = dict(getattr(self.image, "tag_v2", {}))
        tiles: list[Any] = getattr(self.image, "tile", None) or []
        self.maxval, self.raster_start = 255, 0
        if self.image.format == "PPM" and tiles:
            self.maxval, self.raster_start = _maxval(tiles[0].args), int(tiles[0].offset)

    def refuse(self) -> None:
        """Raise InputError for a file in which it is not clear which pixels are the picture."""
        limit, pixels = Image.MAX_IMAGE_PIXELS, self.image.width * self.image.height
        if limit is not None and pixels > limit:
            raise InputError(f"cannot be read: {pixels} pixels, the limit is {limit}")
        pictures = self._pictures()
        if pictures > 1:
            raise InputError(f"is a stack of {pictures} pictures: save one file a frame")
        channels, extra = self.tags.get(SAMPLES, 1), self.tags.get(EXTRA, ())
        if self.tags.get(PHOTOMETRIC) in GREY and channels > 1 and (channels > 2 or extra[:1] not in ((1,), (2,))):
            raise InputError(f"holds {channels} channels of grey: save the picture as grey, grey with alpha, or RGB")
        if SIGNED in self.tags.get(SAMPLE_FORMAT, ()) or self.image.mode == "F" or (self._is_32_bit and not self.deep):
            problem = "is of 32-bit pixels, signed or float ones, which have no known range"
            raise InputError(f"{problem}: save the picture with 8 or 16 bits")
        if channels > 1 and self.tags.get(BITS, (8,))[0] == 16 and self._highest < FULL:
            problem = f"is of 16-bit colours whose white is {self._highest}"
            raise InputError(f"{problem}: save the picture with 8 bits a colour")

    def rules(self) -> list[str]:
        """The RULES by which the pixels are others than before."""
        rules = []
        if self.deep and (self.image.format == "PPM" or self._inverted or self._clear is not None or self.white < FULL):
            rules.append("depth")
        if self.orientation != 1 and (self._turned == (self.exif == "ignore")):
            rules.append("exif" if self.exif == "obey" else "exif ignored")
        return rules

    def picture(self) -> Image.Image:
        """The picture, read whole: upright, and grey in 8 bits."""
        self.image.load()
        if self.image.mode in ("P", "PA") and self.image.palette is None:
            raise InputError("cannot be read: it has no palette")
        upright = self._eight_bit() if self.deep else self.image
        orientation = self.orientation
        if (self._turned and self.exif == "obey") or (not self._turned and self.exif == "ignore"):
            return upright
        turn = TURNS.get(BACK.get(orientation, orientation) if self._turned else orientation)
        return upright if turn is None else upright.transpose(turn)

    @cached_property
    def deep(self) -> bool:
        """Whether the picture is grey of more than 8 bits."""
        return self.image.mode.startswith("I;16") or (self._is_32_bit and self.image.format == "PPM")

    @cached_property
    def orientation(self) -> int:
        """The orientation that the file states, 1 to 8; 1 where it states none, or none that can be read."""
        if self.image.format == "TIFF":
            stated = self.tags.get(ORIENTATION, 1)
        else:
            if self.image.format == "PNG" and b"eXIf" in self.content:
                self.image.load()  # the chunk may stand behind the pixels
            stated = _exif_orientation(self.image.info.get("exif", b""))
        return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1

    @cached_property
    def white(self) -> int:
        """The value of white in grey of more than 8 bits."""
        if self.image.format == "PPM":
            return int(self.maxval)
        if self.image.format == "TIFF":
            bits = self.tags.get(BITS, (16,))[0]
            return 2**bits - 1 if bits < 16 else self._highest
        bits = _significant_bits(self.content) if self.image.format == "PNG" else 16
        return 2**bits - 1 if bits < 16 and _not_scaled_up(np.asarray(self.image), bits) else FULL

    @property
    def _is_32_bit(self) -> bool:
        return self.image.mode == "I"

    @property
    def _turned(self) -> bool:
        """Whether Pillow turns the picture itself when it is read."""
        return self.image.format == "TIFF"

    @property
    def _inverted(self) -> bool:
        """Whether 0 is white, which Pillow minds in 8 bits alone."""
        return self.tags.get(PHOTOMETRIC) == WHITE_IS_ZERO

    @property
    def _clear(self) -> int | None:
        """The grey that a 16-bit PNG declares transparent."""
        clear = self.image.info.get("transparency")
        return clear if isinstance(clear, int) else None

    @property
    def _highest(self) -> int:
        """The highest value that a 16-bit TIFF declares, where it is one of 8 to 15 whole bits; else that of 16."""
        stated = [value for tag in HIGHEST for value in np.ravel(self.tags.get(tag, ()))]
        fewer = [int(value) for value in stated if value in [2**bits - 1 for bits in range(8, 16)]]
        return max(fewer) if fewer and max(fewer) >= max(stated) else FULL

    def _eight_bit(self) -> Image.Image:
        values = np.asarray(self.image).astype(np.float64)
        if self.image.format == "PPM":  # which Pillow scales to 16 bits
            values = np.round(values * self.maxval / FULL)
        if values.max(initial=0) > self.white:
            raise InputError(f"holds values up to {values.max():g}, but says that white is {self.white}")
        shown = np.round(values * (255 / self.white) if self.white != FULL else values / 257)
        grey = Image.fromarray((255 - shown if self._inverted else shown).astype(np.uint8))
        if self._clear is None:
            return grey
        return Image.merge("LA", [grey, Image.fromarray(np.where(values == self._clear, 0, 255).astype(np.uint8))])

    def _pictures(self) -> int:
        """How many pictures the file holds, other than copies of the first that viewers do not show."""
        kind = self.image.format
        if kind == "TIFF":
            return self._pages()
        if kind == "MPO":
            return self._views()
        if kind == "PPM":
            return 2 if self._raster_goes_on() else 1
        return int(getattr(self.image, "n_frames", 1))

    def _pages(self) -> int:
        image: Any = self.image
        in_one_page = re.match(r"ImageJ=.*?\bimages=(\d+)", str(self.tags.get(DESCRIPTION, "")), re.DOTALL)
        if image.n_frames == 1:
            return int(in_one_page[1]) if in_one_page else 1
        whole = []
        for page in range(image.n_frames):
            image.seek(page)
            whole.append(not int(image.tag_v2.get(SUBFILE, 0)) & 0b101)  # a reduced copy, a mask
        image.seek(0)
        if sum(whole) == 1 and not whole[0]:
            raise InputError("begins with a reduced copy of its picture: save the picture alone")
        return max(1, sum(whole))

    def _views(self) -> int:
        image: Any = self.image
        kinds = [str(entry["Attribute"]["MPType"]) for entry in image.mpinfo[0xB002]]
        size, alike = image.size, 1
        for number, kind in enumerate(kinds[1:], 1):
            alike += kind.startswith("Multi-Frame") or (not kind.startswith("Large") and _size(image, number) == size)
        image.seek(0)
        return alike

    def _raster_goes_on(self) -> bool:
        """Whether another picture follows in a PNM of raw pixels."""
        magic, (width, height) = self.content[:2], self.image.size
        wide = {b"P4": (width + 7) // 8, b"P5": width, b"P6": 3 * width}.get(magic)
        if wide is None:
            return False
        size = wide * height * (2 if self.maxval > 255 else 1)
        return bool(re.match(rb"\s*P[1-6]\s", self.content[self.raster_start + size :][:16]))


def resolved(content: bytes, exif: Exif) -> list[str]:
    """The RULES that make the pixels of a file others than before; InputError for one that is refused.

    Reads the header alone, where that is enough; contents that state nothing are known without it.
    """
    if _says_nothing(content):
        return []
    picture = PictureFile(content, exif)
    picture.refuse()
    return picture.rules()


def _says_nothing(content: bytes) -> bool:
    """Whether a JPEG or PNG has 8 bits or fewer, one picture and no EXIF."""
    if content[:2] == b"\xff\xd8":
        return b"Exif\0\0" not in content and b"MPF\0" not in content
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return content[24:25] < b"\x10" and b"eXIf" not in content and b"acTL" not in content
    return False


def _maxval(arguments: Any) -> int:
    """The value of white by the arguments of Pillow's decoder of a PNM."""
    if isinstance(arguments, tuple):
        return int(arguments[-1]) if isinstance(arguments[-1], int) and len(arguments) == 2 else 255
    return FULL if arguments == "I;16B" else 255


def describe_unknown(content: bytes) -> str:
    """What is known of contents that `opened` cannot open."""
    unknown = f"no known picture format; allowed: {', '.join(FORMATS)}"
    if content[:4] not in (b"II*\0", b"MM\0*"):
        return unknown
    try:
        stream = io.BytesIO(content)
        tags = ImageFileDirectory_v2(stream.read(8))
        stream.seek(tags.next)
        tags.load(stream)
        bits, channels = tags.get(BITS, (1,)), tags.get(SAMPLES, 1)
    except (struct.error, SyntaxError, ValueError, TypeError, OSError):
        return unknown
    return (
        f"a TIFF of {channels} channels, {bits[0]} bits each, in a layout that is not read: save it with 8 or 16 bits"
    )


def _exif_orientation(content: bytes) -> Any:
    """The orientation in an EXIF block; 1 where the block is damaged: then viewers turn nothing either."""
    exif = Image.Exif()
    try:
        exif.load(content)
        return exif.get(ORIENTATION, 1)
    except (struct.error, SyntaxError, ValueError, TypeError, KeyError, OSError):
        return 1


def _size(image: Any, frame: int) -> tuple[int, int] | None:
    """Width and height of a frame; None where it was cut off."""
    try:
        image.seek(frame)
    except (EOFError, SyntaxError, ValueError, OSError):
        return None
    return (image.width, image.height)


def _significant_bits(content: bytes) -> int:
    """Bits of grey that a PNG's sBIT states, else 16."""
    place = 8
    while place + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        if name == b"sBIT" and length:
            return int(content[place + 8]) or 16
        if name == b"IDAT":
            return 16
        place += 12 + length
    return 16


def _not_scaled_up(values: np.ndarray, bits: int) -> bool:
    """Whether samples of so many bits stand at the lower end of 16, against the PNG specification (section 12.4).

    Scaled samples are shifted, shifted with their first bits behind them, or multiplied.
    """
    values, spare, white = values.astype(np.int64), 16 - bits, 2**bits - 1
    if values.max(initial=0) > white:
        return False
    sample = values >> spare
    ways = (sample << spare, sample << spare | sample >> max(0, bits - spare), np.round(sample * (FULL / white)))
    return not bool(np.logical_or.reduce([values == way for way in ways]).all())
