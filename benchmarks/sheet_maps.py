"""What a sheet maps, and what its wires cost: selectivity, smoothness of maps, wiring cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.spiking_sheet.wiring import Wiring, distances


def gratings(orientations: int, phases: int, size: int, cycles: float) -> tuple[Tensor, Tensor]:
    """Full-field sine gratings (orientations * phases, 3, size, size) in [0, 1], and each one's orientation.

    `cycles` to a side; orientations in radians, [0, pi), evenly spaced, phases evenly spaced too.
    """
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    angle = torch.arange(orientations, dtype=torch.float64).repeat_interleave(phases) * math.pi / orientations
    phase = torch.arange(phases, dtype=torch.float64).repeat(orientations) * 2 * math.pi / phases
    across = place[None, None, :] * angle.cos()[:, None, None] + place[None, :, None] * angle.sin()[:, None, None]
    wave = 0.5 + 0.5 * torch.sin(2 * math.pi * cycles * across + phase[:, None, None])
    return wave[:, None].expand(-1, 3, -1, -1).float(), angle


def orientation_tuning(responses: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Selectivity (units,) in [0, 1] and preferred orientation (units,) in [0, pi).

        z = sum_k r_k e^{2 i angle_k} / sum_k r_k;   selectivity |z|, preference arg(z) / 2

    responses (stimuli, units), not negative; angle (stimuli,) in radians. NaN for a silent unit.
    """
    rates = responses.double()
    turned = torch.polar(torch.ones_like(angle), 2 * angle)
    vector = (rates.T.to(turned.dtype) @ turned) / rates.sum(dim=0)
    return vector.abs(), (vector.angle() / 2) % math.pi


def map_smoothness(positions: Tensor, responses: Tensor, reach: float = math.inf) -> float:
    """Correlation of sheet distance with tuning distance, over pairs of units at most `reach` cells apart.

    Tuning distance = 1 - correlation of the two units' responses over stimuli. positions (units, 2), responses
    (stimuli, units). Constant units are left out; NaN with fewer than three units or pairs.
    Above 0: neighbours are alike.
    """
    responses = responses.double()
    varies = (responses != responses[:1]).any(dim=0)
    if varies.sum() < 3:
        return float("nan")
    normal, places = responses[:, varies], positions[varies].double()
    normal = (normal - normal.mean(dim=0)) / normal.std(dim=0, correction=0)
    apart, alike = distances(places, places), normal.T @ normal / len(normal)
    one, other = torch.triu_indices(len(apart), len(apart), 1, device=apart.device)
    near = apart[one, other] <= reach
    pairs = torch.stack([apart[one, other][near], 1 - alike[one, other][near]])
    return float(torch.corrcoef(pairs)[0, 1]) if pairs.shape[1] > 2 else float("nan")


def wiring_cost(wiring: Wiring, positions: Tensor) -> float:
    """Total wiring cost sum_ij w_ij d_ij, in weight x cells."""
    return float((wiring.weights * wiring.lengths(positions)).sum())
