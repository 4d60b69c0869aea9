"""A small convolutional core that is trained together with its readouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.blocks import check_images, run_blocks
from models.objectives.regularizers import laplacian_smoothness

LARGE = 48
"""Images with a side above this many pixels are halved after the first convolution."""


class Layer(nn.Module):
    """Convolution with as many outputs as inputs -> (mean of 2 x 2) -> batch norm -> ELU.

    Convolution and averaging together are one convolution of stride 2 whose kernel is the mean of the four
    shifted copies of the original: the same numbers for a third of the work, and what is done here.
    """

    def __init__(self, inputs: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor, halve: bool = False) -> Tensor:
        """Maps (stimuli, inputs, h, w) -> (stimuli, channels, h, w), or h // 2 and w // 2 where halved."""
        filtered = self.halved(maps) if halve else self.conv(maps)
        return F.elu(self.norm(filtered))

    def halved(self, maps: Tensor) -> Tensor:
        """mean_{2 x 2}(conv(maps)), in one convolution. An odd last row or column of outputs is dropped."""
        weight = self.conv.weight
        shifted = [F.pad(weight, [x, 1 - x, y, 1 - y]) for x in (0, 1) for y in (0, 1)]
        return F.conv2d(maps, torch.stack(shifted).mean(dim=0), None, stride=2, padding=self.conv.padding)


class ConvCore(nn.Module):
    """`layers` layers of `channels` channels, kernels of `kernel` pixels, 3 after the first; depth = layer.

    Images enter as 4 (image - 0.5), so grey is zero and so is the padding. All maps have the image's size, or
    half of it where a side is above 48 px: cheap on a CPU, and no layer sees less detail than another.
    Kernels are Kaiming-uniform, drawn from `seed` alone. Raises ValueError for an even `kernel`.
    """

    smoothness: Tensor

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        kernel, channels = int(parameters["kernel"]), int(parameters["channels"])
        if kernel % 2 == 0:
            raise ValueError(f"kernel of the conv core must be odd, not {kernel}: an even one has no centre")
        self.register_buffer("smoothness", torch.tensor(float(parameters["smoothness"])), persistent=False)
        sizes = [(3, kernel)] + [(channels, 3)] * (int(parameters["layers"]) - 1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(Layer(inputs, channels, size) for inputs, size in sizes)

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested layers (see `models.backbones`)."""
        check_images(images)
        halve = max(images.shape[-2:]) > LARGE
        stages = [partial(layer, halve=halve and index == 0) for index, layer in enumerate(self.layers)]
        return run_blocks(stages, 4.0 * (images - 0.5), blocks)

    def regularizer(self) -> Tensor:
        """smoothness * laplacian_smoothness(first kernels), a scalar."""
        first = self.layers[0]
        assert isinstance(first, Layer)
        return self.smoothness * laplacian_smoothness(first.conv.weight)
