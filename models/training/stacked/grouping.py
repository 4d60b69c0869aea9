"""What twins must have in common to be one stack."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from models.readouts.protocol import Readout
from models.readouts.sampling import as_list
from models.training.data import ReadoutData
from models.training.stacked.member import Member
from models.twin import Twin, blocks_of

FREE = ("loss", "learning_rate", "weight_decay", "epochs", "patience", "warmup", "decays")
"""Parameters in which twins of one stack may differ, besides the weights of penalties that all of them have."""


def structure(member: Member) -> Hashable:
    """Describe what twins of one stack share: the same parts, shapes and batches; hashable.

    Free are the seed, what `FREE` names, the weights of penalties (none of a kind and some of it are not alike), and
    of pictures the blocks that are read, as far as their maps have one shape.
    """
    twin, settings = member.twin, member.settings
    parts = tuple((name, type(part).__name__) for name, part in twin.named_modules())
    tensors = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in _tensors(twin))
    recordings = tuple(_data(recording) for recording in member.recordings)
    readouts = tuple(_readout(twin.readout(key)) for key in twin.keys)
    clips = any(recording.frames is not None for recording in member.recordings)
    depths = tuple(twin.depths[key] if clips else len(blocks_of(twin.depths[key])) for key in twin.keys if twin.depths)
    shown = settings.batch, settings.together, settings.frames, settings.balance
    return parts, tensors, recordings, readouts, depths, *shown


def free(parameters: Mapping[str, Any], penalties: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Leave out the parameters of a component that are free; of a penalty's weight only whether it is zero counts."""
    fixed = {name: value for name, value in parameters.items() if name not in FREE}
    return tuple(sorted((name, bool(value) if name in penalties else value) for name, value in fixed.items()))


def _tensors(twin: Twin) -> list[tuple[str, Any]]:
    return [*twin.named_parameters(), *twin.named_buffers()]


def _readout(readout: Readout) -> Hashable:
    return tuple(readout.shapes), readout.outputs, free(readout.given, readout.penalties)


def _data(recording: ReadoutData) -> Hashable:
    fields = [*as_list(recording.inputs), *recording.responses.values(), recording.behaviour, recording.pupil]
    return tuple(None if field is None else (tuple(field.shape), field.dtype) for field in fields)
