"""What an animal does besides looking: behaviour that is read beside the map, gaze that moves the readouts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.noise import Drawing

BIAS = 0.01
"""Every bias at the start of training."""

GAIN = 5.0 / 3.0
"""Of the Xavier-uniform start: what PyTorch recommends before a tanh."""


HIDDEN, KERNEL = 128, 5
"""Of the behaviour branch: width of its hidden layer, and frames that its convolution reads."""


class Standardized(nn.Module):
    """z-scores its input with stored statistics; what is missing becomes 0, which is the mean.

    Until `initialize` is called the statistics are 0 and 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def initialize(self, values: Tensor) -> int:
        """Set mean and standard deviation (ddof 0) of train values (..., channels) over what was observed.

        Returns how many entries are missing (NaN): they count as the mean from now on. A constant channel gets a
        deviation of 1, one that is missing throughout a mean of 0 besides: it carries nothing.
        """
        flat = values.reshape(-1, values.shape[-1]).double()
        mean = flat.nanmean(dim=0)
        deviation = (flat - mean).square().nanmean(dim=0).sqrt()
        varies = deviation > 1e-9 * mean.abs().clamp(min=1e-12)
        self.mean.copy_(mean.nan_to_num(nan=0.0))
        self.std.copy_(torch.where(varies, deviation, 1.0))
        return int(flat.isnan().sum())

    def forward(self, values: Tensor) -> Tensor:
        """(values - mean) / std over the last axis, NaN -> 0."""
        return ((values - self.mean) / self.std).nan_to_num(nan=0.0)


class Dropout(nn.Module, Drawing):
    """Sets entries to 0 with probability `rate` while training and divides the others by 1 - rate.

    As `nn.Dropout`, but with draws from its own `seed`: torch's global generator is left alone.
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate = rate
        self.generator = torch.Generator().manual_seed(seed)
        self.expect_noise(torch.rand)

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape -> the same shape."""
        if not self.training or self.rate == 0.0:
            return values
        stays = self.drawn(*values.shape) >= self.rate
        return values * stays.to(values) / (1.0 - self.rate)


class BehaviourBranch(nn.Module):
    """Features of behaviour (running speed, pupil size, ...) that readouts read beside those of the map.

        h(t) = tanh(W2 dropout(tanh(W1 z(t))))          z = behaviour, z-scored, 0 where missing
        out(t) = sum over s < KERNEL of C_s h(t - s)    zeros before the first frame

    Shapes channels -> HIDDEN -> out -> out. It is causal, shared by all units and all recordings, and takes no
    part of the map into account. Behaviour is z-scored within each of the `recordings`, whose units of speed or pupil
    size need not agree. Call `initialize` with the train behaviour of each first. Weights are Xavier-uniform
    (of the convolution Kaiming-uniform); they and the dropout are drawn from `seed` alone. Source: "Anatomically
    inspired digital twins" (NeurIPS 2025): 4-128-32, dropout 0.1 in its released code, k = 5.
    """

    def __init__(
        self,
        channels: int,
        out: int = 32,
        dropout: float = 0.1,
        *,
        seed: int,
        recordings: Sequence[str] = ("",),
    ) -> None:
        super().__init__()
        self.channels, self.out = channels, out
        self.recordings = tuple(recordings)
        self.statistics = nn.ModuleList(Standardized(channels) for _ in self.recordings)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            layers = [nn.Linear(channels, HIDDEN), nn.Tanh(), Dropout(dropout, seed), nn.Linear(HIDDEN, out)]
            self.mlp = nn.Sequential(*layers, nn.Tanh())
            self.time = nn.Conv1d(out, out, KERNEL)
            self.apply(_start)

    def standardized(self, recording: str = "") -> Standardized:
        """What z-scores the behaviour of a recording; a KeyError that lists the known ones otherwise."""
        if recording not in self.recordings:
            raise KeyError(f"unknown recording {recording!r}; known: {', '.join(self.recordings)}")
        return cast(Standardized, self.statistics[self.recordings.index(recording)])

    def initialize(self, behaviour: Tensor, recording: str = "") -> int:
        """Set a recording's statistics from its train behaviour (..., channels); returns how many are missing."""
        return self.standardized(recording).initialize(behaviour)

    def forward(self, behaviour: Tensor, recording: str = "") -> Tensor:
        """(items, frames, channels) -> (items, frames, out); pictures, (items, channels) -> (items, out).

        A picture is a clip of one frame: of the convolution only its newest tap takes part.
        """
        if behaviour.ndim == 2:
            return self(behaviour[:, None], recording)[:, 0]
        hidden = self.mlp(self.standardized(recording)(behaviour)).transpose(1, 2)
        return self.time(F.pad(hidden, [KERNEL - 1, 0])).transpose(1, 2)


class Shifter(nn.Module):
    """How far gaze moves the positions of all units: an MLP of the centre of the pupil, tanh after every layer.

        shift = tanh(W_L ... tanh(W_1 z))    z = pupil (x, y), z-scored, 0 where missing

    2 -> hidden -> ... -> 2 with `layers` layers, in half maps: within (-1, 1). One for each recording. Call
    `initialize` with the train positions first. Weights are Xavier-uniform, drawn from `seed` alone.
    Source: "Anatomically inspired digital twins" (NeurIPS 2025): 2-5-5-2; neuralpredictors, `MLPShifter`.
    """

    def __init__(self, seed: int, hidden: int = 5, layers: int = 3) -> None:
        super().__init__()
        self.standardized = Standardized(2)
        sizes = [2, *[hidden] * (layers - 1), 2]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            steps = [(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes)]
            self.mlp = nn.Sequential(*(part for step in steps for part in step))
            self.apply(_start)

    def initialize(self, pupil: Tensor) -> int:
        """Set the statistics of the input from train positions (..., 2); returns how many entries are missing."""
        return self.standardized.initialize(pupil)

    def forward(self, pupil: Tensor) -> Tensor:
        """Pupil (..., 2) -> shift (..., 2)."""
        return self.mlp(self.standardized(pupil))


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight, gain=GAIN)
        nn.init.constant_(module.bias, BIAS)
    elif isinstance(module, nn.Conv1d):
        nn.init.kaiming_uniform_(module.weight)
        assert module.bias is not None
        nn.init.constant_(module.bias, BIAS)
