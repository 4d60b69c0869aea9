"""Where a fit starts: what is known of the recordings before the first step of gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.objectives.likelihoods import RHO, fit_gamma_shape
from models.readouts.initial_positions import GRID, response_statistics, starting_positions
from models.readouts.protocol import Readout
from models.readouts.sampling import as_list, stacked
from models.training.data import ReadoutData, take
from models.twin import Twin

SEARCHED = 2000
"""Starting positions are searched with at most this many train and select stimuli or frames each, evenly taken."""

Places = dict[tuple[int, ...], tuple[Tensor, ReadoutData]]
"""Starting positions (units, 2) by the identity of what they were found in, which is held beside them."""

MOMENTS = 16
"""Frames of each clip, at most, that are searched."""


def prepared(twin: Twin, recordings: Sequence[ReadoutData], places: Places | None = None) -> list[ReadoutData]:
    """Move recordings, but not clips, to the twin's device; give the twin all it can have before a fit.

    Readouts get their scales, biases and starting positions, behaviour and pupil their statistics, and a core
    that has `initialize_input` the statistics of its input; all of train rows, of all recordings together where
    a part is shared. `places` remembers starting positions between twins that read the same frozen maps.
    """
    twin.eval()
    device = next(twin.parameters()).device
    moved = [on_device(recording, device) for recording in recordings]
    set_statistics(twin, moved)
    for recording in moved:
        _place(twin, recording, {} if places is None or twin.core is not None else places)
    return moved


@torch.no_grad()
def set_statistics(twin: Twin, recordings: Sequence[ReadoutData]) -> None:
    """Set the statistics of the train rows: of responses, behaviour, pupil and input; see `prepared`."""
    if hasattr(twin.core, "initialize_input"):
        _initialize_input(cast(nn.Module, twin.core), recordings)
    for recording in recordings:
        key = next(iter(recording.responses))
        if twin.branch is not None and recording.behaviour is not None:
            twin.branch.initialize(recording.behaviour[recording.train], twin.recordings.get(key, ""))
        shifter = twin.shifter(key)
        if shifter is not None and recording.pupil is not None:
            shifter.initialize(recording.pupil[recording.train])
        for key, values in recording.responses.items():
            _set_response_statistics(twin.readout(key), values[recording.train].flatten(0, -2))


def _set_response_statistics(readout: Readout, responses: Tensor) -> None:
    """Scale, gamma and bias of a readout from its train responses (rows, units); a unit without any has mean 0."""
    mean, deviation = response_statistics(responses)
    mean = mean.nan_to_num(nan=0.0)
    scaled = responses / deviation
    active = (scaled > RHO).sum(dim=0) / (~scaled.isnan()).sum(dim=0).clamp(min=1)
    gamma = fit_gamma_shape(scaled) if readout.outputs == 2 else None
    readout.initialize(mean, deviation, gamma, active)
    readout.offset.zero_()


def _initialize_input(core: nn.Module, recordings: Sequence[ReadoutData]) -> None:
    """Clips are given as views, a clip at a time; of images at most SEARCHED of each recording."""
    if recordings[0].frames is not None:
        clips = [as_list(own.inputs)[0][row : row + 1] for own in recordings for row in own.train.tolist()]
        cast(Any, core).initialize_input(*clips)
        return
    images = [as_list(recording.inputs)[0][evenly(recording.train, SEARCHED)] for recording in recordings]
    cast(Any, core).initialize_input(*images)


@torch.no_grad()
def _place(twin: Twin, recording: ReadoutData, places: Places) -> None:
    """Set the starting positions of the readouts that have places, see `models.readouts.initial_positions`."""
    keys = [key for key in recording.responses if twin.readout(key).places]
    known = {key: _identity(recording, key) for key in keys}
    for key in keys:
        if known[key] in places:
            twin.readout(key).place(places[known[key]][0])
    keys = [key for key in keys if known[key] not in places]
    if not keys:
        return
    limit = SEARCHED if recording.frames is None else SEARCHED // MOMENTS
    searched = [evenly(rows, limit) for rows in (recording.train, recording.select)]
    maps, responses = _searched_maps(twin, recording, torch.cat(searched), keys)
    for key in keys:
        length = len(maps[key]) // sum(len(part) for part in searched)
        counts = [len(part) * length for part in searched]
        first, second = torch.arange(len(maps[key]), device=maps[key].device).split(counts)
        positions = starting_positions(maps[key], responses[key], first, second)
        twin.readout(key).place(positions)
        places[known[key]] = positions, recording


def _identity(recording: ReadoutData, key: str) -> tuple[int, ...]:
    """Equal for the same tensors, as long as they are held."""
    given = [*as_list(recording.inputs), recording.responses[key], recording.train, recording.select]
    return tuple(id(tensor) for tensor in given)


def _searched_maps(
    twin: Twin, recording: ReadoutData, rows: Tensor, keys: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Maps (rows, channels, h, w) that the readouts read now, at most GRID a side, and responses (rows, units)."""
    device = next(twin.parameters()).device
    maps: dict[str, list[Tensor]] = {key: [] for key in keys}
    responses: dict[str, list[Tensor]] = {key: [] for key in keys}
    for chunk in rows.split(64 if recording.frames is None else 1):
        batch = take(recording, chunk, device)
        for key, view in twin.views(batch.inputs, keys, batch.behaviour, batch.pupil).items():
            moments = slice(None) if view.frames is None else evenly(torch.arange(view.frames), MOMENTS)
            maps[key].append(stacked([feature_map[moments] for feature_map in view.maps], GRID))
            responses[key].append(view.flattened(batch.responses[key])[moments])
    return tuple({key: torch.cat(parts) for key, parts in collected.items()} for collected in (maps, responses))  # type: ignore[return-value]


def evenly(rows: Tensor, most: int) -> Tensor:
    """Take at most `most` of the rows, evenly."""
    return rows[:: -(-len(rows) // most)]


def on_device(recording: ReadoutData, device: torch.device) -> ReadoutData:
    """Move all but clips to the device; what is small in float32."""

    def there(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.to(device, torch.float32)

    inputs = recording.inputs
    if recording.frames is None:
        inputs = inputs.to(device) if isinstance(inputs, Tensor) else [feature_map.to(device) for feature_map in inputs]
    return replace(
        recording,
        inputs=inputs,
        responses={key: cast(Tensor, there(values)) for key, values in recording.responses.items()},
        train=recording.train.to(device),
        select=recording.select.to(device),
        behaviour=there(recording.behaviour),
        pupil=there(recording.pupil),
    )
