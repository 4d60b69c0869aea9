"""The Gaussian readout: every unit looks at one learned position of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.noise import Drawing
from models.objectives.regularizers import position_pull
from models.readouts.positions import AffineAnchors, CoordinatePositions
from models.readouts.protocol import LinearReadout
from models.readouts.sampling import pooled, sample, sample_own, shrink

__all__ = ["START_SPREAD", "GaussianReadout", "sample", "shrink"]

FEW_PIXELS = 64
"""Maps of at most so many pixels are weighed before they are looked at."""

START_SPREAD = 0.1
"""Standard deviation of a position at the start of training, in half maps."""


class GaussianReadout(LinearReadout, Drawing):
    """Responses of `units` units, each from the features at one position of the map, or of several maps.

        position = clip(mean + noise) + shift;  noise in training only, fresh for every stimulus
        drive = weights . [map(position) of all maps; beside] + bias
        response = scale * mean(link(drive)) + offset,  see `Readout`; with the Poisson loss scale * (ELU(drive) + 1)

    position is (x, y), clipped to [-1, 1]^2 before the shift; -1 and 1 are the centres of the outermost pixels
    (bilinear, `align_corners=True`), and a shift beyond the rim sees 0. The `covariance` is learned too: its noise
    lets the gradient feel the surroundings, and it shrinks as the place is found. With eps ~ N(0, I) the noise is
    s eps ("isotropic", one s), (s_x eps_x, s_y eps_y) ("uncorrelated"), or S eps with any 2 x 2 matrix S ("full").

    The mean is free, or with `position: coordinates` a function of the units' places, `CoordinatePositions`, with
    `position_l1` times its l1 as a penalty. Free positions are pulled, with the weight `position_pull`, to the centre,
    or with `position_anchor: coordinates` to `AffineAnchors`. Maps larger than `pool` are averaged to `pool` a side
    first. Everything is drawn from `seed` alone. Raises ValueError where coordinates are needed and missing.

    Source: Lurz et al. 2021 (ICLR); neuralpredictors, FullGaussian2d with its `gauss_type`. With 128 channels, 32
    features beside and a full matrix a unit has 160 + 2 + 4 + 1 = 167 parameters, as in "Anatomically inspired
    digital twins" (NeurIPS 2025). The pull is a choice of ours.
    """

    penalties: tuple[str, ...] = ("l1", "group", "position_l1", "position_pull")

    def build(self, seed: int, coordinates: Tensor | None) -> None:
        """See `Readout`."""
        self.expect_noise(torch.randn)
        self.covariance, self.free = self.given["covariance"], self.given["position"] == "free"
        start = torch.rand(self.units, 2, generator=self.generator) * 0.2 - 0.1
        self._make_positions(start, coordinates, seed)
        self.spread = nn.Parameter(_start_spread(self.units, self.covariance))
        self.weights = self.draw_weights()

    def _make_positions(self, start: Tensor, coordinates: Tensor | None, seed: int) -> None:
        anchored = self.free and self.given["position_pull"] > 0 and self.given["position_anchor"] == "coordinates"
        if coordinates is None and (anchored or not self.free):
            raise ValueError("positions from coordinates need the coordinates (units, d) of the units, there are none")
        if coordinates is not None and len(coordinates) != self.units:
            raise ValueError(f"there are coordinates of {len(coordinates)} units, expected {self.units}")
        self.anchors = AffineAnchors(coordinates) if anchored and coordinates is not None else None
        if self.free:
            self.mean = nn.Parameter(start)
        elif coordinates is not None:
            self.predictor = CoordinatePositions(coordinates, seed)

    def centres(self) -> Tensor:
        """Compute where each unit looks without noise and shift (units, 2), within [-1, 1]."""
        return (self.mean if self.free else self.predictor()).clamp(-1.0, 1.0)

    def positions(self, stimuli: int, noise: Tensor | None = None) -> Tensor:
        """Compute where each unit looks in each stimulus ([stimuli,] units, 2), before the shift.

        `noise` (stimuli, units, 2) takes the place of the module's own eps while training.
        """
        if not self.training:
            return self.centres()
        if noise is None:
            noise = self.drawn(stimuli, self.units, 2)
        mean = self.mean if self.free else self.predictor()
        eps, full = noise.to(mean), self.covariance == "full"
        moved = torch.einsum("uij,nuj->nui", self.spread, eps) if full else self.spread * eps
        return (mean + moved).clamp(-1.0, 1.0)

    def looks(
        self, maps: list[Tensor], shift: Tensor | None, noise: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the pooled maps and the units' positions ([stimuli,] units, 2), the same in every map."""
        small = pooled(maps, self.pool)
        positions = self.positions(len(small[0]), noise)
        if shift is not None:
            positions = positions + shift[:, None]
        return [(map, positions) for map in small]

    def features_of(self, map: Tensor, where: Tensor) -> Tensor:
        """Sample features (stimuli, channels, units) at positions ([stimuli,] units, 2)."""
        return sample(map, where)

    def read_planes(self, planes: Tensor, where: Tensor) -> Tensor:
        """Sample planes (units, outputs, stimuli, h, w) at the units' positions: (stimuli, units, outputs)."""
        return sample_own(planes, where)

    def planes_first(self, map: Tensor) -> bool:
        """Small maps: gathering every channel at every position takes longer than weighing a few pixels."""
        return map.shape[-2] * map.shape[-1] <= FEW_PIXELS

    def constants(self, levels: list[Tensor]) -> Tensor:
        """Return the levels themselves: the weights of bilinear sampling add up to one everywhere inside [-1, 1]^2."""
        return torch.cat(levels)[:, None].expand(-1, self.units)

    @torch.no_grad()
    def place(self, positions: Tensor) -> None:
        """Let the units look at positions (units, 2) first; a network from coordinates is fitted to them."""
        if self.free:
            self.mean.copy_(positions)
        else:
            self.predictor.fit(positions)

    def penalty(self) -> Tensor:
        """Add the penalties of the weights (`LinearReadout`) and of the positions; see the class."""
        total = super().penalty()
        if not self.free:
            return total + self.penalty_weight("position_l1") * self.predictor.l1()
        if not self.given["position_pull"]:
            return total
        anchors = torch.zeros_like(self.mean) if self.anchors is None else self.anchors(self.mean)
        return total + self.penalty_weight("position_pull") * position_pull(self.mean, anchors)


def _start_spread(units: int, covariance: str) -> Tensor:
    """START_SPREAD on both axes: (units, 1), (units, 2), or (units, 2, 2) with zeros off the diagonal."""
    if covariance == "full":
        return START_SPREAD * torch.eye(2).repeat(units, 1, 1)
    return torch.full((units, 1 if covariance == "isotropic" else 2), START_SPREAD)
