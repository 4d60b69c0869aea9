"""The core of the Sensorium 2022 baseline: stacked, depth-separable convolutions, trained with its readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.blocks import check_images, run_blocks
from models.inputs.tensors import as_float
from models.objectives.regularizers import laplacian_smoothness

LARGE = 64
"""Images are averaged over 2 x 2 pixels until no side is above this many."""

LEVEL, CONTRAST = 0.5, 0.25
"""Mean and standard deviation of grey levels that are assumed until `initialize_input` is given the train images."""


class Stacked2dLayer(nn.Module):
    """Convolution -> batch norm -> ELU; `separable`: a 1 x 1, a k x k within each channel, and a 1 x 1 convolution.

    The padding keeps the size. The separable convolutions have biases, the full one, right before a norm, has none.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, separable: bool) -> None:
        super().__init__()
        pad = kernel // 2
        if separable:
            mix, merge = nn.Conv2d(inputs, channels, 1), nn.Conv2d(channels, channels, 1)
            self.conv: nn.Module = nn.Sequential(
                mix, nn.Conv2d(channels, channels, kernel, padding=pad, groups=channels), merge
            )
        else:
            self.conv = nn.Conv2d(inputs, channels, kernel, padding=pad, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, inputs, h, w) -> (stimuli, channels, h, w)."""
        return F.elu(self.norm(self.conv(maps)))


class Stacked2d(nn.Module):
    """`layers` layers of `channels` channels: full kernels of `kernel_first`, then separable ones of `kernel_then`.

    Images become grey (the mean of their colours), are averaged over 2 x 2 pixels until no side is above 64 (the
    baseline shows its 144 x 256 images as 36 x 64), and z-scored with the buffers `mean` and `std`, which
    `initialize_input` sets from the train images; before that they are 0.5 and 0.25. All maps have that size: the
    first layer is padded too, a choice of ours, where the baseline loses 8 pixels a side. Weights are
    Kaiming-uniform with biases 0, drawn from `seed` alone. 40,256 parameters with the defaults, as the baseline.
    Source: Sensorium 2022, `stacked_core_full_gauss_readout`.
    """

    mean: Tensor
    std: Tensor
    smoothness: Tensor

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        channels = int(parameters["channels"])
        kernels = int(parameters["kernel_first"]), int(parameters["kernel_then"])
        self.register_buffer("smoothness", torch.tensor(float(parameters["smoothness"])), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(
                Stacked2dLayer(channels if index else 1, channels, kernels[index > 0], index > 0)
                for index in range(int(parameters["layers"]))
            )
            self.apply(_start)
        self.register_buffer("mean", torch.tensor(LEVEL))
        self.register_buffer("std", torch.tensor(CONTRAST))

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested layers (see `models.backbones`)."""
        check_images(images)
        return run_blocks(list(self.layers), (grey_images(images) - self.mean) / self.std, blocks)

    @torch.no_grad()
    def initialize_input(self, *images: Tensor) -> None:
        """Set `mean` and `std` from train images (stimuli, 3, h, w), uint8 or in [0, 1]; flat ones keep std.

        Several tensors, such as the images of recordings of different sizes, are taken together.
        """
        for batch in images:
            check_images(batch)
        chunks = (chunk for batch in images for chunk in batch.split(256))
        greys = torch.cat([grey_images(as_float(chunk)).double().flatten() for chunk in chunks])
        deviation, mean = torch.std_mean(greys, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(deviation if deviation > 0 else torch.tensor(CONTRAST))

    def regularizer(self) -> Tensor:
        """smoothness * laplacian_smoothness(first kernels), a scalar."""
        first = cast(nn.Conv2d, cast(Stacked2dLayer, self.layers[0]).conv)
        return self.smoothness * laplacian_smoothness(first.weight)


def grey_images(images: Tensor) -> Tensor:
    """Mean of the colours, (stimuli, 1, h, w), averaged over 2 x 2 pixels until no side is above `LARGE`.

    An odd last row or column is dropped.
    """
    grey = images.mean(dim=1, keepdim=True)
    while max(grey.shape[-2:]) > LARGE:
        grey = F.avg_pool2d(grey, 2)
    return grey


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
