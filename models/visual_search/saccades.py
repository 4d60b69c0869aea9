"""Visual search by saccades: look where attention is highest, never twice at the same cell, until the target is hit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor], Tensor]
"""Crops (n, 3, side, side) centred on fixation, and which displays (n,) they are of -> attention maps (n, h, w)."""

PIXELS = 2_000_000
"""Pixels of crops that a network is shown at once, about as many as the largest published crop; a larger one is alone.
"""


@dataclass(frozen=True)
class Task:
    """What a search may know of its displays: cells, background, how much around them is shown, and the oracle.

    `edges`: first row (and column) of every row of cells, and the display's side; a cell is numbered row by row.
    `ground`: background in [0, 1]. `margin`: background shown beyond what any fixation brings into view, in pixels.
    `window`: the oracle knows the target's cell where this many pixels square around fixation touch it.
    """

    edges: tuple[int, ...]
    ground: float
    margin: int = 64
    window: int = 10

    def __post_init__(self) -> None:
        rising = all(first < second for first, second in zip(self.edges[:-1], self.edges[1:], strict=True))
        if len(self.edges) < 2 or self.edges[0] != 0 or not rising:
            raise ValueError(f"edges must rise from 0 to the display's side; got {self.edges}")
        if self.margin < 0 or self.window < 1:
            raise ValueError(f"margin must be 0 or more and window 1 or more; got {self.margin}, {self.window}")

    @property
    def side(self) -> int:
        """Pixels of a display's side."""
        return self.edges[-1]

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return (len(self.edges) - 1) ** 2

    def cell_at(self, y: int, x: int) -> int:
        """The cell that a pixel lies in."""
        row, column = (max(i for i, edge in enumerate(self.edges[:-1]) if edge <= place) for place in (y, x))
        return row * (len(self.edges) - 1) + column

    def box(self, cell: int) -> tuple[slice, slice]:
        """Rows and columns of a cell."""
        row, column = divmod(cell, len(self.edges) - 1)
        return slice(self.edges[row], self.edges[row + 1]), slice(self.edges[column], self.edges[column + 1])

    def recognises(self, y: int, x: int, cell: int) -> bool:
        """Whether the oracle's window around a fixation, first pixel (y, x) - window // 2, touches a cell."""
        starts = (y - self.window // 2, x - self.window // 2)
        boxes = zip(starts, self.box(cell), strict=True)
        return all(start < box.stop and start + self.window > box.start for start, box in boxes)


@dataclass(frozen=True)
class Scanpaths:
    """How displays were searched: `saccades` (displays,) until the target was hit, NaN where it never was.

    `fixations` (displays, saccades + 1, 2): row and column, the display's centre first, -1 after the last.
    """

    saccades: Tensor
    fixations: Tensor


def search(
    attend: Attend,
    displays: Tensor,
    targets: Sequence[int],
    task: Task,
    recenter: bool = True,
    most: int | None = None,
) -> Scanpaths:
    """Saccades to the target of every display.

    From the centre, which is not tested: show the crop of 2 (side + margin) pixels centred on fixation; resize the
    attention map to it by area; go to the pixel of the highest attention among cells not yet visited (of equal ones the
    first, row by row). The cell fixated is then closed for good and painted with the background. The target is found
    where the oracle's window touches its cell.
    Shapes: displays (n, 3, side, side) in [0, 1], targets (n,) cells. `recenter` False shows the display in one place,
    with `margin` around it: the same but for borders and for the phase of strides, at a quarter of the cost, and of no
    use with a network that is eccentric. `most` saccades, as a rule one for every cell, so that none is left.
    Edge rule: attention that is not finite is a ValueError. Where all open cells have the map's minimum the published
    code looks at the display's corner, this one at the first open pixel.
    Source: code of Gupta et al. 2021.
    """
    if displays.shape[1:] != (3, task.side, task.side) or len(targets) != len(displays):
        raise ValueError(
            f"displays must be ({len(targets)}, 3, {task.side}, {task.side}), one for each target; "
            f"got {tuple(displays.shape)}"
        )
    view = _View(displays, task, recenter)
    count, limit = len(displays), task.cells if most is None else most
    saccades, paths = torch.full((count,), torch.nan), torch.full((count, limit + 1, 2), -1)
    paths[:, 0] = task.side // 2
    for step in range(1, limit + 1):
        left = saccades.isnan().nonzero()[:, 0]
        for rows in torch.split(left, view.batch) if len(left) else ():
            paths[rows, step] = view.next_fixations(attend, rows, paths[rows, step - 1])
            for row in rows.tolist():
                y, x = paths[row, step].tolist()
                view.close(row, task.cell_at(y, x))
                if task.recognises(y, x, targets[row]):
                    saccades[row] = step
    return Scanpaths(saccades, paths)


class _View:
    """Displays as they change in the course of a search, and their pixels that may still be looked at."""

    def __init__(self, displays: Tensor, task: Task, recenter: bool) -> None:
        self.task, self.recenter = task, recenter
        self.reach = (task.side if recenter else task.side - task.side // 2) + task.margin
        self.batch = max(1, PIXELS // (2 * self.reach) ** 2)
        self.displays = displays.clone()
        self.open = displays.new_ones(len(displays), task.side, task.side, dtype=torch.bool)

    def next_fixations(self, attend: Attend, rows: Tensor, fixations: Tensor) -> Tensor:
        """Where to look next (n, 2), from where displays `rows` are fixated."""
        centres = fixations if self.recenter else torch.full_like(fixations, self.task.side // 2)
        starts = list(zip(rows.tolist(), centres.tolist(), strict=True))
        crops = self._crops(starts)
        attention = attend(crops, rows)
        if not attention.isfinite().all():
            raise ValueError("attention must be finite; the network's features are not")
        large = F.interpolate(attention[:, None], crops.shape[-2:], mode="area")[:, 0]
        return torch.stack(
            [
                self._highest(attention_map, row, centre)
                for attention_map, (row, centre) in zip(large, starts, strict=True)
            ]
        )

    def _crops(self, starts: Sequence[tuple[int, list[int]]]) -> Tensor:
        """What is seen (n, 3, 2 reach, 2 reach) of displays from their fixations: all of them, background around."""
        crops = self.displays.new_full((len(starts), 3, 2 * self.reach, 2 * self.reach), self.task.ground)
        for crop, (row, centre) in zip(crops, starts, strict=True):
            crop[:, *self._inside(centre)] = self.displays[row]
        return crops

    def _inside(self, centre: list[int]) -> tuple[slice, slice]:
        """Rows and columns of a crop that show its display."""
        y, x = (self.reach - place for place in centre)
        return slice(y, y + self.task.side), slice(x, x + self.task.side)

    def _highest(self, attention: Tensor, row: int, centre: list[int]) -> Tensor:
        inside = attention[self._inside(centre)].masked_fill(~self.open[row], -torch.inf)
        return torch.tensor(divmod(int(inside.argmax()), self.task.side))

    def close(self, row: int, cell: int) -> None:
        """Never look at a cell again, nor show it."""
        high, wide = self.task.box(cell)
        self.open[row, high, wide] = False
        self.displays[row, :, high, wide] = self.task.ground


def chance(seed: int) -> Attend:
    """Attention that knows nothing: every open pixel is as likely as any other to be looked at next."""
    generator = torch.Generator().manual_seed(seed)

    def attend(crops: Tensor, rows: Tensor) -> Tensor:
        return torch.rand(len(crops), *crops.shape[-2:], generator=generator).to(crops.device)

    return attend
