"""Pooling windows that grow with the distance from fixation, and networks with such pooling in place of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.backbones.eccentricity import PLAIN, SLOPES, Regions, eccentric_windows, wrapped
from models.backbones.vgg16 import Pool, Vgg16

PROBED = 64
"""Side of the blank image that tells where a network shrinks its maps."""


class Eccentricity(nn.Module):
    """What the pooling of layer `layer` (1 to 5) has in common for strides 2 and 1: its windows, and their kind.

    `scale` multiplies the published slopes; `fovea` and `ring` in degrees; `kind` is average or max.
    """

    def __init__(
        self,
        layer: int,
        pixels_per_degree: float = 30.0,
        scale: float = 1.0,
        fovea: float = 4.0,
        ring: float = 1.0,
        kind: str = "average",
    ) -> None:
        super().__init__()
        self.layer, self.pixels_per_degree, self.kind = layer, pixels_per_degree, kind
        self.scale, self.fovea, self.ring = scale, fovea, ring

    def regions(self, side: int) -> Regions:
        """Regions of a square input map of `side` pixels at this layer."""
        display = side * 2 ** (self.layer - 1)
        return eccentric_windows(display, self.layer, self.pixels_per_degree, self.scale, self.fovea, self.ring)

    @property
    def plain(self) -> bool:
        """Whether every window is the plain one, whatever the size."""
        return self.scale * SLOPES[self.layer - 1] == 0

    def pool(self, maps: Tensor, stride: int, windows: Tensor) -> Tensor:
        """Means or maxima over windows (h', w') whose sizes differ by place; see `window_means`."""
        return (window_means if self.kind == "average" else window_maxima)(maps, stride, windows)


class EccentricPool(Eccentricity):
    """Pooling of stride 2 whose windows grow with the distance from the map's centre.

    output = sum_k mask_k * pool_{w_k, stride 2}(x): region k and its window w_k as `eccentric_windows` gives them,
    "same" padding (sides are rounded up), which does not count in a mean. A pixel belongs to region k where the
    distance of its centre from the map's is above the outer radius of region k - 1 and not above that of k.
    Edge rule: maps that are not square are padded with zeros to square ones, the smaller half left and top, and stay
    square. Without slopes it is the plain pooling with windows of 2, and pads nothing.
    Source: code of Gupta et al. 2021; where in the square an oblong map lies, and which region a pixel on the border
    belongs to, are choices of ours.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, side, side) -> (stimuli, channels, ceil(side / 2), ceil(side / 2))."""
        if self.plain:
            plain: Tensor = Pool(self.kind)(maps)
            return plain
        maps = squared(maps)
        side = maps.shape[-1]
        return self.pool(maps, 2, window_sizes(self.regions(side), distances((side + 1) // 2, (side + 1) // 2, maps)))


class EccentricSmoothing(Eccentricity):
    """Pooling of stride 1 before a convolution of stride 2, the stand-in for `EccentricPool` in networks without pools.

    Windows are those of the pool less one: 1, which changes nothing, in the fovea, where the strided convolution does
    what is done at all, and growing outward by the same amount. A pixel at distance d belongs to the region of d / 2.
    The map keeps its shape; a map that is not square is not padded. Ours: the published network has pools.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (stimuli, channels, h, w) of the same shape."""
        if self.plain:
            return maps
        high, wide = maps.shape[-2:]
        regions = self.regions(max(high, wide))
        return self.pool(maps, 1, window_sizes(regions, distances(high, wide, maps) / 2) - (PLAIN - 1))


def distances(high: int, wide: int, like: Tensor) -> Tensor:
    """Distance of every pixel's centre from the centre of a map (high, wide), in pixels."""
    y, x = (torch.arange(length, device=like.device) - (length - 1) / 2 for length in (high, wide))
    return torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2)


def window_sizes(regions: Regions, distance: Tensor) -> Tensor:
    """Window of every pixel (h, w), by its distance from the centre."""
    radii = torch.tensor(regions.radii, device=distance.device)
    windows = torch.tensor(regions.windows, device=distance.device)
    return windows[torch.searchsorted(radii, distance.contiguous())]


def squared(maps: Tensor) -> Tensor:
    """Maps padded with zeros to a square, the smaller half left and top."""
    side = max(maps.shape[-2:])
    down, across = (side - length for length in maps.shape[-2:])
    return F.pad(maps, [across // 2, across - across // 2, down // 2, down - down // 2]) if down or across else maps


def window_means(maps: Tensor, stride: int, windows: Tensor) -> Tensor:
    """Mean over a window of its own size for every output pixel, from one table of sums.

    S[y, x] = sum of rows above y and columns left of x; mean = (S[y1, x1] - S[y0, x1] - S[y1, x0] + S[y0, x0]) / area.
    A window of size w starts at stride i - floor(p / 2), where p = max((outputs - 1) stride + w - length, 0) is the
    padding that "same" asks for; what lies outside the map counts neither in the sum nor in the area.
    Shapes: maps (stimuli, channels, h, w), windows (ceil(h / stride), ceil(w / stride)) whole numbers from 1.
    Summed in float64, so that differences of large sums are right to float32.
    """
    high, wide = maps.shape[-2:]
    top, bottom = _edges(windows, stride, high, 0)
    left, right = _edges(windows, stride, wide, 1)
    sums = F.pad(maps.contiguous().double().cumsum(-1).cumsum(-2), [1, 0, 1, 0]).flatten(-2)

    def at(y: Tensor, x: Tensor) -> Tensor:
        return sums.index_select(-1, (y * (wide + 1) + x).flatten())

    total = at(bottom, right).sub_(at(top, right)).sub_(at(bottom, left)).add_(at(top, left))
    means = total / ((bottom - top) * (right - left)).flatten()
    return means.to(maps.dtype).unflatten(-1, tuple(windows.shape))


def _edges(windows: Tensor, stride: int, length: int, axis: int) -> tuple[Tensor, Tensor]:
    """First and one past the last row (axis 0) or column (axis 1) of every window, cut to the map."""
    count = windows.shape[axis]
    place = torch.arange(count, device=windows.device) * stride
    start = (place[:, None] if axis == 0 else place[None, :]) - _padding(windows, stride, length, count) // 2
    return start.clamp(0, length), (start + windows).clamp(0, length)


def _padding(windows: Any, stride: int, length: int, count: int) -> Any:
    return ((count - 1) * stride + windows - length) * ((count - 1) * stride + windows > length)


def window_maxima(maps: Tensor, stride: int, windows: Tensor) -> Tensor:
    """The largest value in a window of its own size for every output pixel; windows lie as in `window_means`."""
    averages = maps.new_zeros(*maps.shape[:-2], *windows.shape)
    for size in windows.unique().tolist():
        pads = []
        for length, count in zip(reversed(maps.shape[-2:]), reversed(windows.shape), strict=True):
            both = _padding(size, stride, length, count)
            pads += [both // 2, both - both // 2]
        pooled = F.max_pool2d(F.pad(maps, pads, value=float("-inf")), size, stride)
        averages = torch.where(windows == size, pooled[..., : windows.shape[0], : windows.shape[1]], averages)
    return averages


class Eccentric(nn.Module):
    """A frozen network whose pooling grows with the distance from the image's centre, where it is taken to look.

    `base` vgg16: `EccentricPool` l in place of pool l (the fifth pool comes after the last map). EfficientNets have no
    pools: their l-th halving of the map, the stem's being the first, is a block with a strided convolution, and
    `EccentricSmoothing` l goes before it. `slopes_scale` 0 is the base itself. `weights` and `pooling` are the base's
    own; for EfficientNets `pooling` is the smoothing's. `pixels_per_degree` are those of the images shown.
    VGG16 with average pooling, scale 1 and 30 pixels per degree is the network of Gupta et al. 2021, given its weights,
    which are not shipped, and `preprocessing` as they need it; the others are ours.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        names = {"pixels_per_degree": "pixels_per_degree", "scale": "slopes_scale", "fovea": "fovea", "ring": "ring"}
        settings = {name: float(parameters[key]) for name, key in names.items()}
        kind = str(parameters["pooling"])
        self.pixels_per_degree = settings["pixels_per_degree"]
        self.base = BACKBONES[parameters["base"]].load()(wrapped(parameters), seed)
        if isinstance(self.base, Vgg16):
            pools = [EccentricPool(layer, **settings, kind=kind) for layer in range(1, len(self.base.blocks))]
            self.base.pools = nn.ModuleList(pools)
        else:
            for layer, index in enumerate(shrinking_blocks(self.base), start=2):
                smoothing = EccentricSmoothing(layer, **settings, kind=kind)
                self.base.blocks[index] = nn.Sequential(smoothing, self.base.blocks[index])
        self.requires_grad_(False).eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`), as the base has them."""
        maps: list[Tensor] = self.base.forward_blocks(images, blocks)
        return maps


def shrinking_blocks(network: Any) -> list[int]:
    """Blocks of a chain whose map has a shorter side than that of the block before."""
    with torch.no_grad():
        maps = network.forward_blocks(torch.zeros(1, 3, PROBED, PROBED), range(len(network.blocks)))
    sides = [value.shape[-1] for value in maps]
    return [index + 1 for index, (before, after) in enumerate(pairwise(sides)) if after < before]
