"""The geometry in which a twin sees pictures: crop, size, grey, transparency. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

VERSION = 1  # raised when `Geometry.apply` gives other pixels
MID_GREY = 128
LARGEST_SIZE = 4096


@dataclass(frozen=True)
class Geometry:
    """How a picture is shown: the central `crop` of each side first, then resized to `size` x `size`.

    With a `width` it becomes `size` rows of `width` pixels. Resizing is bicubic and antialiased, and does not keep the
    aspect of a picture of another shape. Grey becomes three equal channels, 16-bit grey is scaled to 8 bits,
    transparency is laid on mid grey.

    >>> Geometry(size=64, crop=0.5).apply(Image.new("L", (256, 256), 200)).shape
    (64, 64, 3)
    """

    size: int = 112
    crop: float = 1.0
    width: int | None = None

    def __post_init__(self) -> None:
        crop = self.crop
        for name, size in (("size", self.size), ("width", self.size if self.width is None else self.width)):
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
                raise ValueError(f"{name} must be a whole number of pixels from 1 to {LARGEST_SIZE}, not {size!r}")
        if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0 < crop <= 1:
            raise ValueError(f"crop must be a number above 0 up to 1, not {crop!r}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a picture as it is shown."""
        return self.size, self.size if self.width is None else self.width

    def apply(self, image: Image.Image) -> np.ndarray:
        """The picture as a twin sees it: uint8 (size, width or size, 3)."""
        shown = self._cropped(opaque(image))
        pixels = np.asarray(shown.resize(self.shape[::-1], Image.Resampling.BICUBIC))
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)

    def key(self) -> str:
        """Text that is equal for two geometries exactly when they show the same pixels."""
        wide = "" if self.width is None else f"-width{self.width}"
        return f"v{VERSION}-size{self.size}-crop{float(self.crop)!r}{wide}"

    def _cropped(self, image: Image.Image) -> Image.Image:
        width, height = (max(1, round(side * self.crop)) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def opaque(image: Image.Image) -> Image.Image:
    """The same picture in mode L or RGB: 16-bit grey in 8 bits, transparency on mid grey."""
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (MID_GREY, MID_GREY, MID_GREY, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no known range: save the picture with 8 or 16 bits")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
