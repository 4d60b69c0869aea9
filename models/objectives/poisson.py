"""The Poisson loss. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.objectives.loss import EPSILON, Loss, Outcome, filled, first, masked_mean, rate_start

if TYPE_CHECKING:
    from torch import Tensor


def poisson_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Compute the Poisson negative log-likelihood without the term that depends on the data only.

    L = mean( rate - observed * ln(rate + 1e-8) ) over the entries of `observed` that are not NaN.

    rate, observed: (stimuli, units), rates positive, responses not negative (below zero the loss has no
    minimum; `models.training.gradient_fit` refuses them). Nothing observed: 0, with zero gradient. Source: Sensorium
    2022 (there summed over units and scaled by the data set; here a mean, so that it does not depend on size).
    """
    import torch

    return masked_mean(rate - filled(observed) * torch.log(rate + EPSILON), observed)


def _measure(outcome: Outcome, observed: Tensor, shape: Tensor) -> Tensor:
    return poisson_loss(outcome[0], observed)


def _rate(drive: Tensor) -> Outcome:
    from torch.nn import functional as F

    return (F.elu(drive[..., 0]) + 1.0,)


LOSS = Loss(version=1, measure=_measure, link=_rate, mean=first, start=rate_start, positive=True)
