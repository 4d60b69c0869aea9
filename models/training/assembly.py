"""Putting a twin together: a core, a readout of each area of each recording, and what behaviour adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.modulators import BehaviourBranch, Shifter
from models.readouts import READOUTS
from models.readouts.sampling import as_list
from models.training.data import ReadoutData
from models.twin import Depth, Twin, map_shapes

CALM = 0.1
"""Shifters as they are drawn move positions by half a map at random, which hides the places that were searched."""


@dataclass(frozen=True)
class ReadoutPlan:
    """The readouts of a twin: `name` and `parameters` of `READOUTS[name]`; depths, and units' coordinates, by key."""

    name: str
    parameters: Mapping[str, Any]
    depths: Mapping[str, Depth]
    coordinates: Mapping[str, Tensor] = field(default_factory=dict)


def assemble(
    core: nn.Module,
    plan: ReadoutPlan,
    data: Mapping[str, ReadoutData],
    seed: int,
    behaviour: bool = False,
    gaze: bool = False,
) -> Twin:
    """Make a twin of all recordings, to be fitted: a readout for every key of every recording's responses.

    With `behaviour` one `BehaviourBranch` feeds all readouts, with `gaze` every recording has a `Shifter`; a recording
    that lacks either has the mean throughout. Raises ValueError where no recording has what is requested, or where
    recordings differ in the number of behaviour channels. Everything is drawn from `seed`, recordings' shifters from
    seed + 1, seed + 2, ...
    """
    branch = _branch(data, seed) if behaviour else None
    if gaze and all(recording.pupil is None for recording in data.values()):
        raise ValueError("gaze is asked for, but no recording has the pupil's position")
    shifters = {owner: _shifter(seed + number) for number, owner in enumerate(data, 1)} if gaze else {}
    beside, make = branch.out if branch else 0, READOUTS[plan.name].load()
    readouts = {}
    for recording in data.values():
        for key, values in recording.responses.items():
            shapes = map_shapes(core, as_list(recording.inputs)[0], plan.depths[key])
            coordinates = plan.coordinates.get(key)
            readouts[key] = make(shapes, values.shape[-1], plan.parameters, seed, beside, coordinates)
    owners = {key: owner for owner, recording in data.items() for key in recording.responses}
    return Twin(core, readouts, plan.depths, branch, shifters, owners)


def _shifter(seed: int) -> Shifter:
    """Make a shifter that begins near no shift: its last layer times CALM."""
    shifter = Shifter(seed)
    last = [part for part in shifter.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(CALM)
    return shifter


def _branch(data: Mapping[str, ReadoutData], seed: int) -> BehaviourBranch:
    widths = {name: own.behaviour.shape[-1] for name, own in data.items() if own.behaviour is not None}
    if not widths:
        raise ValueError("behaviour is asked for, but no recording has any")
    if len(set(widths.values())) != 1:
        raise ValueError(f"behaviour is asked for: recordings must have equally many channels, they have {widths}")
    return BehaviourBranch(next(iter(widths.values())), seed=seed, recordings=tuple(data))
