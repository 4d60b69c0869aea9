"""Losses between predicted and observed responses. Each is a mean over the entries that were observed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 1e-8
"""Added to a rate before its logarithm is taken, as in Sensorium's Poisson loss."""


def poisson_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Poisson negative log-likelihood without the term that depends on the data only.

    L = mean( rate - observed * ln(rate + 1e-8) ) over the entries of `observed` that are not NaN.

    rate, observed: (stimuli, units), rates positive, responses not negative (below zero the loss has no
    minimum; `models.fit` refuses them). Nothing observed: 0, with zero gradient. Source: Sensorium 2022
    (there summed over units and scaled by the data set; here a mean, so that it does not depend on size).
    """
    return masked_mean(rate - filled(observed) * torch.log(rate + EPSILON), observed)


def gaussian_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Squared error: L = mean( (rate - observed)^2 ) over the entries of `observed` that are not NaN.

    Both (stimuli, units). Nothing observed: 0, with zero gradient.
    """
    return masked_mean((rate - filled(observed)).square(), observed)


def filled(observed: Tensor) -> Tensor:
    """`observed` with zeros where it is NaN: `masked_mean` then leaves those entries out."""
    return torch.where(observed.isnan(), 0.0, observed)


def masked_mean(terms: Tensor, observed: Tensor) -> Tensor:
    """Mean of `terms` where `observed` is not NaN; 0 where it is NaN throughout."""
    valid = ~observed.isnan()
    return torch.where(valid, terms, 0.0).sum() / valid.sum().clamp(min=1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"poisson": poisson_loss, "gaussian": gaussian_loss}
"""Name in an experiment -> loss(rate, observed)."""
