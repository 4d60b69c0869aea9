"""Where a network would look for a target: its features of the target as kernels over its features of the display."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log2
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FINEST_ATTENTION = 16
"""Pixels of the display to a pixel of the attention map, at least, to the nearest halving and whatever its scale."""

STAGES = 3
PROBED = 64
"""Side of the blank picture that tells how much each block shrinks its maps; three times that is tried at most."""

BINOMIAL = {1: (1.0,), 3: (0.25, 0.5, 0.25), 5: (0.0625, 0.25, 0.375, 0.25, 0.0625)}
"""Gaussian kernels that OpenCV uses where no width is given."""

Features = Callable[[Tensor], list[Tensor]]
"""Pictures (n, 3, h, w) in [0, 1] -> maps (n, channels, h', w') of some layers."""


@dataclass(frozen=True)
class Sharpening:
    """Difference of Gaussians, `rounds` times over: A <- A + G(centre) * A - G(surround) * A.

    A Gaussian is (size of the kernel, sigma), both in pixels of the attention map; sigma 0 stands for OpenCV's kernel
    of that size. Edges are mirrored about the outermost pixel.
    """

    centre: tuple[int, float]
    surround: tuple[int, float]
    rounds: int = 3


def search_blocks(network: Any) -> list[int]:
    """Blocks whose maps a search reads: the last of each of the last three stages no coarser than 1/16.

    A stage is a run of blocks whose maps have one size; `network` has forward_blocks. VGG16: 2, 3, 4 (conv blocks 3, 4
    and 5); EfficientNet-lite0: 2, 4, 10. Where every stage is coarser the first is read.
    Source: the three layers of Gupta et al. 2021; the rule that finds them in other networks is ours.
    """
    blank = torch.zeros(1, 3, PROBED, PROBED, device=device_of(network))
    sides = [map.shape[-1] for map in network.forward_blocks(blank, range(count_blocks(network, blank)))]
    ends = [index for index, side in enumerate(sides) if index + 1 == len(sides) or sides[index + 1] != side]
    fine = [index for index in ends if sides[index] * FINEST_ATTENTION >= PROBED]
    return fine[-STAGES:] or ends[:1]


def count_blocks(network: Any, pictures: Tensor) -> int:
    """How many blocks a network has: a block that does not exist is answered with a ValueError."""
    network.forward_blocks(pictures, [0])
    count = 1
    while True:
        try:
            network.forward_blocks(pictures, [count])
        except ValueError:
            return count
        count += 1


def device_of(network: Any) -> torch.device:
    """The device that a network's parameters or buffers lie on; the CPU where it has none."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@dataclass(frozen=True)
class Raster:
    """How attention maps lie over pictures: `pixel`, the side of one of their pixels in pixels of the picture.

    `drops`: the network does not see what lies beyond the last whole one, as those with patches; others round up.
    """

    pixel: int
    drops: bool

    @property
    def whole(self) -> int:
        """Sides of pictures must be multiples of this, so that all of them is seen."""
        return self.pixel if self.drops else 1


def attention_raster(network: Any, blocks: Sequence[int]) -> Raster | None:
    """Raster of the attention that is read of these blocks; None for a network whose maps are a single pixel.

    Found with blank pictures: the coarsest block's stride is how many pixels lie between two sides at which its map
    grows; where these sides are multiples of the stride the network drops what is left over. Attention is as coarse as
    that block, or as 1/16 of the picture where the block is finer (see `halvings`).
    """

    def length(side: int) -> int:
        blank = torch.zeros(1, 3, side, side, device=device_of(network))
        return min(map.shape[-1] for map in network.forward_blocks(blank, blocks))

    sides = range(PROBED, 3 * PROBED + 1)
    least = length(PROBED)
    if length(sides[-1]) < least + 2:
        return None
    first, second = (sides[bisect_left(sides, least + more, key=length)] for more in (1, 2))
    stride = second - first
    finer = max(0, round(log2(FINEST_ATTENTION / stride)))
    return Raster(stride * 2**finer, drops=stride > 1 and first % stride == 0)


@dataclass(frozen=True)
class Surround:
    """How pictures are shown: `ground` is put around them, up to sides that are `multiple` times a whole number."""

    multiple: int = 1
    ground: float = 0.0


BARE = Surround()
"""Nothing around pictures."""


class TargetAttention:
    """Attention maps for displays that are searched for the target that each of them has.

    A_l = search features of layer l, convolved ("same", no bias, no normalisation) with the target's as the kernel;
    A = sum_l w_l scaled(A_l) / sum_l w_l, w_l = max A_l, scaled to [0, 1]; then sharpened.
    Search features are averaged over 2 x 2 until a pixel is 16 of the display's (or as coarse as the coarsest layer),
    target features once more: the kernel is one stage more abstract than the map that it scans.
    Shapes: targets (kinds, 3, side, side) pictures in [0, 1], kind (displays,) which of them each display has.
    `combine`: max as above, or equal weights, the published choice for natural pictures. With a `surround` attention
    is cut back to the crop, in its pixels: for networks that see whole patches only (`Raster.whole`).
    Edge rule: a map that is constant says nothing (0 throughout); weights below 0, which no network with a ReLU last
    has, count as 0, and as equal where all are.
    Source: code of Gupta et al. 2021. The target's last pool there is eccentric, which is the plain one on a target
    that lies within the fovea. Layers whose sizes differ by rounding are averaged to the smallest: ours.
    """

    def __init__(
        self,
        features: Features,
        targets: Tensor,
        kind: Sequence[int],
        sharpening: Sharpening,
        combine: str = "max",
        surround: Surround = BARE,
    ) -> None:
        if combine not in ("max", "equal"):
            raise ValueError(f"combine must be max or equal; got {combine!r}")
        self.features, self.sharpening, self.combine = features, sharpening, combine
        self.surround = surround
        self.targets, self.kind = features(surrounded(targets, surround)), torch.as_tensor(kind)

    def __call__(self, crops: Tensor, rows: Tensor) -> Tensor:
        """Attention maps (n, h, w) of crops (n, 3, side, side) of the displays `rows`."""
        shown = surrounded(crops, self.surround)
        maps = self.features(shown)
        kinds = self.kind[rows.cpu()]
        scanned = []
        for map, target, times in zip(maps, self.targets, halvings(maps, shown.shape[-1]), strict=True):
            kernels = halved(target, times + 1)[kinds.to(target.device)]
            scanned.append(scan(halved(map, times), kernels))
        attention = sharpened(combined(scanned, self.combine == "max"), self.sharpening)
        return attention if shown is crops else cut_back(attention, shown.shape[-1], crops.shape[-1])


def surrounded(pictures: Tensor, surround: Surround) -> Tensor:
    """Put square pictures in the middle of the ground, the smaller half of it left and top."""
    missing = -pictures.shape[-1] % surround.multiple
    around = [missing // 2, missing - missing // 2] * 2
    return F.pad(pictures, around, value=surround.ground) if missing else pictures


def cut_back(maps: Tensor, shown: int, side: int) -> Tensor:
    """Maps (n, h, w) of pictures of `shown` pixels, for every pixel of the `side` in their middle."""
    large = F.interpolate(maps[:, None], (shown, shown), mode="area")[:, 0]
    inside = slice((shown - side) // 2, (shown - side) // 2 + side)
    return large[:, inside, inside]


def halvings(maps: Sequence[Tensor], side: int) -> list[int]:
    """How often each map is to be halved until all are as coarse as 1/16 of a picture, or as the coarsest."""
    shrunk = [torch.tensor(side / map.shape[-1]).log2() for map in maps]
    goal = max(torch.tensor(float(FINEST_ATTENTION)).log2(), *shrunk)
    return [int((goal - times).round()) for times in shrunk]


def halved(maps: Tensor, times: int) -> Tensor:
    """Means over 2 x 2, `times` over; odd sides are rounded up, what lies outside does not count."""
    for _ in range(times):
        maps = F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
    return maps


def scan(maps: Tensor, kernels: Tensor) -> Tensor:
    """Maps (n, channels, h, w), each correlated with its own kernel (n, channels, p, q) -> (n, h, w).

    "Same" padding with zeros; of an odd amount the smaller half goes left and top.
    """
    n = len(maps)
    around = [part for size in reversed(kernels.shape[-2:]) for part in ((size - 1) // 2, size // 2)]
    padded = F.pad(maps, around)
    return F.conv2d(padded.reshape(1, -1, *padded.shape[-2:]), kernels, groups=n)[0]


def combined(maps: Sequence[Tensor], by_maximum: bool) -> Tensor:
    """Weighted mean of maps (n, h, w), each scaled to [0, 1]; see `TargetAttention`."""
    shape = min((tuple(attention_map.shape[-2:]) for attention_map in maps), key=lambda sides: sides[0] * sides[1])
    same = [
        attention_map
        if attention_map.shape[-2:] == shape
        else F.interpolate(attention_map[None], shape, mode="area")[0]
        for attention_map in maps
    ]
    stacked = torch.stack(same)
    low, high = stacked.amin(dim=(-2, -1), keepdim=True), stacked.amax(dim=(-2, -1), keepdim=True)
    spread = high - low
    scaled = torch.where(spread > 0, (stacked - low) / torch.where(spread > 0, spread, 1.0), 0.0)
    weights = high.clamp_min(0) if by_maximum else torch.ones_like(high)
    weights = torch.where(weights.sum(dim=0, keepdim=True) > 0, weights, 1.0)
    return (weights * scaled).sum(dim=0) / weights.sum(dim=0)


def sharpened(maps: Tensor, by: Sharpening) -> Tensor:
    """Maps (n, h, w) after all rounds of the difference of Gaussians; ValueError for maps smaller than its kernels."""
    if min(maps.shape[-2:]) <= by.surround[0] // 2:
        raise ValueError(
            f"an attention map of {tuple(maps.shape[-2:])} pixels is too small for a kernel of {by.surround[0]}: "
            "show larger displays"
        )
    for _ in range(by.rounds):
        maps = maps + blurred(maps, *by.centre) - blurred(maps, *by.surround)
    return maps


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """A Gaussian of `size` (odd) places that adds up to 1; sigma 0 gives OpenCV's binomial kernel of 1, 3 or 5."""
    if size % 2 == 0 or (sigma == 0 and size not in BINOMIAL):
        raise ValueError(f"a Gaussian kernel has an odd size, and 1, 3 or 5 for sigma 0; got {size}, sigma {sigma}")
    if sigma == 0:
        return torch.tensor(BINOMIAL[size])
    place = torch.arange(size, dtype=torch.float32) - size // 2
    weights = torch.exp(-(place**2) / (2 * sigma**2))
    return weights / weights.sum()


def blurred(maps: Tensor, size: int, sigma: float) -> Tensor:
    """Maps (n, h, w) convolved with a Gaussian, edges mirrored about the outermost pixel."""
    kernel = gaussian_kernel(size, sigma).to(maps)
    padded = F.pad(maps[:, None], [size // 2] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]
