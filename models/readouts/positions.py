"""Positions on the map from places in the brain: neighbours there look at neighbouring places in the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 30
"""Hidden units of the network from coordinates to positions."""

STEPS, RATE = 300, 0.02
"""Full-batch Adam steps, and their learning rate, with which the network is fitted to starting positions."""


class CoordinatePositions(nn.Module):
    """Positions of all units from their coordinates c in the brain: tanh(W2 ELU(W1 z + b1) + b2), z = c z-scored.

    d-30-2, within (-1, 1)^2. `coordinates` (units, d) are kept as a buffer; one that all units share carries nothing.
    Weights as `nn.Linear` draws them, from `seed` alone. Raises ValueError for coordinates that are not finite.
    Source: Lurz et al. 2021 (ICLR), the shared "grid predictor" of neuralpredictors.
    """

    coordinates: Tensor

    def __init__(self, coordinates: Tensor, seed: int) -> None:
        super().__init__()
        self.register_buffer("coordinates", standardized(coordinates))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            first, last = nn.Linear(coordinates.shape[1], HIDDEN), nn.Linear(HIDDEN, 2)
        self.network = nn.Sequential(first, nn.ELU(), last, nn.Tanh())

    def forward(self) -> Tensor:
        """Positions (units, 2)."""
        return self.network(self.coordinates)

    @torch.enable_grad()
    def fit(self, positions: Tensor) -> None:
        """Fit the network to starting positions (units, 2) that may be wrong for some units: mean of |error|."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            F.l1_loss(self(), positions).backward()
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def l1(self) -> Tensor:
        """Average |w| over the weights of the network, biases left out."""
        return (
            torch.cat([layer.weight.flatten() for layer in self.network if isinstance(layer, nn.Linear)]).abs().mean()
        )


class AffineAnchors(nn.Module):
    """The affine map from coordinates that is nearest to given positions: what smooth retinotopy would have.

        anchors = [1, z] ([1, z]^+ positions),  z = coordinates (units, d), z-scored

    Raises ValueError for coordinates that are not finite.
    """

    design: Tensor
    inverse: Tensor

    def __init__(self, coordinates: Tensor) -> None:
        super().__init__()
        places = standardized(coordinates)
        design = torch.cat([torch.ones(len(places), 1), places], dim=1)
        self.register_buffer("design", design)
        self.register_buffer("inverse", torch.linalg.pinv(design.double()).to(design))

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (units, 2) -> anchors (units, 2)."""
        return self.design @ (self.inverse @ positions)


def standardized(coordinates: Tensor) -> Tensor:
    """Coordinates (units, d), z-scored over units (ddof 0); a constant one becomes 0."""
    values = coordinates.double()
    if values.ndim != 2 or not bool(values.isfinite().all()):
        raise ValueError(f"coordinates must be finite and (units, d); they are {_described(values)}")
    deviation, mean = torch.std_mean(values, dim=0, correction=0)
    return ((values - mean) / torch.where(deviation > 0, deviation, 1.0)).float()


def _described(values: Tensor) -> str:
    return f"{tuple(values.shape)} with {int((~values.isfinite()).sum())} entries that are not finite"
