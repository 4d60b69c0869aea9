"""VGG16's convolutions, read at any of its five blocks, for images of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from models.backbones.blocks import check_images, run_blocks

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Filters of the 13 convolutions (3 x 3, padding 1), block by block."""

TORCH_MEAN, TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Red, green, blue of images in [0, 1]: input = (image - mean) / deviation."""

KERAS_MEAN = (103.939, 116.779, 123.68)
"""Blue, green, red of images in [0, 255]: input = 255 image - mean, channels in this order."""


class Pool(nn.Module):
    """2 x 2 pooling of stride 2 that rounds odd sides up; what lies outside does not count."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, h, w) -> (stimuli, channels, ceil(h / 2), ceil(w / 2))."""
        if self.kind == "max":
            return F.max_pool2d(maps, 2, ceil_mode=True)
        return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


class Vgg16(nn.Module):
    """The 13 convolutions of VGG16 in five blocks; depth = block, whose map is taken before the block's pool.

    Blocks of 64, 128, 256, 512, 512 channels, at 1, 1/2, 1/4, 1/8, 1/16 of the image's side; 14,714,688 parameters.
    The fifth pool and the classifier are not there: no map comes after them. `weights`: `random` (Kaiming-normal from
    the seed alone, no bias), or the path of a safetensors file with torchvision's names `features.N.weight` and
    `features.N.bias`; others in it, such as `classifier.0.weight`, are not read. `preprocessing`: how images enter,
    `torch` as torchvision's weights expect them, `keras` (blue first, means subtracted) as those converted from Caffe.
    `pooling`: max, or average as in Gupta et al. 2021. Odd sides are rounded up; torchvision's own pools drop the rest.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.preprocessing = str(parameters["preprocessing"])
        sizes = [3, *(channels for block in CHANNELS for channels in block)]
        pairs = list(pairwise(sizes))
        convolutions = [skip_init(nn.Conv2d, inputs, outputs, 3, padding=1) for inputs, outputs in pairs]
        if parameters["weights"] == "random":
            fill_random(convolutions, seed)
        else:
            fill_from_file(convolutions, str(parameters["weights"]))
        rest = iter(convolutions)
        self.blocks = nn.ModuleList(nn.ModuleList(next(rest) for _ in block) for block in CHANNELS)
        self.pools = nn.ModuleList(Pool(str(parameters["pooling"])) for _ in CHANNELS[1:])
        self.requires_grad_(False).eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`); gradients flow to the images where they ask."""
        check_images(images)
        stages = [self._stage(index) for index in range(len(self.blocks))]
        return run_blocks(stages, preprocessed(images, self.preprocessing), blocks)

    def _stage(self, index: int) -> Callable[[Tensor], Tensor]:
        block = self.blocks[index]
        assert isinstance(block, nn.ModuleList)

        def stage(maps: Tensor) -> Tensor:
            maps = self.pools[index - 1](maps) if index else maps
            for convolution in block:
                maps = F.relu(convolution(maps), inplace=True)
            return maps

        return stage


def preprocessed(images: Tensor, kind: str) -> Tensor:
    """Images (stimuli, 3, h, w) in [0, 1], red first, as the network's weights expect them."""
    if kind == "keras":
        return 255.0 * images.flip(1) - images.new_tensor(KERAS_MEAN)[:, None, None]
    mean, deviation = (images.new_tensor(channels)[:, None, None] for channels in (TORCH_MEAN, TORCH_DEVIATION))
    return (images - mean) / deviation


def feature_names() -> list[str]:
    """torchvision's names of the 13 convolutions: numbers in a list where a ReLU follows each and a pool each block.

    >>> feature_names()[:3], feature_names()[-1]
    (['features.0', 'features.2', 'features.5'], 'features.28')
    """
    names, number = [], 0
    for block in CHANNELS:
        names += [f"features.{number + 2 * index}" for index in range(len(block))]
        number += 2 * len(block) + 1
    return names


def fill_random(convolutions: Sequence[nn.Conv2d], seed: int) -> None:
    """Kernels from N(0, 2 / inputs per filter), drawn from `seed`; biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for convolution in convolutions:
        spread = (2.0 / convolution.weight[0].numel()) ** 0.5
        convolution.weight.data.normal_(0.0, spread, generator=generator)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]


def fill_from_file(convolutions: Sequence[nn.Conv2d], path: str) -> None:
    """Kernels and biases from a safetensors file; ValueError for a tensor that is missing or has another shape."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            stored = set(file.keys())
            for name, convolution in zip(feature_names(), convolutions, strict=True):
                for part, target in (("weight", convolution.weight), ("bias", convolution.bias)):
                    key = f"{name}.{part}"
                    if key not in stored:
                        raise ValueError(f"{path}: expected a tensor {key} of shape {_shape(target)}; there is none")
                    _copy(file.get_tensor(key), target, f"{path}: {key}")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected a readable safetensors file; got {error}") from error


def _copy(source: Tensor, target: Any, name: str) -> None:
    if source.shape != target.shape:
        raise ValueError(f"{name}: expected shape {_shape(target)}; got {_shape(source)}")
    target.data.copy_(source)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape)
