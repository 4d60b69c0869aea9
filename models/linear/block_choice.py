"""Ridge readouts of several blocks, each unit read from the block that predicts it best when groups are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.linear.ridge import Alpha, Decomposition, RidgeFit, decompose_kernel, fit_ridge


@dataclass(frozen=True)
class BlockChoice:
    """Ridge readouts of several blocks, and the one that is used for each unit: `block` (units,) counts from 0."""

    block: Tensor
    fits: tuple[RidgeFit, ...]

    def predict(self, kernels: Sequence[Tensor]) -> Tensor:
        """Predict responses (stimuli, units) from one kernel (stimuli, train stimuli) for each block."""
        every = torch.stack([fit.predict(kernel) for fit, kernel in zip(self.fits, kernels, strict=True)])
        return every.gather(0, self.block.expand(1, every.shape[1], -1))[0]


def choose_block(
    kernels: Sequence[Tensor],
    responses: Tensor,
    groups: Sequence[object] | np.ndarray,
    alpha: Alpha = "auto",
    shared: bool = False,
    parts: Sequence[Decomposition] | None = None,
) -> BlockChoice:
    """Choose the block from which each unit is best read, with its alpha, by leave-one-group-out error.

        block_u = argmin_b min_alpha mean_i (left-out residual of unit u from block b)^2

    `kernels` are those of the blocks among the training stimuli alone (stimuli, stimuli), so neither choice sees a
    held-out response; `parts` are their decompositions where they are at hand. `shared` takes one block for all units:
    the smallest mean over units of error / variance, units that are constant left out. A tie goes to the first block.
    """
    parts = parts or [decompose_kernel(kernel) for kernel in kernels]
    fits = tuple(fit_ridge(part, kernel, responses, groups, alpha) for part, kernel in zip(parts, kernels, strict=True))
    errors = torch.stack([fit.left_out_error for fit in fits])
    if shared:
        variance = responses.double().var(dim=0, correction=0)
        varies = variance > 0
        errors = (errors[:, varies] / variance[varies]).mean(dim=1, keepdim=True).expand(-1, responses.shape[1])
    return BlockChoice(errors.argmin(dim=0), fits)
