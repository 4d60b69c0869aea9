"""The batches of a stack: what all members share is taken once, the rest lies side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from models.readouts.sampling import as_list
from models.training.data import Batch, ReadoutData, take


@dataclass(frozen=True)
class Part:
    """Items of a recording that one member takes; `order` is equal for equal rows and windows (see `take`)."""

    recording: ReadoutData
    rows: Tensor
    order: Hashable
    window: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StackedBatch:
    """One batch of every member; tensors have the members as their first axis, or are shared by all of them.

    `arguments` are inputs (a list), responses (a list, one for each readout), behaviour and pupil; `dims`, of the
    same form, are 0 for what has the axis and None for what is shared or missing.
    """

    arguments: tuple[list[Tensor], list[Tensor], Tensor | None, Tensor | None]
    dims: tuple[list[int | None], list[int | None], int | None, int | None]


def stacked_batch(parts: Sequence[Part], device: torch.device) -> StackedBatch:
    """The batches of all members; shorter ones are filled with items without responses, which no loss sees."""
    length = max(len(part.rows) for part in parts)
    shown = _each(parts, lambda held: replace(held, responses={}), length, device)
    asked = _each(parts, lambda held: replace(held, inputs=[], behaviour=None, pupil=None), length, device)
    inputs, alike = [as_list(batch.inputs) for batch in shown], len({id(batch) for batch in shown}) == 1
    answers, equal = [list(batch.responses.values()) for batch in asked], len({id(batch) for batch in asked}) == 1
    fields = [_side_by_side(values, alike) for values in zip(*inputs, strict=True)]
    responses = [_side_by_side(values, equal) for values in zip(*answers, strict=True)]
    behaviour, pupil = (
        _side_by_side([getattr(batch, name) for batch in shown], alike) for name in ("behaviour", "pupil")
    )
    return StackedBatch(
        ([held for held, _ in fields], [held for held, _ in responses], behaviour[0], pupil[0]),
        ([dim for _, dim in fields], [dim for _, dim in responses], behaviour[1], pupil[1]),
    )


def _each(
    parts: Sequence[Part], reduced: Callable[[ReadoutData], ReadoutData], length: int, device: torch.device
) -> list[Batch]:
    """Batches of a part of the recordings' fields; the same object for members that see the same."""
    made: dict[Hashable, Batch] = {}
    found = []
    for part in parts:
        held = reduced(part.recording)
        tensors = [*as_list(held.inputs), *held.responses.values(), held.behaviour, held.pupil]
        key = (part.order, len(part.rows), *(id(each) for each in tensors))
        if key not in made:
            made[key] = _taken(held, part, length, device)
        found.append(made[key])
    return found


def _taken(held: ReadoutData, part: Part, length: int, device: torch.device) -> Batch:
    missing = length - len(part.rows)
    window = dict(part.window)
    if window and missing:
        window["starts"] = torch.cat([window["starts"], window["starts"][-1:].expand(missing)])
    batch = take(held, torch.cat([part.rows, part.rows[-1:].expand(missing)]), device, **window)
    for values in batch.responses.values():
        values[len(part.rows) :] = torch.nan
    return batch


def _side_by_side(values: Sequence[Any], shared: bool) -> tuple[Any, int | None]:
    if values[0] is None:
        return None, None
    return (values[0], None) if shared else (torch.stack(list(values)), 0)
