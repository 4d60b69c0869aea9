"""What the twelve kinds of object look like: polygons in a unit circle, x to the right and y downwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

Tone = str | tuple[int, int, int]  # "main", "shade", "light" follow the object's colour; a triple is fixed

INK = (24, 22, 28)
WHITE = (250, 250, 248)
GLASS = (196, 226, 240)
GREEN = (70, 140, 60)
BROWN = (122, 82, 50)
CREAM = (240, 226, 198)
YELLOW = (250, 200, 50)
GREY = (150, 154, 160)

RIM = 0.045  # width of the dark rim around an object's silhouette, in drawing units


class Fill(NamedTuple):
    """A filled polygon of a drawing, its corners `points` (n, 2).

    `rim` says whether it belongs to the silhouette that gets the dark rim.
    """

    points: np.ndarray
    tone: Tone
    rim: bool = True


@dataclass(frozen=True)
class Kind:
    """An everyday noun, its plural, whether it lives, and its drawing."""

    noun: str
    plural: str
    living: bool
    draw: Callable[[], list[Fill]]


def polygon(*points: tuple[float, float]) -> np.ndarray:
    """Corners in order, (n, 2)."""
    return np.array(points, dtype=float)


def _circle(start: float, stop: float, steps: int) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, steps))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    """An ellipse as a polygon; `tilt` turns it clockwise, in degrees."""
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    ring = _circle(0, 360, 25)[:-1] * [rx, ry]
    return ring @ np.array([[c, s], [-s, c]]) + [x, y]


def sector(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> np.ndarray:
    """The part of an ellipse between two angles (0 = right, 90 = down), closed by a chord."""
    return _circle(start, stop, 16) * [rx, ry] + [x, y]


def band(x: float, y: float, rx: float, ry: float, width: float, angles: tuple[float, float]) -> np.ndarray:
    """A curved stroke along an ellipse between two angles."""
    arc = _circle(*angles, 20)
    outer, inner = arc * [rx + width / 2, ry + width / 2], arc * [rx - width / 2, ry - width / 2]
    return np.concatenate([outer, inner[::-1]]) + np.array([x, y])


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A straight stroke between two points."""
    along = np.array([x1 - x0, y1 - y0])
    side = np.array([-along[1], along[0]]) * width / 2 / np.hypot(*along)
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + side, b + side, b - side, a - side])


def mirror(points: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return points * [-1.0, 1.0]


def _fish() -> list[Fill]:
    return [
        Fill(polygon((0.42, 0), (0.98, -0.48), (0.84, 0), (0.98, 0.48)), "shade"),
        Fill(polygon((-0.25, -0.36), (0.1, -0.66), (0.36, -0.58), (0.34, -0.22)), "shade"),
        Fill(polygon((-0.05, 0.36), (0.2, 0.62), (0.32, 0.3)), "shade"),
        Fill(ellipse(-0.15, 0, 0.8, 0.45), "main"),
        Fill(sector(-0.15, 0, 0.74, 0.4, 20, 160), "light", rim=False),
        Fill(band(-0.66, 0, 0.28, 0.36, 0.06, (-65, 65)), "shade", rim=False),
        Fill(band(-0.2, 0, 0.2, 0.22, 0.05, (-60, 60)), "shade", rim=False),
        Fill(band(0.08, 0, 0.2, 0.22, 0.05, (-60, 60)), "shade", rim=False),
        Fill(ellipse(-0.64, -0.1, 0.11, 0.11), WHITE, rim=False),
        Fill(ellipse(-0.66, -0.1, 0.06, 0.06), INK, rim=False),
    ]


def _bird() -> list[Fill]:
    return [
        Fill(bar(-0.02, 0.4, -0.02, 0.86, 0.07), INK, rim=False),
        Fill(bar(0.2, 0.4, 0.2, 0.86, 0.07), INK, rim=False),
        Fill(bar(-0.04, 0.84, 0.14, 0.84, 0.06), INK, rim=False),
        Fill(bar(0.18, 0.84, 0.36, 0.84, 0.06), INK, rim=False),
        Fill(polygon((-0.45, -0.02), (-1.0, -0.34), (-1.02, -0.06), (-0.5, 0.3)), "shade"),
        Fill(polygon((0.72, -0.58), (1.05, -0.4), (0.7, -0.34)), YELLOW),
        Fill(ellipse(0.02, 0.1, 0.6, 0.42, -14), "main"),
        Fill(ellipse(0.5, -0.42, 0.3, 0.29), "main"),
        Fill(ellipse(0.16, 0.26, 0.4, 0.2, -14), "light", rim=False),
        Fill(ellipse(-0.2, 0.02, 0.46, 0.2, -20), "shade", rim=False),
        Fill(polygon((-0.5, 0.02), (-0.78, 0.3), (-0.3, 0.24)), "shade", rim=False),
        Fill(ellipse(0.56, -0.48, 0.08, 0.08), WHITE, rim=False),
        Fill(ellipse(0.58, -0.48, 0.05, 0.05), INK, rim=False),
    ]


def _butterfly() -> list[Fill]:
    wings = [
        Fill(ellipse(-0.5, -0.34, 0.52, 0.34, 38), "main"),
        Fill(ellipse(-0.36, 0.36, 0.38, 0.27, -48), "shade"),
        Fill(ellipse(-0.58, -0.4, 0.2, 0.14, 38), "light", rim=False),
        Fill(ellipse(-0.4, 0.42, 0.14, 0.1, -48), "light", rim=False),
    ]
    wings += [Fill(mirror(part.points), part.tone, part.rim) for part in wings]
    return [
        *wings,
        Fill(bar(0, -0.4, -0.2, -0.82, 0.05), INK, rim=False),
        Fill(bar(0, -0.4, 0.2, -0.82, 0.05), INK, rim=False),
        Fill(ellipse(-0.2, -0.82, 0.05, 0.05), INK, rim=False),
        Fill(ellipse(0.2, -0.82, 0.05, 0.05), INK, rim=False),
        Fill(ellipse(0, 0.05, 0.09, 0.52), INK, rim=False),
    ]


def _flower() -> list[Fill]:
    petals = []
    for turn in range(0, 360, 60):
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        petals.append(Fill(ellipse(0.32 * c, -0.4 + 0.32 * s, 0.27, 0.19, turn), "main"))
    return [
        Fill(bar(0, -0.3, 0, 0.98, 0.09), GREEN),
        Fill(ellipse(0.27, 0.56, 0.3, 0.12, -35), GREEN),
        Fill(ellipse(-0.27, 0.7, 0.3, 0.12, 35), GREEN),
        *petals,
        Fill(ellipse(0, -0.4, 0.2, 0.2), YELLOW, rim=False),
        Fill(ellipse(0, -0.4, 0.1, 0.1), BROWN, rim=False),
    ]


def _tree() -> list[Fill]:
    crown = [(-0.42, -0.1), (0.42, -0.1), (-0.28, -0.5), (0.28, -0.5), (0, -0.68), (0, -0.2)]
    return [
        Fill(polygon((-0.13, 0.1), (0.13, 0.1), (0.17, 0.8), (0.3, 0.98), (-0.3, 0.98), (-0.17, 0.8)), BROWN),
        Fill(bar(0.02, 0.4, 0.3, 0.12, 0.1), BROWN),
        *[Fill(ellipse(x, y, 0.36, 0.33), "main") for x, y in crown],
        *[Fill(ellipse(x, y, 0.2, 0.12), "shade", rim=False) for x, y in ((-0.42, 0.1), (0.4, 0.1))],
        *[
            Fill(ellipse(x, y, 0.17, 0.1, -20), "light", rim=False)
            for x, y in ((-0.3, -0.55), (0.22, -0.62), (-0.02, -0.22))
        ],
    ]


def _mushroom() -> list[Fill]:
    spots = ((-0.42, -0.2, 0.13), (0.02, -0.44, 0.16), (0.46, -0.18, 0.12), (0.1, -0.06, 0.09))
    stalk = polygon((-0.22, 0), (0.22, 0), (0.2, 0.5), (0.3, 0.86), (0, 0.93), (-0.3, 0.86), (-0.2, 0.5))
    return [
        Fill(stalk, CREAM),
        Fill(sector(0, 0.14, 0.86, 0.94, 180, 360), "main"),
        Fill(ellipse(0, 0.14, 0.86, 0.14), "shade"),
        Fill(band(0, 0.3, 0.22, 0.06, 0.07, (0, 180)), BROWN, rim=False),
        *[Fill(ellipse(x, y, r, r * 0.85), WHITE, rim=False) for x, y, r in spots],
    ]


def _house() -> list[Fill]:
    panes = [polygon((x, 0.16), (x + 0.3, 0.16), (x + 0.3, 0.46), (x, 0.46)) for x in (-0.52, 0.22)]
    return [
        Fill(polygon((0.34, -0.78), (0.56, -0.78), (0.56, -0.2), (0.34, -0.2)), BROWN),
        Fill(polygon((-0.68, -0.1), (0.68, -0.1), (0.68, 0.85), (-0.68, 0.85)), "main"),
        Fill(polygon((-0.92, -0.04), (0, -0.86), (0.92, -0.04)), "shade"),
        Fill(polygon((-0.14, 0.4), (0.14, 0.4), (0.14, 0.85), (-0.14, 0.85)), BROWN, rim=False),
        Fill(ellipse(0.08, 0.64, 0.035, 0.035), YELLOW, rim=False),
        *[Fill(pane, GLASS, rim=False) for pane in panes],
        *[Fill(bar(x, 0.16, x, 0.46, 0.05), INK, rim=False) for x in (-0.37, 0.37)],
        *[Fill(bar(x, 0.31, x + 0.3, 0.31, 0.05), INK, rim=False) for x in (-0.52, 0.22)],
    ]


def _car() -> list[Fill]:
    body = polygon(
        (-0.98, 0.3),
        (-0.98, -0.02),
        (-0.9, -0.1),
        (-0.6, -0.14),
        (0.62, -0.14),
        (0.94, -0.04),
        (1, 0.06),
        (1, 0.3),
    )
    wheels = [Fill(ellipse(x, 0.3, r, r), tone, rim=False) for x in (-0.55, 0.56) for r, tone in _TYRE]
    return [
        Fill(polygon((-0.66, -0.12), (-0.44, -0.52), (0.26, -0.52), (0.6, -0.12)), "main"),
        Fill(body, "main"),
        Fill(polygon((-0.54, -0.14), (-0.38, -0.43), (-0.1, -0.43), (-0.1, -0.14)), GLASS, rim=False),
        Fill(polygon((0, -0.14), (0, -0.43), (0.22, -0.43), (0.46, -0.14)), GLASS, rim=False),
        Fill(bar(-0.98, 0.2, 1, 0.2, 0.07), "shade", rim=False),
        Fill(ellipse(0.9, 0.04, 0.08, 0.06), YELLOW, rim=False),
        *wheels,
    ]


_TYRE: tuple[tuple[float, Tone], ...] = ((0.24, INK), (0.12, GREY))


def _cup() -> list[Fill]:
    return [
        Fill(band(0.46, 0.02, 0.3, 0.32, 0.13, (-100, 100)), "shade"),
        Fill(
            polygon((-0.72, -0.55), (0.52, -0.55), (0.4, 0.5), (0.28, 0.66), (-0.48, 0.66), (-0.6, 0.5)),
            "main",
        ),
        Fill(ellipse(-0.1, -0.55, 0.62, 0.17), "light"),
        Fill(ellipse(-0.1, -0.53, 0.5, 0.11), (74, 48, 34), rim=False),
        Fill(bar(-0.5, -0.18, -0.42, 0.42, 0.1), "light", rim=False),
    ]


def _key() -> list[Fill]:
    return [
        Fill(polygon((-0.38, -0.09), (0.96, -0.09), (0.96, 0.09), (-0.38, 0.09)), "main"),
        Fill(polygon((0.5, 0.05), (0.64, 0.05), (0.64, 0.34), (0.5, 0.34)), "main"),
        Fill(polygon((0.78, 0.05), (0.94, 0.05), (0.94, 0.42), (0.78, 0.42)), "main"),
        Fill(band(-0.58, 0, 0.3, 0.3, 0.2, (0, 360)), "main"),
        Fill(band(-0.58, 0, 0.3, 0.3, 0.06, (150, 290)), "light", rim=False),
        Fill(bar(-0.2, 0, 0.9, 0, 0.05), "shade", rim=False),
    ]


def _ladder() -> list[Fill]:
    rungs = [Fill(bar(-0.3, y, 0.3, y, 0.1), "shade") for y in (-0.7, -0.35, 0, 0.35, 0.7)]
    return [*rungs, *[Fill(bar(x, -0.98, x, 0.98, 0.14), "main") for x in (-0.32, 0.32)]]


def _umbrella() -> list[Fill]:
    rim_x = np.linspace(-0.94, 0.94, 5)
    lower = [sector((a + b) / 2, 0.02, (b - a) / 2, 0.13, 360, 180) for a, b in pairwise(rim_x)]
    dome = _circle(180, 360, 24) * [0.94, 0.86] + [0, 0.02]
    canopy = np.concatenate([dome, *lower[::-1]])
    panels = [
        np.concatenate([[[0, -0.84]], _rib(a)[1:], lower[i][::-1], _rib(b)[1:][::-1]])
        for i, (a, b) in enumerate(pairwise(rim_x))
    ]
    return [
        Fill(bar(0, -0.98, 0, 0.72, 0.08), GREY),
        Fill(band(0.16, 0.72, 0.16, 0.18, 0.1, (0, 180)), BROWN),
        Fill(canopy, "main"),
        *[Fill(panel, tone, rim=False) for panel, tone in zip(panels, ("shade", "main", "light", "main"), strict=True)],
    ]


def _rib(x: float) -> np.ndarray:
    """The rib of an umbrella from its tip to the rim at x, bulging outwards."""
    drop = np.linspace(0, 90, 8)
    return np.stack([x * np.sin(np.radians(drop)), 0.02 - 0.86 * np.cos(np.radians(drop))], axis=1)


KINDS: dict[str, Kind] = {
    "fish": Kind("fish", "fish", True, _fish),
    "bird": Kind("bird", "birds", True, _bird),
    "butterfly": Kind("butterfly", "butterflies", True, _butterfly),
    "flower": Kind("flower", "flowers", True, _flower),
    "tree": Kind("tree", "trees", True, _tree),
    "mushroom": Kind("mushroom", "mushrooms", True, _mushroom),
    "house": Kind("house", "houses", False, _house),
    "car": Kind("car", "cars", False, _car),
    "cup": Kind("cup", "cups", False, _cup),
    "key": Kind("key", "keys", False, _key),
    "ladder": Kind("ladder", "ladders", False, _ladder),
    "umbrella": Kind("umbrella", "umbrellas", False, _umbrella),
}


def grown(points: np.ndarray, by: float) -> np.ndarray:
    """A polygon with every edge moved outwards by `by`; sharp corners are cut at twice that distance."""
    points = points[np.any(np.abs(points - np.roll(points, 1, axis=0)) > 1e-9, axis=1)]
    edge = np.roll(points, -1, axis=0) - points
    area = np.sum(points[:, 0] * np.roll(points[:, 1], -1) - points[:, 1] * np.roll(points[:, 0], -1))
    normal = np.sign(area) * np.stack([edge[:, 1], -edge[:, 0]], axis=1) / np.hypot(*edge.T)[:, None]
    mitre = normal + np.roll(normal, 1, axis=0)
    length = np.maximum(np.sum(mitre**2, axis=1, keepdims=True) / 2, 0.25)
    step = mitre / length
    return points + by * step * np.minimum(1, 2 / np.maximum(np.hypot(*step.T)[:, None], 1e-9))


@cache
def outline(kind: str) -> tuple[np.ndarray, tuple[int, ...], tuple[Tone, ...]]:
    """Polygons of a kind, back to front: points (n, 2) in the unit circle, where each starts, its tone."""
    parts = KINDS[kind].draw()
    rim = [Fill(grown(part.points, RIM), INK) for part in parts if part.rim]
    layers = [*rim, *parts]
    points = np.concatenate([part.points for part in layers])
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    points = points / np.hypot(*points.T).max()
    points.setflags(write=False)
    starts = np.cumsum([0, *[len(part.points) for part in layers]])
    return points, tuple(int(s) for s in starts), tuple(part.tone for part in layers)
