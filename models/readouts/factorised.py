"""The factorised readout: every unit has a mask over the map's positions and a weight for every channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.objectives.regularizers import roughness
from models.readouts.protocol import LinearReadout
from models.readouts.sampling import moved, pooled, pooled_shape

START_WIDTH = 0.4
"""Standard deviation, in half maps, of the Gaussian bump that a mask is at the start of training."""

START_NOISE = 0.01
"""Standard deviation of what is added to every pixel of that bump, whose peak is 1."""


class FactorisedReadout(LinearReadout):
    """Responses of `units` units, each from all positions of the map, weighed alike in all channels.

        drive = sum over x, y of m(x, y) (w . map(x, y)) + v . beside + bias,   m = mask / |mask|
        response = scale * mean(link(drive)) + offset,  see `Readout`

    Masks have the size of the map, averaged to at most `pool` a side, one for each of several maps, and may be
    negative; their Euclidean norm is one, so the size of the drive is the weights' alone. A mask starts as a bump
    at the position that `place` is given (the centre), with noise from `seed`. Penalties: `l1` and `group` of the
    weights (`LinearReadout`); `mask_l1` times the mean over units of sum |m|, which makes masks small; `laplace`
    times `roughness`, the mean over units of |Laplacian * m|^2, which makes them smooth; both summed over maps.
    A shift moves the map under the mask. Raises ValueError for maps of another size than `shapes`.

    Source: Klindt et al. 2017 (NeurIPS), "what" and "where"; neuralpredictors, SpatialXFeatureLinear with
    `normalize=True`. The bump and the smoothness are choices of ours.
    """

    penalties: tuple[str, ...] = ("l1", "group", "mask_l1", "laplace")

    def build(self, seed: int, coordinates: Tensor | None) -> None:
        """See `Readout`."""
        self.sizes = [pooled_shape(shape, self.pool)[1:] for shape in self.shapes]
        self.masks = nn.ParameterList(torch.empty(self.units, *size) for size in self.sizes)
        self.place(torch.zeros(self.units, 2))
        self.weights = self.draw_weights()

    @torch.no_grad()
    def place(self, positions: Tensor) -> None:
        """Make every mask a bump at its unit's position (units, 2), plus noise."""
        for mask, (high, wide) in zip(self.masks, self.sizes, strict=True):
            down, across = (_bump(length, positions[:, axis]) for length, axis in ((high, 1), (wide, 0)))
            noise = torch.randn(mask.shape, generator=self.generator).to(mask)
            mask.copy_(down[:, :, None] * across[:, None] + START_NOISE * noise)

    def normalised(self) -> list[Tensor]:
        """Compute the masks (units, h, w) that are applied, each of norm one."""
        return [mask / (mask.square().sum(dim=(1, 2), keepdim=True) + 1e-12).sqrt() for mask in self.masks]

    def looks(self, maps: list[Tensor], shift: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Return the pooled maps, moved by the shift, and the masks (units, h, w) of each."""
        small = pooled(maps, self.pool)
        sizes = [tuple(map.shape[-2:]) for map in small]
        if sizes != [tuple(size) for size in self.sizes]:
            raise ValueError(f"the readout was made for maps of (h, w) = {self.sizes}, got {sizes}")
        if shift is not None:
            small = [moved(map, shift) for map in small]
        return list(zip(small, self.normalised(), strict=True))

    def features_of(self, map: Tensor, where: Tensor) -> Tensor:
        """Compute features (stimuli, channels, units): every channel summed under the unit's mask."""
        return map.flatten(2) @ where.flatten(1).T

    def read_planes(self, planes: Tensor, where: Tensor) -> Tensor:
        """Sum planes (units, outputs, stimuli, h, w) under the masks: (stimuli, units, outputs)."""
        return (planes * where[:, None, None]).sum(dim=(3, 4)).permute(2, 0, 1)

    def planes_first(self, map: Tensor) -> bool:
        """Tell whether pixels are fewer than channels: as many products, but less memory in between."""
        return map.shape[-2] * map.shape[-1] < map.shape[1]

    def constants(self, levels: list[Tensor]) -> Tensor:
        """Multiply the level by the sum of the mask, for every channel and unit."""
        sums = [mask.sum(dim=(1, 2)) for mask in self.normalised()]
        return torch.cat([level[:, None] * total for level, total in zip(levels, sums, strict=True)])

    def penalty(self) -> Tensor:
        """Add the penalties of the weights (`LinearReadout`) and of the masks; see the class."""
        total = super().penalty()
        for mask in self.normalised():
            total = total + self.penalty_weight("mask_l1") * mask.abs().sum(dim=(1, 2)).mean()
            total = total + self.penalty_weight("laplace") * roughness(mask)
        return total


def _bump(length: int, centre: Tensor) -> Tensor:
    """exp(-(x - centre)^2 / 2 width^2) at the pixels of an axis from -1 to 1, (units, length); a single pixel: 1."""
    if length == 1:
        return torch.ones(len(centre), 1, device=centre.device)
    axis = torch.linspace(-1.0, 1.0, length, device=centre.device)
    return torch.exp(-(axis - centre[:, None]).square() / (2.0 * START_WIDTH**2))
