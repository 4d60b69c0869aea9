"""What a twin with latent factors is fitted to, and how it is prepared for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from models.inputs.tensors import as_float
from models.latents.populations import ClipReadout, Population
from models.latents.twin import LatentTwin
from models.readouts.initial_positions import GRID, starting_positions
from models.readouts.sampling import shrink

SEARCHED = 2000
"""Starting positions are searched with at most this many frames of train and of select trials, evenly taken."""


@dataclass(frozen=True)
class LatentTraining:
    """AdamW's learning rate and decay, epochs at most, patience and plateau decays, warm-up, clips and frames a step.

    The defaults are those of the core `factorised3d`; with other cores or none, state them.
    """

    learning_rate: float = 0.005
    epochs: int = 200
    patience: int = 8
    decays: int = 4
    warmup: int = 10
    weight_decay: float = 0.01
    batch: int = 8
    frames: int = 80

    @classmethod
    def of(cls, core: Mapping[str, Any]) -> LatentTraining:
        """The training settings among the parameters of a core."""
        return cls(**{name: core[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class LatentData:
    """Single trials of one recording.

    `clips` (clips, 3, frames, h, w), uint8 or in [0, 1], or frozen features (clips, channels, frames, h, w);
    `responses` (trials, frames, units), NaN = not observed, not negative, also used as padding of shorter clips;
    `train`, `select` trial numbers; `depths` the block that each unit reads; `shown` the clip of every trial
    (None: trial i shows clip i), so that a clip that was repeated is held once.
    """

    clips: Tensor
    responses: Tensor
    train: Tensor
    select: Tensor
    depths: Sequence[int]
    coordinates: Tensor | None = None
    shown: Tensor | None = None

    def stimulus(self, trials: Tensor) -> Tensor:
        """The clips of some trials, as they are stored."""
        return self.clips[self.clip_of(trials)]

    def clip_of(self, trials: Tensor) -> Tensor:
        """The clip number of each of some trials."""
        return trials if self.shown is None else self.shown[trials]

    def crops(self, trials: Tensor, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clips in float32 and responses of some trials, cut to `frames` frames from a random one on."""
        room = self.responses.shape[1] - frames
        if room <= 0:
            return as_float(self.stimulus(trials)), self.responses[trials]
        starts = torch.randint(room + 1, (len(trials),), generator=generator)
        rows = [slice(start, start + frames) for start in starts.tolist()]
        clips = zip(self.clip_of(trials).tolist(), rows, strict=True)
        windows = zip(trials.tolist(), rows, strict=True)
        shown = torch.stack([self.clips[clip, :, part] for clip, part in clips])
        return as_float(shown), torch.stack([self.responses[trial, part] for trial, part in windows])


def check_latent_data(name: str, data: LatentData) -> None:
    """Raise ValueError for a recording that cannot be fitted, before work starts."""
    responses, shown = data.responses, len(data.clips) if data.shown is None else len(data.shown)
    expected = (shown, data.clips.shape[2], len(data.depths))
    train, problem = responses[data.train], ""
    if tuple(responses.shape) != expected:
        problem = f"responses are {tuple(responses.shape)}, expected (trials, frames, units) = {expected}"
    elif not len(data.train) or not len(data.select):
        problem = f"{len(data.train)} train and {len(data.select)} select trials: both need one at least"
    elif train.isnan().all():
        problem = "no response in the train trials"
    elif bool((responses < 0).any()):
        problem = f"{int((responses < 0).sum())} responses are negative, which neither likelihood allows"
    if problem:
        raise ValueError(f"recording {name!r}: {problem}")


@torch.no_grad()
def prepare(twin: LatentTwin, data: Mapping[str, LatentData]) -> None:
    """Input statistics of the core, and statistics, biases and starting positions of every population."""
    twin.eval()
    if twin.core is not None:
        shown = [recording.clips[recording.clip_of(recording.train).unique()] for recording in data.values()]
        cast(Any, twin.core).initialize_input(*shown)
    for key, recording in data.items():
        population = twin.population(key)
        population.initialize(recording.responses[recording.train].flatten(0, 1).to(population.scale))
        locate(twin, population, recording)


def locate(twin: LatentTwin, population: Population, data: LatentData) -> None:
    """Start the positions where `starting_positions` finds them; maps of one pixel have no positions to find."""
    parts = {name: _searched(twin, population, data, trials) for name, trials in _both(data).items()}
    cut = len(parts["train"][1])
    responses = torch.cat([parts[name][1] for name in parts])
    rows = torch.arange(len(responses)).split([cut, len(responses) - cut])
    for depth, members, readout in zip(population.depths, population.members, population.readouts, strict=True):
        maps = torch.cat([parts[name][0][depth] for name in parts])
        if max(maps.shape[2:]) > 1:
            cast(ClipReadout, readout).start(starting_positions(maps, responses[:, members], *rows))


def _both(data: LatentData) -> dict[str, Tensor]:
    return {"train": data.train, "select": data.select}


def _searched(
    twin: LatentTwin, population: Population, data: LatentData, trials: Tensor
) -> tuple[dict[int, Tensor], Tensor]:
    """Maps (frames, channels, h, w) by depth and responses (frames, units), of at most `SEARCHED` frames."""
    maps: dict[int, list[Tensor]] = {depth: [] for depth in population.depths}
    responses = []
    step = max(1, -(-len(trials) * data.responses.shape[1] // SEARCHED))
    for trial in trials[:, None]:
        trial_maps = twin.maps(data.stimulus(trial).to(population.scale.device), population)
        frames = min(value.shape[2] for value in trial_maps.values())
        for depth, value in trial_maps.items():
            last = value[0, :, value.shape[2] - frames :: step].transpose(0, 1)
            maps[depth].append(shrink(last, GRID))
        responses.append(data.responses[trial[0], data.responses.shape[1] - frames :: step])
    observed = torch.cat(responses).to(population.scale.device)
    return {depth: torch.cat(values) for depth, values in maps.items()}, observed
