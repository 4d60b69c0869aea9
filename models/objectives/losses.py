"""Losses between what a readout says and what was observed; a loss decides what a readout says of a unit.

Every loss is a mean over the entries that were observed (`correlation`: over units), so that its size depends
neither on the number of stimuli nor on that of the units. All is in deviations: a response divided by s, the
standard deviation of its unit over the train rows, see `models.training.gradient_fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.objectives.likelihoods import RHO, zero_inflated_gamma_log_density, zero_inflated_gamma_mean, zig_links

EPSILON = 1e-8
"""Added to a rate before its logarithm is taken, as in Sensorium's Poisson loss, and to a prediction's variance."""

LEAST = 1e-3
"""Mean responses below this many deviations count as that many when a bias is chosen: no rate starts at zero."""

Outcome = tuple[Tensor, ...]
"""What a readout says of each entry: (rate,), or (q, theta)."""


@dataclass(frozen=True)
class Loss:
    """A loss by its parts, which are functions of tensors.

    `outputs`: drives that a readout gives for each unit. `link`: drives (..., outputs) -> outcome, each (...).
    `mean`: (outcome, shape) -> expected response (...), where `shape` (units,) is the gamma's k and otherwise
    means nothing. `start`: (level, active, shape), each (units,), -> drives (units, outputs) at which the expected
    response is `level`; `active` is the share of responses above rho. `measure`: (outcome, observed, shape) ->
    the loss, a scalar; `observed` (rows, units) is NaN where nothing was observed. `positive` losses refuse
    negative responses. A `scaleless` one does not know the responses' scale and mean: they are set after the fit.
    """

    measure: Callable[[Outcome, Tensor, Tensor], Tensor]
    link: Callable[[Tensor], Outcome]
    mean: Callable[[Outcome, Tensor], Tensor]
    start: Callable[[Tensor, Tensor, Tensor], Tensor]
    outputs: int = 1
    positive: bool = False
    scaleless: bool = False


def poisson_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Poisson negative log-likelihood without the term that depends on the data only.

    L = mean( rate - observed * ln(rate + 1e-8) ) over the entries of `observed` that are not NaN.

    rate, observed: (stimuli, units), rates positive, responses not negative (below zero the loss has no
    minimum; `models.training.gradient_fit` refuses them). Nothing observed: 0, with zero gradient. Source: Sensorium 2022
    (there summed over units and scaled by the data set; here a mean, so that it does not depend on size).
    """
    return masked_mean(rate - filled(observed) * torch.log(rate + EPSILON), observed)


def gaussian_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Squared error: L = mean( (rate - observed)^2 ) over the entries of `observed` that are not NaN.

    Both (stimuli, units). Nothing observed: 0, with zero gradient.
    """
    return masked_mean((rate - filled(observed)).square(), observed)


def correlation_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """L = mean over units of 1 - r, r the Pearson correlation over the observed rows of the batch.

    r = cov(rate, observed) / sqrt( (var(rate) + 1e-8) var(observed) ), ddof 0 throughout, both (stimuli, units).
    Between 0 and 2. A constant prediction has r = 0. A unit that is observed fewer than twice, or is constant in
    this batch, is left out; if all are, 0, with zero gradient. The loss depends on the batch: a batch of few rows
    gives a noisy, biased r.
    """
    seen = ~observed.isnan()
    count = seen.sum(dim=0).clamp(min=1)
    a, b = _centred(rate, seen, count), _centred(filled(observed), seen, count)
    spread, size = b.square().sum(dim=0) / count, filled(observed).square().sum(dim=0) / count
    varies = spread > 1e-10 * size.clamp(min=1e-12)
    norms = ((a.square().sum(dim=0) / count + EPSILON) * torch.where(varies, spread, 1.0)).sqrt()
    r = (a * b).sum(dim=0) / count / norms
    return torch.where(varies, 1.0 - r, 0.0).sum() / varies.sum().clamp(min=1)


def zero_inflated_gamma_loss(q: Tensor, theta: Tensor, observed: Tensor, shape: Tensor) -> Tensor:
    """Mean negative log-density, in nats, over the entries of `observed` that are not NaN; rho = 0.005.

    q, theta, observed (stimuli, units); shape (units,), fixed before the fit. The density is that of responses in
    deviations, see `models.objectives.likelihoods.zero_inflated_gamma_log_density`; the term ln rho is part of it. Nothing
    observed: 0, with zero gradient.
    """
    return masked_mean(-zero_inflated_gamma_log_density(observed, q, theta, shape), observed)


def filled(observed: Tensor) -> Tensor:
    """`observed` with zeros where it is NaN: `masked_mean` then leaves those entries out."""
    return torch.where(observed.isnan(), 0.0, observed)


def masked_mean(terms: Tensor, observed: Tensor) -> Tensor:
    """Mean of `terms` where `observed` is not NaN; 0 where it is NaN throughout."""
    valid = ~observed.isnan()
    return torch.where(valid, terms, 0.0).sum() / valid.sum().clamp(min=1)


def _centred(values: Tensor, seen: Tensor, count: Tensor) -> Tensor:
    """Values less their mean over what was seen, 0 elsewhere."""
    mean = torch.where(seen, values, 0.0).sum(dim=0) / count
    return torch.where(seen, values - mean, 0.0)


def _drive_itself(drive: Tensor) -> Outcome:
    return (drive[..., 0],)


def _rate(drive: Tensor) -> Outcome:
    return (F.elu(drive[..., 0]) + 1.0,)


def _first(outcome: Outcome, shape: Tensor) -> Tensor:
    return outcome[0]


def _gamma_mean(outcome: Outcome, shape: Tensor) -> Tensor:
    return zero_inflated_gamma_mean(outcome[0], outcome[1], shape)


def _level_itself(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    return level[:, None]


def _rate_start(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    """The inverse of ELU + 1."""
    return torch.where(level >= 1.0, level - 1.0, level.clamp(min=LEAST).log())[:, None]


def _gamma_start(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    """q = the share of active responses, within [0.01, 0.99]; theta from `zero_inflated_gamma_mean` = level."""
    q = active.clamp(0.01, 0.99)
    theta = ((level - (1.0 - q) * RHO / 2.0) / q - RHO) / shape
    return torch.cat([torch.logit(q)[:, None], _rate_start(theta, active, shape)], dim=1)


LOSSES: dict[str, Loss] = {
    "poisson": Loss(lambda said, seen, _: poisson_loss(said[0], seen), _rate, _first, _rate_start, positive=True),
    "gaussian": Loss(lambda said, seen, _: gaussian_loss(said[0], seen), _drive_itself, _first, _level_itself),
    "correlation": Loss(
        lambda said, seen, _: correlation_loss(said[0], seen), _drive_itself, _first, _level_itself, scaleless=True
    ),
    "zero-inflated-gamma": Loss(
        lambda said, seen, shape: zero_inflated_gamma_loss(said[0], said[1], seen, shape),
        zig_links,
        _gamma_mean,
        _gamma_start,
        outputs=2,
        positive=True,
    ),
}
"""Name in an experiment -> loss."""
