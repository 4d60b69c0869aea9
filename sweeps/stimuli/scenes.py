"""Rendered scenes: drawn objects under changing position, size, rotation, colour and background.

Everything is a function of the seed: scene i of `random_scenes` depends on (seed, i) alone, and a view of
`object_views` on (seed, kind, rotation) alone, so that a longer list begins with the shorter one.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from sweeps.errors import InputError
from sweeps.stimuli.backgrounds import BACKGROUNDS, Background
from sweeps.stimuli.captions import caption
from sweeps.stimuli.shapes import KINDS, Tone, outline

__all__ = [
    "BACKGROUNDS",
    "KINDS",
    "VERSION",
    "Background",
    "Placement",
    "Scene",
    "ScenePlan",
    "object_views",
    "random_captions",
    "random_plan",
    "random_scene",
    "random_scenes",
    "render",
    "view_table",
]

VERSION = 1  # raised when any rendered pixel or caption changes
OVERSAMPLING = 4
SIZES = {1: (0.45, 0.85), 2: (0.34, 0.52), 3: (0.3, 0.44)}  # diameters by number of objects
TILT = 40.0  # largest rotation of an object in a captioned scene, in degrees
_SCENE, _VIEW = 0, 1  # keep the random streams of the two apart


@dataclass(frozen=True)
class Placement:
    """One object in the frame, whose side is 1: centre (x right, y down), diameter of the circle around it,
    rotation in degrees counter-clockwise, and colour (red, green, blue, each 0 to 255)."""

    kind: str
    x: float = 0.5
    y: float = 0.5
    size: float = 0.7
    rotation: float = 0.0
    colour: tuple[int, int, int] = (200, 80, 60)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("unknown kind of object", key="kind", value=self.kind, allowed=KINDS)


class Scene(NamedTuple):
    """A picture (size, size, 3), what it shows in words, the kind of every object, and the number of living
    objects minus the number of others."""

    image: np.ndarray
    caption: str
    kinds: tuple[str, ...]
    living: float


def render(placements: Sequence[Placement], background: Background, size: int = 112) -> np.ndarray:
    """Draw objects, the last in front, on a background: uint8 (size, size, 3).

    Drawn at four times the size and averaged down, so that edges are smooth. An object lies within the
    circle of its `size`, whatever its rotation; what leaves the frame is cut off.

    >>> render([Placement("fish")], Background("plain", seed=1), size=64).shape
    (64, 64, 3)
    """
    side = size * OVERSAMPLING
    canvas = Image.fromarray(background.image(size)).resize((side, side), Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(canvas)
    for placement in placements:
        _draw(brush, placement, side)
    return np.asarray(canvas.reduce(OVERSAMPLING))


def _draw(brush: ImageDraw.ImageDraw, placement: Placement, side: int) -> None:
    points, starts, tones = outline(placement.kind)
    turn = np.radians(placement.rotation)
    c, s = np.cos(turn), np.sin(turn)
    scaled = points @ (np.array([[c, -s], [s, c]]) * placement.size / 2) + [placement.x, placement.y]
    flat = (scaled * side - 0.5).ravel().tolist()
    for start, stop, tone in zip(starts[:-1], starts[1:], tones, strict=True):
        brush.polygon(flat[2 * start : 2 * stop], fill=_colour(tone, placement.colour))


def _colour(tone: Tone, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    if not isinstance(tone, str):
        return tone
    gain, lift = {"main": (1.0, 0), "shade": (0.62, 0), "light": (0.42, 146)}[tone]
    red, green, blue = (int(gain * channel) + lift for channel in colour)
    return red, green, blue


def _random_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    hue, saturation, value = rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.75, 1)
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _random_background(rng: np.random.Generator) -> Background:
    return Background(tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))], int(rng.integers(2**32)))


class ScenePlan(NamedTuple):
    """All that a captioned scene is before it is drawn at some size."""

    placements: tuple[Placement, ...]
    background: Background
    caption: str


def random_plan(rng: np.random.Generator) -> ScenePlan:
    """One to three objects side by side, sometimes several of one kind, with a caption."""
    kinds = _random_kinds(rng)
    x, y, diameter = _random_layout(rng, len(kinds))
    placements = tuple(
        Placement(kind, x[i], y[i], diameter[i], rng.uniform(-TILT, TILT), _random_colour(rng))
        for i, kind in enumerate(kinds)
    )
    return ScenePlan(placements, _random_background(rng), caption(kinds, rng))


def random_scene(rng: np.random.Generator, size: int = 112) -> Scene:
    """A random plan, drawn."""
    plan = random_plan(rng)
    kinds = tuple(placement.kind for placement in plan.placements)
    living = float(sum(1 if KINDS[kind].living else -1 for kind in kinds))
    return Scene(render(plan.placements, plan.background, size), plan.caption, kinds, living)


def _random_kinds(rng: np.random.Generator) -> tuple[str, ...]:
    names = tuple(KINDS)
    kinds = [names[i] for i in rng.integers(len(names), size=rng.integers(1, 4))]
    repeated = rng.random(len(kinds)) < 0.3
    return tuple(kinds[0] if again else kind for kind, again in zip(kinds, repeated, strict=True))


def _random_layout(rng: np.random.Generator, number: int) -> tuple[list[float], list[float], list[float]]:
    """Centres and diameters of circles inside the frame that do not overlap.

    The first of 64 random layouts without overlap; where there is none, the roomiest, shrunk until it fits.
    """
    diameter = rng.uniform(*SIZES[number], number)
    centre = diameter[:, None] / 2 + rng.random((64, number, 2)) * (1 - diameter[:, None])
    if number > 1:
        a, b = np.triu_indices(number, 1)
        room = np.min(np.hypot(*np.moveaxis(centre[:, a] - centre[:, b], -1, 0)) / (diameter[a] + diameter[b]) * 2, 1)
        best = int(np.argmax(room >= 1)) if np.any(room >= 1) else int(np.argmax(room))
        diameter = diameter * min(1.0, float(room[best]))
        centre = centre[best : best + 1]
    x, y = centre[0].T.tolist()
    return x, y, diameter.tolist()


def _scene_rng(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([_SCENE, seed, index])


def random_scenes(count: int, seed: int, size: int = 112) -> list[Scene]:
    """Scenes 0 to count - 1 of a seed."""
    return [random_scene(_scene_rng(seed, i), size) for i in range(count)]


def random_captions(count: int, seed: int) -> list[str]:
    """The captions of `random_scenes`, without drawing."""
    return [random_plan(_scene_rng(seed, i)).caption for i in range(count)]


def view_table(kinds: Sequence[str], rotations: Sequence[float]) -> pd.DataFrame:
    """What `object_views` shows, without drawing: columns `object` and `rotation_deg`, rotations fastest."""
    views = [(kind, float(rotation)) for kind in kinds for rotation in rotations]
    return pd.DataFrame(views, columns=["object", "rotation_deg"])


def object_views(
    kinds: Sequence[str], rotations: Sequence[float], size: int = 112, seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Every kind at every rotation (degrees counter-clockwise), one object to a picture.

    Returns uint8 images (kinds x rotations, size, size, 3) and the `view_table`. Position, size, colour and
    background differ from view to view, so that none of them tells the object.
    """
    table = view_table(kinds, rotations)
    images = np.empty((len(table), size, size, 3), np.uint8)
    for i, (kind, rotation) in enumerate(zip(table["object"], table["rotation_deg"], strict=True)):
        images[i] = _view(kind, rotation, size, seed)
    return images, table


def _view(kind: str, rotation: float, size: int, seed: int) -> np.ndarray:
    if kind not in KINDS:
        raise InputError("unknown kind of object", key="kinds", value=kind, allowed=KINDS)
    turn = round(rotation * 1000) % 360_000
    rng = np.random.default_rng([_VIEW, seed, tuple(KINDS).index(kind), turn])
    diameter = rng.uniform(0.5, 0.85)
    x, y = diameter / 2 + rng.random(2) * (1 - diameter)
    placement = Placement(kind, x, y, diameter, rotation, _random_colour(rng))
    return render([placement], _random_background(rng), size)
