"""Units of a simulated video recording: where they look, what they prefer, and how they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from sweeps.io.strict_model import Strict

BLOCKS = 4
"""Blocks of the teacher (see video_teacher)."""

CHANNELS = 8

RHO = 0.005
"""Threshold of the zero-inflated gamma distribution."""

SLOPE = 1.5
"""Poisson rate = rate softplus(SLOPE drive + latents)."""

PATCH = 300.0
"""Half the side of an area in cortex, micrometres."""

NODES = 15
"""Nodes of the quadrature over latent factors, per dimension."""

Response = Literal["poisson", "zero-inflated-gamma"]


class VideoArea(Strict):
    """A simulated area: the teacher's block that it reads, and its units."""

    depth: int = Field(ge=0)
    units: int = Field(16, ge=2, le=2000)


def draw_units(areas: Mapping[str, VideoArea], seed: int, latents: int, gain: float) -> dict[str, np.ndarray]:
    """What is planted in every unit, drawn from the seed and the names of the areas.

    coordinates (units, 3): place in cortex in micrometres; areas are squares of 600 beside each other, 100 to 400 deep.
    position (units, 2): where the unit looks, x and y in [-1, 1]: its place in its area, turned (and mirrored in every
    second area, as neighbours in mouse cortex are) by the area's own angle, with a jitter of 0.03. weights (units, 8)
    of the block's channels. u, v (units, latents): loadings on the first and second drive; the deviation of u . z is
    `gain`, that of v . z half of it, on average over units. k, q_bias, q_gain, theta_bias, theta_gain (units,): see
    `gamma_parameters`.
    """
    parts = [_draw_area(name, area, index, seed, latents, gain) for index, (name, area) in enumerate(areas.items())]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _draw_area(name: str, area: VideoArea, index: int, seed: int, latents: int, gain: float) -> dict[str, np.ndarray]:
    random, count = np.random.default_rng([seed, 31, *name.encode()]), area.units
    place = random.uniform(-1, 1, (count, 2))
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[:, 1] *= -1 if index % 2 else 1
    looks = 0.65 * place @ turn.T + 0.03 * random.standard_normal((count, 2))  # the corners stay inside
    across = np.column_stack([PATCH * place + [1000.0 * index, 0.0], random.uniform(100, 400, count)])
    scale = gain / np.sqrt(max(latents, 1))
    return {
        "coordinates": across,
        "position": np.clip(looks, -0.97, 0.97),
        "weights": random.standard_normal((count, CHANNELS)),
        "k": random.uniform(1, 4, count),
        "q_bias": random.normal(0, 0.5, count),
        "q_gain": random.uniform(0.6, 1.4, count),
        "theta_bias": random.uniform(-0.5, 0.5, count),
        "theta_gain": random.uniform(0.3, 0.8, count),
        "u": scale * random.standard_normal((count, latents)),
        "v": 0.5 * scale * random.standard_normal((count, latents)),
    }


# -- how they answer --------------------------------------------------------------------------------


def poisson_rate(drive: np.ndarray, extra: np.ndarray, rate: float) -> np.ndarray:
    """Expected count: rate softplus(1.5 drive + extra), where extra = u . z."""
    return np.asarray(rate * np.logaddexp(0.0, SLOPE * drive + extra))


def gamma_parameters(
    truth: Mapping[str, np.ndarray], drive: np.ndarray, extra: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """q and theta (rows, units) of the zero-inflated gamma distribution, extra = (u . z, v . z).

    q = 0.99999 sigmoid(q_bias + q_gain drive + u . z) + 1e-6
    theta = ELU(theta_bias + theta_gain drive + v . z) + 1 + 1e-6
    """
    first = truth["q_bias"] + truth["q_gain"] * drive + extra[0]
    second = truth["theta_bias"] + truth["theta_gain"] * drive + extra[1]
    q = 0.99999 / (1 + np.exp(-first)) + 1e-6
    return q, np.where(second > 0, second + 1, np.exp(np.minimum(second, 0))) + 1e-6


def gamma_mean(q: np.ndarray, theta: np.ndarray, k: np.ndarray) -> np.ndarray:
    """q (k theta + rho) + (1 - q) rho / 2."""
    return np.asarray(q * (k * theta + RHO) + (1 - q) * RHO / 2)


def respond(
    kind: Response,
    truth: Mapping[str, np.ndarray],
    drive: np.ndarray,
    latents: np.ndarray,
    rate: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Responses (rows, units) to one showing: drive (rows, units), latents (rows, factors).

    Zero-inflated gamma: with probability q, rho + Gamma(k, theta); else uniform from 0 to rho.
    """
    extra = latents @ truth["u"].T, latents @ truth["v"].T
    if kind == "poisson":
        return np.asarray(random.poisson(poisson_rate(drive, extra[0], rate)), dtype=np.float64)
    q, theta = gamma_parameters(truth, drive, extra)
    active = random.uniform(size=q.shape) < q
    return np.where(active, RHO + random.gamma(truth["k"], theta), random.uniform(0, RHO, q.shape))


def expected(kind: Response, truth: Mapping[str, np.ndarray], drive: np.ndarray, rate: float) -> np.ndarray:
    """Expected responses (rows, units) over noise and latent factors, by Gauss-Hermite quadrature over the latter."""
    nodes, weights = _nodes(truth)
    total = np.zeros_like(drive)
    for (first, second), weight in zip(nodes, weights, strict=True):
        if kind == "poisson":
            total += weight * poisson_rate(drive, first, rate)
        else:
            total += weight * gamma_mean(*gamma_parameters(truth, drive, (first, second)), truth["k"])
    return total


def _nodes(truth: Mapping[str, np.ndarray]) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Values (units,) that stand for u . z and v . z, which are Gaussian together, and their weights."""
    u, v = truth["u"], truth["v"]
    if not u.shape[1] or not (u.any() or v.any()):
        return [(np.zeros(len(u)), np.zeros(len(u)))], np.ones(1)
    grid, mass = np.polynomial.hermite_e.hermegauss(NODES)
    size = np.maximum(np.linalg.norm(u, axis=1), 1e-12)
    along = (u * v).sum(axis=1) / size
    rest = np.sqrt(np.maximum((v**2).sum(axis=1) - along**2, 0.0))
    nodes = [(size * x, along * x + rest * y) for x in grid for y in grid]
    weights = np.outer(mass, mass).ravel()
    return nodes, weights / weights.sum()


def slow_noise(shape: tuple[int, ...], memory: float, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise of unit variance (frames, ...) that remembers a share `memory` of the frame before."""
    values = random.standard_normal(shape)
    for frame in range(1, shape[0]):
        values[frame] = memory * values[frame - 1] + np.sqrt(1 - memory**2) * values[frame]
    return values
