"""Penalties on the weights of cores and readouts. Each is a scalar, to be multiplied by its own weight."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
"""Second difference in x plus second difference in y."""


def l1(weights: Tensor) -> Tensor:
    """Mean over units of sum over channels of |w|, for weights (units, channels).

    A mean over units because the losses are one too: the price of a weight does not change with the number of
    units that are fitted together.
    """
    return weights.abs().sum(dim=1).mean()


def laplacian_smoothness(kernels: Tensor) -> Tensor:
    """Roughness of kernels (filters, channels, k, k): |Laplacian * w|^2 / |w|^2, both summed over everything.

    The 3 x 3 Laplacian is applied to each channel's kernel with zeros around it, so a kernel that does not
    fade at its rim pays as well. Between 0 and 64, whatever the scale of the kernels; kernels that are zero
    throughout give 0. Source: the `gamma_input` penalty of the Sensorium baseline, here divided by the norm
    so that shrinking the kernels, which batch norm undoes, does not lower it.
    """
    size = kernels.shape[-1]
    planes = kernels.reshape(-1, 1, size, size)
    stencil = torch.tensor(LAPLACIAN, dtype=kernels.dtype, device=kernels.device)
    response = F.conv2d(planes, stencil[None, None], padding=1)
    return response.square().sum() / planes.square().sum().clamp(min=1e-12)
