"""Penalties on the weights of cores and readouts. Each is a scalar, to be multiplied by its own weight.

Penalties on the units of a readout are means over units, because the losses are one too: what a weight costs
does not change with the number of units that are fitted together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
"""Second difference in x plus second difference in y."""

TINY = 1e-12
"""Norms are square roots of a sum plus this: differentiable at zero, where the gradient is zero."""


def l1(weights: Tensor) -> Tensor:
    """Mean over units of sum over channels of |w|, for weights (units, channels)."""
    return weights.abs().sum(dim=1).mean()


def group_lasso(weights: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Mean over units of sum over groups of channels g of sqrt(|g|) |w_g|, for weights (units, channels).

    `sizes` are the numbers of channels of consecutive groups, such as the blocks that are read together; without
    them all channels are one group, and a unit is switched off as a whole. sqrt(|g|) makes a weight cost the same
    in groups of all sizes. Raises ValueError where the sizes do not add up. Source: Yuan and Lin 2006.

    >>> round(group_lasso(torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 0.0]]), [2, 4]).item(), 3)
    7.071
    """
    sizes = [weights.shape[1]] if sizes is None else list(sizes)
    if sum(sizes) != weights.shape[1]:
        raise ValueError(f"groups of {sizes} channels do not add up to the {weights.shape[1]} channels there are")
    norms = [(part.square().sum(dim=1) + TINY).sqrt() * part.shape[1] ** 0.5 for part in weights.split(sizes, dim=1)]
    return torch.stack(norms).sum(dim=0).mean()


def channel_lasso(weights: Tensor) -> Tensor:
    """Sum over channels of sqrt( mean over units of w^2 ), for weights (units, channels) of one area.

    The weights that all units of the area give to one channel are one group, so the area as a whole gives up
    channels. The mean makes it independent of the number of units.

    >>> round(channel_lasso(torch.tensor([[3.0, 0.0], [3.0, 4.0]])).item(), 3)
    5.828
    """
    return (weights.square().mean(dim=0) + TINY).sqrt().sum()


def laplacian(planes: Tensor) -> Tensor:
    """Laplacian * w of planes (..., h, w), with zeros around each plane; the same shape."""
    stencil = torch.tensor(LAPLACIAN, dtype=planes.dtype, device=planes.device)
    single = planes.reshape(-1, 1, *planes.shape[-2:])
    return F.conv2d(single, stencil[None, None], padding=1).reshape(planes.shape)


def roughness(masks: Tensor) -> Tensor:
    """Mean over units of |Laplacian * m|^2, for masks (units, h, w): not normalised, zeros around a mask.

    It grows with the square of the masks, so it is meant for masks whose norm is fixed.
    """
    return laplacian(masks).square().sum(dim=(1, 2)).mean()


def laplacian_smoothness(kernels: Tensor) -> Tensor:
    """Roughness of kernels (filters, channels, k, k): |Laplacian * w|^2 / |w|^2, both summed over everything.

    The 3 x 3 Laplacian is applied to each channel's kernel with zeros around it, so a kernel that does not
    fade at its rim pays as well. Between 0 and 64, whatever the scale of the kernels; kernels that are zero
    throughout give 0. Source: the `gamma_input` penalty of the Sensorium baseline, here divided by the norm
    so that shrinking the kernels, which batch norm undoes, does not lower it.
    """
    return laplacian(kernels).square().sum() / kernels.square().sum().clamp(min=1e-12)


def curvature(courses: Tensor) -> Tensor:
    """Mean over units of sum over t of (w(t - 1) - 2 w(t) + w(t + 1))^2, for courses (units, ..., frames).

    Zeros before the first and after the last frame; sums over the axes between units and frames as well. Not
    normalised: it grows with the square of the courses. `roughness` in one dimension.
    """
    bends = F.pad(courses, [1, 1]).diff(n=2, dim=-1)
    return bends.square().flatten(1).sum(dim=1).mean()


def position_pull(positions: Tensor, anchors: Tensor) -> Tensor:
    """Mean over units of |position - anchor|^2, both (units, 2), in half maps; anchors may be one point (2,)."""
    return (positions - anchors).square().sum(dim=1).mean()
