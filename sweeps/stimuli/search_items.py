"""What the items of the six search experiments look like: grey patches, drawn at four times their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

PIXELS_PER_DEGREE = 30
OVERSAMPLING = 4
WHITE, BLACK = 255, 0
DIM = 27
"""Grey level behind the discs of the lighting experiment."""

LEVELS, STEP = 16, 17
"""Grey levels of a brightness ramp: 0, 17, ..., 255."""


@dataclass(frozen=True)
class Brush:
    """A square drawing area around (0, 0), x to the right and y downwards, in degrees of visual angle."""

    degrees: float
    pixels: int
    ground: int

    def polygons(self, parts: Sequence[np.ndarray], ink: int) -> np.ndarray:
        """Filled polygons (corners, 2) on the ground: uint8 (pixels, pixels)."""
        side = self.pixels * OVERSAMPLING
        canvas = Image.new("L", (side, side), self.ground)
        for part in parts:
            points = (part / self.degrees + 0.5) * side - 0.5
            ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=ink)
        return np.asarray(canvas.reduce(OVERSAMPLING))


Drawing = Callable[[Brush], np.ndarray]


def bar(length: float, width: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """An upright bar around (x, y)."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    return corners * [width, length] + [x, y]


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points turned clockwise around (0, 0)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[c, s], [-s, c]])


def line(brush: Brush) -> np.ndarray:
    """A straight white line of 1.2 x 0.2 degrees."""
    return brush.polygons([bar(1.2, 0.2)], WHITE)


def curve(brush: Brush) -> np.ndarray:
    """A white arc of radius 1 degree over 1.3 rad, 1/6 degree thick, in the middle of its patch."""
    angle = np.linspace(-0.65, 0.65, 24)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ring = np.concatenate([arc * (1 + 1 / 12), arc[::-1] * (1 - 1 / 12)])
    return brush.polygons([ring - [(ring[:, 0].min() + ring[:, 0].max()) / 2, 0]], WHITE)


def shaded(brush: Brush) -> np.ndarray:
    """A disc of 1.04 degrees, brightest at the top: 16 bands from 255 down to 0."""
    side = brush.pixels * OVERSAMPLING
    y, x = np.mgrid[:side, :side] + 0.5
    radius = 0.52 / brush.degrees * side
    level = np.clip((y - side / 2 + radius) / (2 * radius) * LEVELS, 0, LEVELS - 1).astype(int)
    inside = np.hypot(y - side / 2, x - side / 2) <= radius
    drawn = np.where(inside, STEP * (LEVELS - 1 - level), brush.ground).astype(np.uint8)
    return np.asarray(Image.fromarray(drawn).reduce(OVERSAMPLING))


LENGTH, THICK = 5.5, 0.55
QUARTER = LENGTH / 4


def _across(x: float = 0.0, y: float = 0.0, length: float = LENGTH) -> np.ndarray:
    return bar(length, THICK)[:, ::-1] + [x, y]


def cross(brush: Brush) -> np.ndarray:
    """Two black strokes of 5.5 x 0.55 degrees that cross in their middles."""
    return brush.polygons([bar(LENGTH, THICK), _across()], BLACK)


def not_cross(brush: Brush) -> np.ndarray:
    """A stroke across, and the halves of the upright one offset: the upper half to its left, the lower to its right."""
    halves = [bar(LENGTH / 2, THICK, -QUARTER, -QUARTER), bar(LENGTH / 2, THICK, QUARTER, QUARTER)]
    return brush.polygons([_across(), *halves], BLACK)


def tee(brush: Brush) -> np.ndarray:
    """An upright stroke that ends in the middle of a stroke across."""
    return brush.polygons([bar(LENGTH, THICK), _across(y=(THICK - LENGTH) / 2)], BLACK)


def ell(brush: Brush) -> np.ndarray:
    """An upright stroke that ends at the end of a stroke across."""
    edge = (LENGTH - THICK) / 2
    return brush.polygons([bar(LENGTH, THICK, -edge), _across(y=edge)], BLACK)


def tilted(degrees: float) -> Drawing:
    """A black bar of 2 x 0.3 degrees, turned clockwise from upright."""
    return lambda brush: brush.polygons([turned(bar(2.0, 0.3), degrees)], BLACK)


DRAWINGS: dict[str, Drawing] = {
    "line": line,
    "curve": curve,
    "disc": shaded,
    "cross": cross,
    "not cross": not_cross,
    "T": tee,
    "L": ell,
    **{f"bar {angle}": tilted(angle) for angle in (-80, -60, -40, -20, 0, 20, 40, 60, 80)},
}
"""Name -> drawing in its first orientation."""


@cache
def item(name: str, turn: int, degrees: float, pixels: int, ground: int) -> np.ndarray:
    """A patch (pixels, pixels) uint8 that shows `degrees` of visual angle.

    `turn` 0 to 3: quarter turns counter-clockwise; 4 to 7: the same, mirrored first. Read only, since it is kept.

    >>> item("line", 0, 1.6, 48, 0).shape
    (48, 48)
    """
    drawn = DRAWINGS[name](Brush(degrees, pixels, ground))
    drawn = np.ascontiguousarray(np.rot90(drawn[:, ::-1] if turn >= 4 else drawn, turn % 4))
    drawn.setflags(write=False)
    return drawn
