"""What a twin is fitted to, the batches it is shown, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.inputs.tensors import as_float
from models.readouts.sampling import Maps, as_list
from models.training.settings import FitSettings
from models.twin import Twin


@dataclass(frozen=True)
class ReadoutData:
    """One recording: inputs, and responses (items, units) by readout key.

    Inputs are images (items, 3, h, w), clips (items, 3, frames, h, w), both uint8 or floats in [0, 1], the map
    (items, channels, h, w) of a frozen backbone, or a list of such maps. Responses to clips are (items, frames,
    units), of every frame of the clip, also where the core loses the first ones. `train` and `select` are item
    numbers; NaN marks a response that was not observed. `behaviour` (items, k) or (items, frames, k) and `pupil`,
    alike with two columns, may be NaN too.
    """

    inputs: Maps
    responses: Mapping[str, Tensor]
    train: Tensor
    select: Tensor
    behaviour: Tensor | None = None
    pupil: Tensor | None = None

    @property
    def items(self) -> int:
        """Number of stimuli or clips."""
        return len(as_list(self.inputs)[0])

    @property
    def frames(self) -> int | None:
        """Frames of a clip; None for images and maps."""
        first = as_list(self.inputs)[0]
        return first.shape[2] if first.ndim == 5 else None


@dataclass(frozen=True)
class Batch:
    """Some items of one recording, or crops of them, in float32 on the device of the twin."""

    inputs: Maps
    responses: dict[str, Tensor]
    behaviour: Tensor | None
    pupil: Tensor | None


Step = list[tuple[ReadoutData, Tensor]]
"""The (recording, rows) that one step of the optimizer takes together."""


def take(
    recording: ReadoutData, rows: Tensor, device: torch.device, frames: int | None = None, starts: Tensor | None = None
) -> Batch:
    """Copy the items `rows` alone; of clips `frames` frames from `starts` (rows,) on, where given."""

    def chosen(values: Tensor, axis: int) -> Tensor:
        picked = values.index_select(0, rows.to(values.device))
        if starts is not None and frames is not None:
            windows = [item.narrow(axis - 1, int(s), frames) for item, s in zip(picked, starts, strict=True)]
            picked = torch.stack(windows)
        return as_float(picked.to(device)) if picked.dtype == torch.uint8 else picked.to(device, torch.float32)

    inputs = [chosen(values, 2) for values in as_list(recording.inputs)]
    responses = {key: chosen(values, 1) for key, values in recording.responses.items()}
    more = (None if values is None else chosen(values, 1) for values in (recording.behaviour, recording.pupil))
    return Batch(inputs[0] if isinstance(recording.inputs, Tensor) else inputs, responses, *more)


def crop(recording: ReadoutData, rows: Tensor, settings: FitSettings, draws: torch.Generator) -> dict:
    """`frames` and random `starts` of `take` for a training step; nothing where there is nothing to crop."""
    frames, have = settings.frames, recording.frames
    if frames is None or have is None or frames >= have:
        return {}
    return {"frames": frames, "starts": torch.randint(0, have - frames + 1, (len(rows),), generator=draws)}


def shuffled_batches(
    recordings: Sequence[ReadoutData], batch: int | None, generator: torch.Generator
) -> Iterator[tuple[ReadoutData, Tensor]]:
    """(recording, rows) for one epoch: all train rows once, at most `batch` together, in random order."""
    batches = [(recording, rows) for recording in recordings for rows in _shuffled(recording, batch, generator)]
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[index]


def steps(recordings: Sequence[ReadoutData], settings: FitSettings, generator: torch.Generator) -> Iterator[Step]:
    """List the steps of one epoch: one batch each, or with `together` one batch of every recording.

    Together, there are as many steps as the recording with the most batches has; the others are shuffled and
    shown again until they have as many.
    """
    if not settings.together:
        yield from ([batch] for batch in shuffled_batches(recordings, settings.batch, generator))
        return
    queues = [_shuffled(recording, settings.batch, generator) for recording in recordings]
    longest = max(len(queue) for queue in queues)
    for recording, queue in zip(recordings, queues, strict=True):
        while len(queue) < longest:
            queue += _shuffled(recording, settings.batch, generator)
    for number in range(longest):
        yield [(recording, queue[number]) for recording, queue in zip(recordings, queues, strict=True)]


def _shuffled(recording: ReadoutData, batch: int | None, generator: torch.Generator) -> list[Tensor]:
    order = torch.randperm(len(recording.train), generator=generator)
    parts = -(-len(order) // (batch or len(order)))
    return list(recording.train[order.to(recording.train.device)].tensor_split(parts))


def chunks(recording: ReadoutData, rows: Tensor, settings: FitSettings) -> Iterator[Tensor]:
    """Split rows for evaluation: four batches of images; of clips, as many frames as a training batch has."""
    size = 4 * (settings.batch or len(rows))
    if recording.frames is not None:
        size = max(1, (settings.batch or 1) * (settings.frames or recording.frames) // recording.frames)
    yield from rows.split(size)


def check(twin: Twin, data: Mapping[str, ReadoutData]) -> None:
    """Refuse what cannot be fitted, before work starts: a ValueError that names the recording and the readout."""
    for name, recording in data.items():
        lead = (recording.items,) if recording.frames is None else (recording.items, recording.frames)
        for key, values in recording.responses.items():
            problem = _problem(twin, key, values, recording, lead)
            if problem:
                raise ValueError(f"recording {name!r}, readout {key!r}: {problem}")
        for what, given in (("behaviour", recording.behaviour), ("pupil", recording.pupil)):
            if given is not None and tuple(given.shape[:-1]) != lead:
                raise ValueError(f"recording {name!r}: {what} is {tuple(given.shape)}, expected {(*lead, 'k')}")


def _problem(twin: Twin, key: str, responses: Tensor, recording: ReadoutData, lead: tuple[int, ...]) -> str:
    """Describe what is wrong with the responses of one readout; empty if nothing."""
    readout = twin.readout(key)
    if tuple(responses.shape) != (*lead, readout.units):
        return f"responses are {tuple(responses.shape)}, expected {(*lead, readout.units)}"
    train, select = (
        responses[rows.to(responses.device)].flatten(0, -2) for rows in (recording.train, recording.select)
    )
    if train.isnan().all():
        return "no response in the train rows"
    if select.isnan().all():
        return "no response in the select rows"
    if readout.loss.positive and bool((train < 0).any() or (select < 0).any()):
        loss = readout.given["loss"]
        return f"negative responses: the {loss} loss has no minimum there, use the gaussian loss"
    return ""
