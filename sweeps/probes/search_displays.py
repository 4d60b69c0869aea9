"""Displays of the six experiments on search asymmetry, drawn from a seed: one target among distractors on a grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import AfterValidator, Field, computed_field

from models.inputs.geometry import Geometry
from sweeps.probes.drawn import DrawnProbe
from sweeps.stimuli.search_items import BLACK, DIM, PIXELS_PER_DEGREE, WHITE, item

VERSION = 1
"""Raise when any pixel, or the table, changes for the same settings."""

TILTS = (-80, -60, -40, 20, 40, 60, 80)
TURNS = (0, 1, 2, 3)
FLIPS = (0, 4, 6, 5)
"""As it is, left and right exchanged, upside down, rows and columns exchanged."""


@dataclass(frozen=True)
class Condition:
    """A target among distractors. Items come in `turns`, those of distractors in their own (see `search_items.item`).

    `cycled` items take the turns in order, others at random.
    """

    name: str
    target: str
    distractors: tuple[str, ...]
    target_turns: tuple[int, ...] = (0,)
    turns: tuple[int, ...] = (0,)
    cycled: bool = False


@dataclass(frozen=True)
class SearchExperiment:
    """Two conditions, the one easier for people first, on a grid of `grid` x `grid` cells.

    `side`, `patch`: pixels of the display and of an item at 30 per degree; `degrees` is what a patch shows.
    """

    side: int
    ground: int
    grid: int
    set_sizes: tuple[int, ...]
    patch: int
    conditions: tuple[Condition, Condition]

    @property
    def degrees(self) -> float:
        """Degrees of visual angle in a patch."""
        return self.patch / PIXELS_PER_DEGREE


def _pair(first: str, second: str) -> tuple[Condition, Condition]:
    return (
        Condition(f"{first} among {second}", first, (second,), FLIPS, FLIPS),
        Condition(f"{second} among {first}", second, (first,), FLIPS, FLIPS),
    )


def _tilts(others: tuple[int, ...] = ()) -> tuple[Condition, Condition]:
    """The tilted bar first; `others` are distractors beside the other target."""
    extra, kind = tuple(f"bar {angle}" for angle in others), "mixed" if others else "equal"
    upright, tilted = "bar 0", "bar -20"
    first = Condition(f"tilted among {kind}", tilted, (upright, *extra))
    second = Condition(f"upright among {kind}", upright, (tilted, *extra))
    return (second, first) if others else (first, second)


EXPERIMENTS: dict[str, SearchExperiment] = {
    "curvature": SearchExperiment(
        339,
        BLACK,
        6,
        (8, 16, 32),
        48,
        (
            Condition("curve among lines", "curve", ("line",), TURNS, TURNS, cycled=True),
            Condition("line among curves", "line", ("curve",), TURNS, TURNS, cycled=True),
        ),
    ),
    "lighting": SearchExperiment(
        198,
        DIM,
        4,
        (1, 6, 12),
        31,
        (
            Condition("lit from below among above", "disc", ("disc",), (2,), (0,)),
            Condition("lit from left among right", "disc", ("disc",), (1,), (3,)),
        ),
    ),
    "crossing": SearchExperiment(615, WHITE, 3, (3, 6, 9), 177, _pair("not cross", "cross")),
    "corner": SearchExperiment(615, WHITE, 3, (3, 6, 9), 177, _pair("T", "L")),
    "orientation": SearchExperiment(339, WHITE, 4, (1, 4, 8, 12), 69, _tilts()),
    "orientation-mixed": SearchExperiment(339, WHITE, 4, (1, 4, 8, 12), 69, _tilts(TILTS)),
}
"""Name -> experiment, numbered from 1 in this order.

Sizes, grids, set sizes, items and conditions are those of Gupta et al. 2021 (code of the stimulus generators). Choices
of ours: which four orientations there are (curvature: quarter turns; crossing and corner: as is, two flips and the
transpose), which way the target's disc is lit, and jitter that is uniform over all places of a patch in its cell.
"""


@dataclass(frozen=True)
class Placed:
    """An item: its drawing and turn, its cell (row-major), and the row and column of its patch's first pixel."""

    name: str
    turn: int
    cell: int
    y: int
    x: int


@dataclass(frozen=True)
class SearchDisplay:
    """All that a display is before it is drawn, at a scale; the first item is the target."""

    experiment: str
    condition: str
    set_size: int
    scale: float
    items: tuple[Placed, ...]

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return scaled_side(self.experiment, self.scale)

    @property
    def target_cell(self) -> int:
        """Cell of the target, row-major."""
        return self.items[0].cell

    def patch(self, placed: Placed) -> np.ndarray:
        """The patch (pixels, pixels) uint8 of one of its items."""
        experiment, pixels = EXPERIMENTS[self.experiment], scaled_patch(self.experiment, self.scale)
        return item(placed.name, placed.turn, experiment.degrees, pixels, experiment.ground)

    def image(self) -> np.ndarray:
        """The display (side, side) uint8, grey."""
        drawn = np.full((self.side, self.side), EXPERIMENTS[self.experiment].ground, np.uint8)
        for placed in self.items:
            patch = self.patch(placed)
            drawn[placed.y : placed.y + len(patch), placed.x : placed.x + len(patch)] = patch
        return drawn


def scaled_side(experiment: str, scale: float) -> int:
    """Pixels of a display's side."""
    return round(EXPERIMENTS[experiment].side * scale)


def scaled_patch(experiment: str, scale: float) -> int:
    """Pixels of a patch's side: rounded down, so that it always lies within its cell."""
    return int(EXPERIMENTS[experiment].patch * scale)


def cell_edges(side: int, grid: int) -> tuple[int, ...]:
    """First row of every row of cells, and the side: round(i side / grid).

    >>> cell_edges(10, 3)
    (0, 3, 7, 10)
    """
    return tuple(round(index * side / grid) for index in range(grid + 1))


def plan(experiment: str, condition: int, set_size: int, number: int, seed: int, scale: float) -> SearchDisplay:
    """Display `number` of a condition (0 the easier, 1 the harder for people) at a set size.

    It depends on the arguments alone, so a longer series begins with the shorter one. Cells are drawn without
    replacement; at another scale the same cells and items come at nearly the same places.
    """
    grid = EXPERIMENTS[experiment].grid
    chosen = EXPERIMENTS[experiment].conditions[condition]
    rng = np.random.default_rng([seed, list(EXPERIMENTS).index(experiment), condition, set_size, number])
    cells, jitter = rng.permutation(grid**2)[:set_size], rng.random((set_size, 2))
    names = [chosen.target, *rng.choice(chosen.distractors, set_size - 1)]
    draws = rng.integers(0, 2**31, set_size)
    turns = [chosen.target_turns, *[chosen.turns] * (set_size - 1)]
    steps = number + np.arange(set_size) if chosen.cycled else draws
    placed = [
        Placed(str(name), choices[int(step) % len(choices)], int(cell), *_place(experiment, int(cell), offset, scale))
        for name, choices, step, cell, offset in zip(names, turns, steps, cells, jitter, strict=True)
    ]
    return SearchDisplay(experiment, chosen.name, set_size, scale, tuple(placed))


def _place(experiment: str, cell: int, jitter: np.ndarray, scale: float) -> tuple[int, int]:
    """First row and column of a patch, jitter in [0, 1) over the places within its cell."""
    grid, patch = EXPERIMENTS[experiment].grid, scaled_patch(experiment, scale)
    edges = cell_edges(scaled_side(experiment, scale), grid)
    y, x = (
        edges[index] + int(share * (edges[index + 1] - edges[index] - patch + 1))
        for index, share in zip(divmod(cell, grid), jitter, strict=True)
    )
    return y, x


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in EXPERIMENTS:
            raise ValueError(f"has no experiment {name!r}; allowed: {', '.join(EXPERIMENTS)}")
    if len(set(names)) < len(names):
        raise ValueError("names an experiment twice")
    return names


class RenderedSearch(DrawnProbe):
    """Displays of both conditions of some experiments, `displays` at every set size, at `scale` times 30 px / degree.

    The published experiments have 30 displays at every set size, the two of intersections 36.
    """

    version: ClassVar[int] = VERSION
    shown_to_twins: ClassVar[bool] = False

    displays: Annotated[int, Field(ge=1, le=1000, strict=True)] = 30
    experiments: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known)] = tuple(EXPERIMENTS)
    scale: Annotated[float, Field(ge=0.2, le=4, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drawing(self) -> int:
        """VERSION of the displays, so that it enters the probe's fingerprint."""
        return VERSION

    def plans(self) -> Iterator[SearchDisplay]:
        """Every display before it is drawn, in the order of the table."""
        for name in self.experiments:
            for condition in (0, 1):
                for size in EXPERIMENTS[name].set_sizes:
                    for number in range(self.displays):
                        yield plan(name, condition, size, number, self.seed, self.scale)

    def table(self) -> pd.DataFrame:
        """Columns `experiment`, `condition`, `set_size`, `target_cell` (row-major) and `cells` (in the grid)."""
        rows = [
            (
                display.experiment,
                display.condition,
                display.set_size,
                display.target_cell,
                EXPERIMENTS[display.experiment].grid ** 2,
            )
            for display in self.plans()
        ]
        return pd.DataFrame(rows, columns=["experiment", "condition", "set_size", "target_cell", "cells"])

    def images(self, geometry: Geometry) -> np.ndarray:
        """The displays in one size, whatever their own; the search itself takes them as they are, from `plans`."""
        return np.stack([geometry.apply(Image.fromarray(display.image())) for display in self.plans()])
