"""Pictures with the statistics that matter to a young cortex: opaque things of every size, with edges."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEAVES = 300
"""Discs in one picture: enough that nothing of the ground shows."""

SMALLEST, LARGEST = 1 / 32, 1 / 2
"""Radii of the discs in sides of the picture."""


def dead_leaves(pictures: int, size: int, seed: int) -> Tensor:
    """Pictures (pictures, 3, size, size) in [0, 1] of discs that cover each other, float32.

    The radii have density r^-3 between SMALLEST and LARGEST sides, which makes the picture look the same at
    every scale in between; centres are uniform, levels too, with a tint of up to 0.1 a colour. Picture i
    depends on (seed, i) alone. Source: the dead leaves model of Lee, Mumford and Huang 2001 (IJCV 41); the
    constants are choices of ours.
    """
    drawn = np.stack([_picture(size, np.random.default_rng([seed, index])) for index in range(pictures)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()


def _picture(size: int, random: np.random.Generator) -> np.ndarray:
    """One picture (size, size, 3), leaf upon leaf."""
    radii = size * _radii(random.uniform(size=LEAVES))
    centres = random.uniform(0, size, (LEAVES, 2))
    tint = random.uniform(-0.1, 0.1, (LEAVES, 3))
    colours = np.clip(random.uniform(0, 1, (LEAVES, 1)) + tint, 0, 1).astype(np.float32)
    picture = np.full((size, size, 3), 0.5, dtype=np.float32)
    grid = np.arange(size) + 0.5
    for radius, (x, y), colour in zip(radii, centres, colours, strict=True):
        rows, columns = _reached(y, radius, size), _reached(x, radius, size)
        inside = (grid[rows, None] - y) ** 2 + (grid[columns] - x) ** 2 < radius**2
        picture[rows, columns][inside] = colour
    return picture


def _reached(centre: float, radius: float, size: int) -> slice:
    """The pixels of one axis that a disc may cover."""
    return slice(max(int(centre - radius), 0), min(int(centre + radius) + 1, size))


def _radii(uniform: np.ndarray) -> np.ndarray:
    """Inverse of the distribution with density r^-3: r = (a^-2 - u (a^-2 - b^-2))^(-1/2)."""
    near, far = SMALLEST**-2, LARGEST**-2
    return np.asarray((near - uniform * (near - far)) ** -0.5)
