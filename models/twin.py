"""A digital twin: a core and, for every area of every recording, a readout at that area's depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from models.inputs.tensors import as_float
from models.modulators import BehaviourBranch, Shifter
from models.objectives.loss import Outcome
from models.readouts.protocol import Readout
from models.readouts.sampling import Maps, Shape, as_list

Depth = int | tuple[int, ...]
"""The block that is read, or several that are read together."""


class Core(Protocol):
    """What a twin and its fit need of a trained backbone, which is an `nn.Module` besides."""

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """See `models.backbones`."""
        ...

    def regularizer(self) -> Tensor:
        """Compute a scalar that is added to the loss."""
        ...


@dataclass(frozen=True)
class View:
    """What one readout is given: maps (rows, channels, h, w), shift (rows, 2), features beside (rows, k).

    Rows are stimuli, or with `frames` all frames of all clips, clip by clip: the last `frames` of each clip.
    """

    maps: list[Tensor]
    shift: Tensor | None
    beside: Tensor | None
    frames: int | None

    def unflattened(self, values: Tensor) -> Tensor:
        """Reshape values (rows, units) to (stimuli, units), or (clips, frames, units)."""
        return values if self.frames is None else values.unflatten(0, (-1, self.frames))

    def flattened(self, values: Tensor) -> Tensor:
        """Reshape values (stimuli, k), or the readout's frames of (clips, frames, k), to (rows, k)."""
        return values if self.frames is None else values[:, -self.frames :].flatten(0, 1)


class Twin(nn.Module):
    """`core` (see `models.backbones`, or None) and readouts by key, each reading `depths[key]`, a block or several.

    A key is any text, such as "recording/area". Without a core the readouts read what `forward` is given: the
    maps of a frozen backbone, all of them. `branch` makes the features that all readouts read beside the map, from
    behaviour; `shifters`, by recording, make the shift from the pupil. `recordings` tells the recording of each key,
    to shifters and branch. What is not given counts as missing throughout: mean behaviour, mean gaze. Raises ValueError
    where depths, or recordings with shifters, and readouts differ in keys.
    """

    def __init__(
        self,
        core: nn.Module | None,
        readouts: Mapping[str, Readout],
        depths: Mapping[str, Depth] | None = None,
        branch: BehaviourBranch | None = None,
        shifters: Mapping[str, Shifter] | None = None,
        recordings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.depths, self.recordings = dict(depths or {}), dict(recordings or {})
        if core is not None and set(self.depths) != set(readouts):
            raise ValueError(f"depths are given for {sorted(self.depths)}, readouts for {sorted(readouts)}")
        if shifters and {key for key, name in self.recordings.items() if name in shifters} != set(readouts):
            raise ValueError(f"every readout needs its recording's shifter; shifters are {sorted(shifters)}")
        self.core, self.branch = core, branch
        self.keys = tuple(readouts)
        self.readouts = nn.ModuleDict({_slot(key): readout for key, readout in readouts.items()})
        self.shifters = nn.ModuleDict({_slot(name, "shifter"): shifter for name, shifter in (shifters or {}).items()})

    def readout(self, key: str) -> Readout:
        """Return the readout called `key`; a KeyError that lists the known ones otherwise."""
        if key not in self.keys:
            raise KeyError(f"unknown readout {key!r}; known: {', '.join(self.keys)}")
        return cast(Readout, self.readouts[_slot(key)])

    def shifter(self, key: str) -> Shifter | None:
        """Return the shifter of the recording of a key, if there is one."""
        return cast(Shifter, self.shifters[_slot(self.recordings[key], "shifter")]) if self.shifters else None

    def forward(
        self, inputs: Maps, keys: Sequence[str], behaviour: Tensor | None = None, pupil: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Predict responses (stimuli, units) by key, or (clips, frames', units): those to the last frames' frames.

        inputs are images (stimuli, 3, h, w), clips (clips, 3, frames, h, w), both uint8 or in [0, 1], or without a
        core one map or several (stimuli, channels, h, w). behaviour (stimuli, k) or (clips, frames, k), pupil
        alike with two columns. frames' < frames for a core that does not pad. Every block is computed once, and
        none deeper than the deepest requested.
        """
        views = self.views(inputs, keys, behaviour, pupil)
        return {
            key: view.unflattened(self.readout(key)(view.maps, view.shift, view.beside)) for key, view in views.items()
        }

    def outcomes(self, views: Mapping[str, View]) -> dict[str, Outcome]:
        """Compute output parameters by key, each (rows, units)."""
        return {key: self.readout(key).outcome(view.maps, view.shift, view.beside) for key, view in views.items()}

    def views(
        self, inputs: Maps, keys: Sequence[str], behaviour: Tensor | None = None, pupil: Tensor | None = None
    ) -> dict[str, View]:
        """Compute the view of each of the readouts `keys`; arguments as in `forward`."""
        lead = _lead(as_list(inputs)[0])
        features: dict[str, Tensor] = {}
        views = {}
        for key, maps in self.maps(inputs, keys).items():
            shifter, owner = self.shifter(key), self.recordings.get(key, "")
            shift = None if shifter is None else shifter(_or_missing(pupil, lead, 2, inputs))
            if self.branch is not None and owner not in features:
                features[owner] = self.branch(_or_missing(behaviour, lead, self.branch.channels, inputs), owner)
            views[key] = _view(as_list(maps), shift, features.get(owner))
        return views

    def maps(self, inputs: Maps, keys: Sequence[str]) -> dict[str, Maps]:
        """Compute what each of the readouts `keys` reads: the core's map at its depth, or `inputs` without a core.

        A list of maps where several blocks are read together; maps of clips (clips, channels, frames', h', w').
        """
        for key in keys:
            self.readout(key)  # a KeyError that lists the known ones
        if self.core is None:
            return dict.fromkeys(keys, inputs)
        blocks = sorted({block for key in keys for block in blocks_of(self.depths[key])})
        assert isinstance(inputs, Tensor), "a core is shown one tensor"
        shown = inputs if inputs.is_floating_point() else as_float(inputs)
        maps = dict(zip(blocks, cast(Core, self.core).forward_blocks(shown, blocks), strict=True))
        return {key: _at(maps, self.depths[key]) for key in keys}

    def regularizer(self) -> Tensor | float:
        """Compute the core's regularization, which is added to the loss; nothing without a core."""
        return 0.0 if self.core is None else cast(Core, self.core).regularizer()


def blocks_of(depth: Depth) -> tuple[int, ...]:
    """List the blocks of a depth."""
    return (depth,) if isinstance(depth, int) else tuple(depth)


@torch.no_grad()
def map_shapes(core: nn.Module, inputs: Tensor, depth: Depth) -> list[Shape]:
    """Find the shapes (channels, h, w) of the maps of a depth, from the first of `inputs` (stimuli, ...)."""
    training, first = core.training, inputs[:1]
    core.eval()
    shown = first if first.is_floating_point() else as_float(first)
    maps = cast(Core, core).forward_blocks(shown, blocks_of(depth))
    core.train(training)
    return [(feature_map.shape[1], feature_map.shape[-2], feature_map.shape[-1]) for feature_map in maps]


def _at(maps: Mapping[int, Tensor], depth: Depth) -> Maps:
    return maps[depth] if isinstance(depth, int) else [maps[block] for block in depth]


def _lead(inputs: Tensor) -> tuple[int, ...]:
    """(stimuli,), or (clips, frames)."""
    return (len(inputs), inputs.shape[2]) if inputs.ndim == 5 else (len(inputs),)


def _or_missing(values: Tensor | None, lead: tuple[int, ...], width: int, inputs: Maps) -> Tensor:
    """The values, or NaN throughout."""
    return torch.full((*lead, width), torch.nan, device=as_list(inputs)[0].device) if values is None else values


def _view(maps: list[Tensor], shift: Tensor | None, beside: Tensor | None) -> View:
    """Maps of clips become rows: their last frames, as many as every map has."""
    if maps[0].ndim == 4:
        return View(maps, shift, beside, None)
    frames = min(feature_map.shape[2] for feature_map in maps)
    view = View([], None, None, frames)
    rows = [feature_map[:, :, -frames:].transpose(1, 2).flatten(0, 1) for feature_map in maps]
    shifts, features = (None if values is None else view.flattened(values) for values in (shift, beside))
    return View(rows, shifts, features, frames)


def _slot(key: str, kind: str = "readout") -> str:
    """A name for `key` that `nn.ModuleDict` accepts: without dots, and none of its own attributes."""
    return f"{kind} " + key.replace("%", "%25").replace(".", "%2E")
