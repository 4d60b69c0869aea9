"""The Gaussian readout: every unit looks at one learned position of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START_SPREAD = 0.1
"""Standard deviation of a position at the start of training, in half maps."""


class GaussianReadout(nn.Module):
    """Responses of `units` units, each from the features at one position of a map with `channels` channels.

        position = mean + spread * eps in training (eps ~ N(0, 1), fresh for every stimulus), else mean
        drive = weights . map(position) + bias
        response = scale * (ELU(drive) + 1)

    position is (x, y), held within [-1, 1]^2; -1 and 1 are the centres of the outermost pixels (bilinear,
    `align_corners=True`). The spread, one value per axis, is learned too; its noise lets the gradient feel the
    surroundings, and it shrinks as the place is found. With `rate=False` the response is scale * drive, which
    may be negative. `scale` is set by `initialize` and not learned. Maps larger than `pool` are averaged to
    `pool` a side first. Weights and the noise are drawn from `seed` alone. Source: Lurz et al. 2021 (ICLR);
    neuralpredictors, FullGaussian2d with `gauss_type="uncorrelated"`.
    """

    scale: Tensor
    units: int

    def __init__(self, channels: int, units: int, seed: int, rate: bool = True, pool: int | None = None) -> None:
        super().__init__()
        self.units, self.rate, self.pool = units, rate, pool
        self.generator = torch.Generator().manual_seed(seed)
        self.mean = nn.Parameter(torch.rand(units, 2, generator=self.generator) * 0.2 - 0.1)
        self.spread = nn.Parameter(torch.full((units, 2), START_SPREAD))
        start = torch.randn(units, channels, generator=self.generator) * 0.1 / channels**0.5
        self.weights = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(units))
        self.register_buffer("scale", torch.ones(units))

    def forward(self, maps: Tensor, noise: Tensor | None = None) -> Tensor:
        """Maps (stimuli, channels, h, w) -> responses (stimuli, units).

        `noise` (stimuli, units, 2) takes the place of the module's own draws while training.
        """
        maps = shrink(maps, self.pool) if self.pool else maps
        features = sample(maps, self.positions(len(maps), noise))
        drive = torch.einsum("ncu,uc->nu", features, self.weights) + self.bias
        return self.scale * (F.elu(drive) + 1.0 if self.rate else drive)

    def positions(self, stimuli: int, noise: Tensor | None = None) -> Tensor:
        """Where each unit looks in each stimulus ([stimuli,] units, 2): see the class."""
        mean = self.mean.clamp(-1.0, 1.0)
        if not self.training:
            return mean
        if noise is None:
            noise = torch.randn(stimuli, *self.mean.shape, generator=self.generator)
        return (self.mean + self.spread * noise.to(self.mean)).clamp(-1.0, 1.0)

    @torch.no_grad()
    def initialize(self, mean_response: Tensor, scale: Tensor | None = None) -> None:
        """Set the bias so that a unit without drive answers its mean response; both arguments (units,).

        bias = ELU^{-1}(mean / scale - 1); a mean below 0.001 scales counts as that much. Without `scale` the
        present one is kept.
        """
        if scale is not None:
            self.scale.copy_(scale)
        level = mean_response.to(self.scale) / self.scale
        if self.rate:
            level = torch.where(level >= 1.0, level - 1.0, level.clamp(min=1e-3).log())
        self.bias.copy_(level)

    @torch.no_grad()
    def absorb(self, centre: Tensor, spread: Tensor) -> None:
        """Make a readout fitted on (maps - centre) / spread read the maps themselves; both (channels,).

        Exact, because the weights of bilinear sampling add up to one everywhere inside [-1, 1]^2.
        """
        self.weights.div_(spread)
        self.bias.sub_(self.weights @ centre)


def sample(maps: Tensor, positions: Tensor) -> Tensor:
    """Features (stimuli, channels, units) of maps at positions (units, 2), or one set for each stimulus."""
    positions = positions.expand(len(maps), -1, -1)
    return F.grid_sample(maps, positions[:, :, None], mode="bilinear", align_corners=True)[..., 0]


def shrink(maps: Tensor, size: int) -> Tensor:
    """Average maps (stimuli, channels, h, w) to at most `size` rows and columns; never enlarge them."""
    high, wide = min(size, maps.shape[-2]), min(size, maps.shape[-1])
    if (high, wide) == tuple(maps.shape[-2:]):
        return maps
    return F.adaptive_avg_pool2d(maps, (high, wide))
