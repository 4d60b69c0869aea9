"""A core for clips whose convolutions are factorised into space and time, trained together with its readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.cores.channels import SHARED, factorised_depths, parse_channels
from models.inputs.tensors import check_clips, clip_statistics
from models.objectives.regularizers import laplacian_smoothness

BIAS = 0.01
"""Every convolution's bias at the start of training."""

LEVEL, CONTRAST = 0.5, 0.25
"""Mean and standard deviation of grey levels that are assumed until `initialize_input` is given the train clips."""


class Factorised3dBlock(nn.Module):
    """Convolution over space -> batch norm -> convolution over time -> batch norm -> ELU.

    Padded: maps keep their size, and a frame sees itself and earlier ones only, with zeros before the first. Not
    padded: kernel - 1 frames, rows and columns are lost; output frame t then ends with input frame
    t + kernel - 1, so it is causal as well once both are aligned at their ends. Both convolutions are done in
    two dimensions, (row, column) for every frame and (frame, pixel) for every clip: the numbers of 3-D
    convolutions of (1, k, k) and (k, 1, 1), 2.5 times faster on a CPU.
    """

    def __init__(
        self, inputs: int, outputs: int, kernels: tuple[int, int], padded: bool, middle_norm: bool, momentum: float
    ) -> None:
        super().__init__()
        size, length = kernels
        self.before = length - 1 if padded else 0
        self.lost = (0, 0) if padded else (length - 1, size - 1)
        self.space = nn.Conv2d(inputs, outputs, size, padding=size // 2 if padded else 0)
        self.middle = nn.BatchNorm2d(outputs, momentum=momentum) if middle_norm else nn.Identity()
        self.time = nn.Conv2d(outputs, outputs, (length, 1))
        self.norm = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (clips, inputs, frames, h, w) -> (clips, outputs, frames', h', w')."""
        frames = maps.transpose(1, 2)
        spatial = self.middle(self.space(frames.flatten(0, 1))).unflatten(0, frames.shape[:2]).transpose(1, 2)
        padded = F.pad(spatial.flatten(3), [0, 0, self.before, 0])
        return F.elu(self.norm(self.time(padded))).unflatten(3, spatial.shape[3:])


class Factorised3d(nn.Module):
    """Factorised 3-D convolutions, one block per number of `channels`; depth = block.

    Clips become grey (the mean of their three colours) and are z-scored with the buffers `mean` and `std`, which
    `initialize_input` sets from the train clips; before that they are 0.5 and 0.25, so that grey is zero. Kernels
    have `spatial_first` pixels and `temporal_first` frames in the first block, `spatial_then` and `temporal_then`
    after it; stride 1, no pooling. `padding` is `causal` or `none`, see `Factorised3dBlock`. `middle_norm` is the
    batch norm between the two convolutions, `momentum` that of both. Kernels are Kaiming-uniform, drawn from
    `seed` alone, biases start at 0.01.

    With `two_streams` the chain forks after its sixth block and the blocks after it are there twice. Depths 0 to
    L - 1 are the first stream, and those of the second are appended: with eight blocks, depths 6 and 7 are blocks
    7 and 8 of the first stream, depths 8 and 9 blocks 7' and 8' of the second, which starts from depth 5.

    Source: "Anatomically inspired digital twins" (NeurIPS 2025), which pads and whose core with two streams reads
    LM from depth 6, RL from depth 8 and AL from depth 9 (`sweeps.experiment.depths.ANATOMY`); Schmidt et al. (arXiv
    2410.16136) do not pad, with momentum 0.7.
    """

    mean: Tensor
    std: Tensor
    smoothness: Tensor
    temporal_smoothness: Tensor

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        channels = parse_channels(parameters["channels"])
        self.trunk, self.depths = len(channels), factorised_depths(parameters)
        for penalty in ("smoothness", "temporal_smoothness"):
            self.register_buffer(penalty, torch.tensor(float(parameters[penalty])), persistent=False)
        self.channels = (*channels, *channels[SHARED:]) if parameters["two_streams"] else channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.blocks = nn.ModuleList(self._block(depth, parameters) for depth in range(self.depths))
            self.apply(_start)
        self.register_buffer("mean", torch.tensor(LEVEL))
        self.register_buffer("std", torch.tensor(CONTRAST))

    def _block(self, depth: int, parameters: Mapping[str, Any]) -> Factorised3dBlock:
        inputs = self.channels[self.parent(depth)] if depth else 1
        kind = "then" if depth else "first"
        kernels = int(parameters[f"spatial_{kind}"]), int(parameters[f"temporal_{kind}"])
        padded, momentum = parameters["padding"] == "causal", float(parameters["momentum"])
        return Factorised3dBlock(
            inputs, self.channels[depth], kernels, padded, bool(parameters["middle_norm"]), momentum
        )

    def parent(self, depth: int) -> int:
        """The block whose maps `depth` reads; -1 is the clip."""
        return SHARED - 1 if depth == self.trunk else depth - 1

    def chain(self, depth: int) -> list[int]:
        """The blocks from the clip to `depth`, in order; a ValueError for a block that does not exist."""
        if not 0 <= depth < self.depths:
            raise ValueError(f"block {depth} does not exist: blocks are 0 to {self.depths - 1}")
        chain = [depth]
        while self.parent(chain[0]) >= 0:
            chain.insert(0, self.parent(chain[0]))
        return chain

    def lost(self, depth: int) -> tuple[int, int]:
        """Frames, and pixels a side, by which the maps of `depth` are smaller than the clip; 0 where padded."""
        margins = [cast(Factorised3dBlock, self.blocks[index]).lost for index in self.chain(depth)]
        return sum(frames for frames, _ in margins), sum(pixels for _, pixels in margins)

    def forward_blocks(self, clips: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps (clips, channels, frames', h', w') of the requested blocks (see `models.backbones`).

        clips (clips, 3, frames, h, w) in [0, 1]. Without padding, raises ValueError for clips that are too short
        or too small for a requested block.
        """
        check_clips(clips)
        needed = sorted({index for block in blocks for index in self.chain(block)})
        for block in blocks:
            self._check_size(clips, block)
        maps = {-1: (clips.mean(dim=1, keepdim=True) - self.mean) / self.std}
        for index in needed:
            maps[index] = self.blocks[index](maps[self.parent(index)])
            if index - 1 not in (*blocks, SHARED - 1):  # nobody reads it again
                maps.pop(index - 1, None)
        return [maps[block] for block in blocks]

    def _check_size(self, clips: Tensor, block: int) -> None:
        frames, pixels = self.lost(block)
        have = tuple(clips.shape[2:])
        if have[0] <= frames or min(have[1:]) <= pixels:
            raise ValueError(
                f"block {block} without padding loses {frames} frames and {pixels} pixels a side: clips must be "
                f"longer and larger than that, not (frames, height, width) = {have}"
            )

    @torch.no_grad()
    def initialize_input(self, *clips: Tensor) -> None:
        """Set `mean` and `std` from train clips (clips, 3, frames, h, w), uint8 or in [0, 1]; flat ones keep std.

        Several tensors, such as the clips of several recordings, are taken together.
        """
        mean, deviation = clip_statistics(*clips)
        self.mean.fill_(mean)
        self.std.fill_(deviation if deviation > 0 else CONTRAST)

    def regularizer(self) -> Tensor:
        """smoothness * roughness in space + temporal_smoothness * roughness in time, of the first block's kernels.

        Both are normalised: |second difference of w|^2 / |w|^2, summed over all kernels, with zeros around them.
        Source: `LaplaceL2norm` and `DepthLaplaceL21d` of neuralpredictors; the latter's stencil (-1, 4, -1) is
        no second difference, (1, -2, 1) is used here. Their weights (10 and 0.01) are for a loss that is a sum.
        """
        first = cast(Factorised3dBlock, self.blocks[0])
        space = self.smoothness * laplacian_smoothness(first.space.weight)
        return space + self.temporal_smoothness * temporal_roughness(first.time.weight.flatten(2))


def temporal_roughness(kernels: Tensor) -> Tensor:
    """|d2 w|^2 / |w|^2 for kernels (filters, channels, frames), both sums over everything; a scalar up to 16.

    d2 w(t) = w(t - 1) - 2 w(t) + w(t + 1), with zeros before the first and after the last frame. Kernels that are
    zero throughout give 0.
    """
    curve = F.pad(kernels, [1, 1]).diff(n=2, dim=2)
    return curve.square().sum() / kernels.square().sum().clamp(min=1e-12)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight)
        assert module.bias is not None
        nn.init.constant_(module.bias, BIAS)
