"""Which alpha predicts left-out groups best, for each of many units: float32 first, float64 where that cannot tell.

Residuals of all alphas are r_a = O y + Q diag(w_a) z with z = Q'y and w_a = alpha / (s + alpha) (`ridge.py`), and
groups that are left out give D_a r_a, the blocks of D_a being (I - H)_gg^{-1}. The rows w_a of neighbouring alphas are
nearly dependent: a few combinations F of them, w_a ~ C_a F, give all residuals from as many products with Q. What
float32 and the combinations may cost is estimated for every alpha and unit; alphas that may be the best one remain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

SAFETY = 8.0
"""The estimated rounding of float32 is multiplied by this before two alphas are told apart.

Measured: at most once the estimate on smooth features, three times where three stimuli are a thousand times larger.
"""

COMBINED = 1e-5
"""Share of the norm of Q diag(w_a) z over all units that combining alphas may cost."""

STEPS = 4
"""Steps of the power method for the largest eigenvalue of a block."""

CHUNK = 2**21
"""Numbers that are in memory at a time, alphas x stimuli x units: 8 MB."""

CACHED = 2**18
"""Numbers of a matrix that stays in a processor's cache between products: 1 MB in float32."""


@dataclass(frozen=True)
class Makers:
    """Blocks (I - H)_gg^{-1} of the left-out groups, float32, in the order of `rows`.

    `blocks` are pairs of a first row and (alphas, groups, size, size) for some groups of one size; `gain` (alphas,) is
    their largest eigenvalue.
    """

    rows: Tensor
    blocks: tuple[tuple[int, Tensor], ...]
    gain: Tensor

    @classmethod
    def of(cls, inverses: Iterable[tuple[Tensor, Tensor]]) -> Makers:
        """From stimuli (groups, size) and (I - H)_gg^{-1} (alphas, groups, size, size), float64, sizes in turn."""
        rows: list[Tensor] = []
        blocks, gains = [], []
        for places, inverse in inverses:
            blocks.append((sum(map(len, rows)), inverse.float().contiguous()))
            gains.append(_largest_gain(blocks[-1][1]))
            rows.append(places.flatten())
        return cls(torch.cat(rows), tuple(blocks), torch.stack(gains).amax(dim=0))

    def squared_errors(self, residual: Tensor) -> Tensor:
        """Sums (alphas, units) of squared left-out residuals from those (alphas, stimuli, units), which are spent."""
        total = residual.new_zeros(len(residual), residual.shape[2])
        for first, block in self.blocks:
            alphas, groups, size, _ = block.shape
            own = residual[:, first : first + groups * size]
            if size == 1:
                total += (block.square().view(alphas, 1, groups) @ own.square_())[:, 0]
            else:
                left_out = block @ own.unflatten(1, (groups, size))
                total += left_out.square_().flatten(1, 2).sum(dim=1)
        return total


def _largest_gain(blocks: Tensor) -> Tensor:
    """Largest eigenvalue (alphas,) of symmetric blocks (alphas, groups, size, size), by a few steps of a power method.

    They start from the column with the largest diagonal element.
    """
    vector = blocks.take_along_dim(blocks.diagonal(dim1=2, dim2=3).argmax(dim=2)[:, :, None, None], dim=3)
    for _ in range(STEPS):
        vector = blocks @ (vector / vector.norm(dim=2, keepdim=True))
    return vector.norm(dim=2).flatten(1).amax(dim=1)


def combine(shrink: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Find a mixture C (alphas, few) and weights F (few, directions) with shrink ~ C F.

    Directions count by the units' mean squared response in them; `inside` (directions, units) is z.
    """
    energy = inside.square().mean(dim=1).sqrt()
    size = (shrink * energy).norm(dim=1, keepdim=True).clamp_min(torch.finfo(shrink.dtype).tiny)
    left, singular, _ = torch.linalg.svd(shrink * energy / size, full_matrices=False)
    lost = (left * singular).square().flip(1).cumsum(dim=1).flip(1).amax(dim=0).sqrt()
    left = left[:, : int((lost > COMBINED).sum())]
    return size * left, left.T @ (shrink / size)


def _weighted_products(rows: Tensor, weights: Tensor, scaled: Tensor, products: Tensor) -> None:
    """Fill `products` (few, stimuli, units) with rows diag(weights_c) scaled, for rows (stimuli, directions).

    Rows that a cache does not hold are read once for all c, by one product that has the units first.
    """
    if rows.numel() < CACHED:
        torch.matmul(rows, weights[:, :, None] * scaled, out=products)
        return
    stacked = (weights[:, None] * scaled.T.contiguous()).flatten(0, 1)
    products.copy_((stacked @ rows.T).unflatten(0, (len(weights), -1)).transpose(1, 2))


def contenders(shrink: Tensor, basis: Tensor, inside: Tensor, outside: Tensor | None, makers: Makers) -> Tensor:
    """Find the alphas (alphas, units) that may have a unit's smallest left-out error.

    `shrink` (alphas, directions) are w, `basis` (stimuli, directions) Q, `inside` (directions, units) z, `outside`
    (stimuli, units) O y or None where it is zero; all float64. The norm of D_a r_a is uncertain by

        gain_a (SAFETY u sqrt(directions) sqrt(|w_a z|^2 + |O y|^2) + |(w_a - C_a F) z|),   u = 2^-24

    A unit of which nothing is known in float32 (an overflow) has no contender.
    Source: Higham and Mary 2019 (SIAM J. Sci. Comput. 41) for the growth of roundings with the square root.
    """
    scale = inside.square().sum(dim=0) + (outside.square().sum(dim=0) if outside is not None else 0.0)
    scale = scale.sqrt_().clamp_min_(torch.finfo(scale.dtype).tiny)
    mixture, weights = combine(shrink, inside / scale)
    missed = (shrink - mixture @ weights).square().float()
    if outside is not None:
        mixture = torch.cat([mixture, torch.ones_like(mixture[:, :1])], dim=1)
    squares, mixture, weights = shrink.square().float(), mixture.float(), weights.float()
    rows, few = basis.float()[makers.rows], len(weights)
    rounding = (torch.finfo(torch.float32).eps / 2) ** 2 * len(inside)
    possible = torch.empty(len(shrink), inside.shape[1], dtype=torch.bool, device=inside.device)
    step = max(16, CHUNK // (len(shrink) * len(basis)))
    for start in range(0, inside.shape[1], step):
        own = slice(start, start + step)
        scaled = (inside[:, own] / scale[own]).float()
        parts = scaled.new_empty(mixture.shape[1], len(rows), scaled.shape[1])
        _weighted_products(rows, weights, scaled, parts[:few])
        energy = squares @ scaled.square()
        if outside is not None:
            parts[few] = (outside[:, own] / scale[own])[makers.rows]
            energy += parts[few].square().sum(dim=0)
        error = makers.squared_errors((mixture @ parts.flatten(1)).unflatten(1, parts.shape[1:])).sqrt_()
        unsure = makers.gain[:, None] * (SAFETY * (rounding * energy).sqrt_() + (missed @ scaled.square()).sqrt_())
        possible[:, own] = error - unsure <= (error + unsure).amin(dim=0)
    return possible
