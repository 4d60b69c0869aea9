"""The loss of the zero-inflated gamma distribution. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.objectives.loss import Loss, Outcome, masked_mean, rate_start

if TYPE_CHECKING:
    from torch import Tensor


def zero_inflated_gamma_loss(q: Tensor, theta: Tensor, observed: Tensor, shape: Tensor) -> Tensor:
    """Compute the mean negative log-density, in nats, over the entries of `observed` that are not NaN; rho = 0.005.

    q, theta, observed (stimuli, units); shape (units,), fixed before the fit. The density is that of responses in
    deviations, see `models.objectives.likelihoods.zero_inflated_gamma_log_density`; the term ln rho is part of it.
    Nothing observed: 0, with zero gradient.
    """
    from models.objectives.likelihoods import zero_inflated_gamma_log_density

    return masked_mean(-zero_inflated_gamma_log_density(observed, q, theta, shape), observed)


def _measure(outcome: Outcome, observed: Tensor, shape: Tensor) -> Tensor:
    return zero_inflated_gamma_loss(outcome[0], outcome[1], observed, shape)


def _link(drives: Tensor) -> Outcome:
    from models.objectives.likelihoods import zig_links

    return zig_links(drives)


def _mean(outcome: Outcome, shape: Tensor) -> Tensor:
    from models.objectives.likelihoods import zero_inflated_gamma_mean

    return zero_inflated_gamma_mean(outcome[0], outcome[1], shape)


def _start(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    """q = the share of active responses, within [0.01, 0.99]; theta from `zero_inflated_gamma_mean` = level."""
    import torch

    from models.objectives.likelihoods import RHO

    q = active.clamp(0.01, 0.99)
    theta = ((level - (1.0 - q) * RHO / 2.0) / q - RHO) / shape
    return torch.cat([torch.logit(q)[:, None], rate_start(theta, active, shape)], dim=1)


LOSS = Loss(version=1, measure=_measure, link=_link, mean=_mean, start=_start, outputs=2, positive=True)
