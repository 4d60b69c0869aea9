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
class MemberRows:
    """Rows of a recording that one member takes; `order` is equal for equal rows and windows (see `take`)."""

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


def stacked_batch(parts: Sequence[MemberRows], device: torch.device) -> StackedBatch:
    """Stack the batches of all members; shorter ones are filled with items without responses, which no loss sees."""
    length = max(len(part.rows) for part in parts)
    inputs = _batches(parts, lambda data: replace(data, responses={}), length, device)
    targets = _batches(parts, lambda data: replace(data, inputs=[], behaviour=None, pupil=None), length, device)
    same_inputs, same_targets = (len({id(batch) for batch in batches}) == 1 for batches in (inputs, targets))
    maps = [_side_by_side(values, same_inputs) for values in zip(*(as_list(b.inputs) for b in inputs), strict=True)]
    responses = [
        _side_by_side(values, same_targets) for values in zip(*(b.responses.values() for b in targets), strict=True)
    ]
    behaviour, pupil = (
        _side_by_side([getattr(batch, name) for batch in inputs], same_inputs) for name in ("behaviour", "pupil")
    )
    return StackedBatch(
        ([tensor for tensor, _ in maps], [tensor for tensor, _ in responses], behaviour[0], pupil[0]),
        ([dim for _, dim in maps], [dim for _, dim in responses], behaviour[1], pupil[1]),
    )


def _batches(
    parts: Sequence[MemberRows], reduced: Callable[[ReadoutData], ReadoutData], length: int, device: torch.device
) -> list[Batch]:
    """Batches of some of the recordings' fields; the same object for members that see the same."""
    taken: dict[Hashable, Batch] = {}
    batches = []
    for part in parts:
        data = reduced(part.recording)
        tensors = [*as_list(data.inputs), *data.responses.values(), data.behaviour, data.pupil]
        key = (part.order, len(part.rows), *(id(tensor) for tensor in tensors))
        if key not in taken:
            taken[key] = _filled(data, part, length, device)
        batches.append(taken[key])
    return batches


def _filled(data: ReadoutData, part: MemberRows, length: int, device: torch.device) -> Batch:
    missing = length - len(part.rows)
    window = dict(part.window)
    if window and missing:
        window["starts"] = torch.cat([window["starts"], window["starts"][-1:].expand(missing)])
    batch = take(data, torch.cat([part.rows, part.rows[-1:].expand(missing)]), device, **window)
    for values in batch.responses.values():
        values[len(part.rows) :] = torch.nan
    return batch


def _side_by_side(values: Sequence[Any], shared: bool) -> tuple[Any, int | None]:
    if values[0] is None:
        return None, None
    return (values[0], None) if shared else (torch.stack(list(values)), 0)
