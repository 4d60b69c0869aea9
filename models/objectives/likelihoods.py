"""How probable responses are under a twin, as torch functions that gradients pass through.

`metrics.prediction.likelihood` has the same densities for scoring; these are for fitting and for sampling from a fit.
Parameters broadcast against the responses, so a leading axis may hold samples of latent variables.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

RHO = 0.005
"""Responses up to this are "zero": the threshold of the zero-inflated gamma, in the unit of the responses."""

FLOOR = 1e-6
"""Added to a rate, to theta and to q, so that none is exactly zero."""

CAP = 80.0
"""Largest shape k: a gamma of that shape is a normal of 11 % deviation, and sharper ones make gradients explode."""

NEWTON = 30
"""Newton steps for k: four or five are enough from the starting value that is used."""


def poisson_log_density(observed: Tensor, rate: Tensor) -> Tensor:
    """y ln r - r - ln Gamma(y + 1), elementwise, in nats.

    The rate must be positive; a response need not be whole. NaN (not observed) gives NaN, through which no
    gradient passes once it is masked. Source: the Poisson distribution, with its normalising term.

    >>> poisson_log_density(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0])).tolist()
    [-2.0, -1.0]
    """
    missing = observed.isnan()
    value = torch.where(missing, 0.0, observed)
    logs = torch.xlogy(value, rate) - rate - torch.lgamma(value + 1.0)
    return torch.where(missing, torch.nan, logs)


def zero_inflated_gamma_log_density(
    observed: Tensor, q: Tensor, theta: Tensor, k: Tensor, rho: float = RHO, constant: bool = True
) -> Tensor:
    """ln p(y), elementwise, in nats: uniform up to rho with probability 1 - q, a shifted gamma above it.

        p(y) = (1 - q) / rho                          for 0 <= y <= rho
        p(y) = q Gamma(y - rho; shape k, scale theta) for y > rho

    q in (0, 1); theta, k positive; all broadcast with `observed`. `constant=False` leaves -ln rho out of the
    first line, which moves no gradient: it is then smaller by 5.3 nats there, and no density. NaN (not observed)
    gives NaN, through which no gradient passes once it is masked. Source: Wei et al. 2020 (zero-inflated gamma
    of calcium responses), with the uniform part of Schmidt et al. (arXiv 2410.16136).

    >>> half, one = torch.tensor(0.5), torch.tensor(1.0)
    >>> logs = zero_inflated_gamma_log_density(torch.tensor([0.0, 1.5]), half, one, one, rho=0.5)
    >>> [round(value, 3) for value in logs.tolist()]
    [0.0, -1.693]
    """
    above = observed > rho
    excess = torch.where(above, observed - rho, 1.0)
    high = q.log() + (k - 1.0) * excess.log() - excess / theta - k * theta.log() - torch.lgamma(k)
    low = torch.log1p(-q) - (math.log(rho) if constant else 0.0)
    return torch.where(observed.isnan(), torch.nan, torch.where(above, high, low))


def zero_inflated_gamma_mean(q: Tensor, theta: Tensor, k: Tensor, rho: float = RHO) -> Tensor:
    """q (k theta + rho) + (1 - q) rho / 2, elementwise, in the unit of the responses.

    >>> zero_inflated_gamma_mean(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0), rho=1.0).item()
    7.0
    """
    return q * (k * theta + rho) + (1.0 - q) * rho / 2.0


def zero_inflated_gamma_variance(q: Tensor, theta: Tensor, k: Tensor, rho: float = RHO) -> Tensor:
    """q k theta^2 + (1 - q) rho^2 / 12 + q (1 - q) (k theta + rho / 2)^2, by the law of total variance.

    >>> zero_inflated_gamma_variance(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)).item()
    12.0
    """
    within = q * k * theta.square() + (1.0 - q) * rho**2 / 12.0
    return within + q * (1.0 - q) * (k * theta + rho / 2.0).square()


def zig_links(drives: Tensor) -> tuple[Tensor, Tensor]:
    """(q, theta) of drives (..., 2): q = 0.99999 sigmoid(a) + 1e-6, theta = ELU(b) + 1 + 1e-6.

    q lies within (0, 1) and theta above 0 for every drive. Source: Schmidt et al., as released.

    >>> [round(value.item(), 4) for value in zig_links(torch.zeros(2))]
    [0.5, 1.0]
    """
    return 0.99999 * torch.sigmoid(drives[..., 0]) + FLOOR, rate_link(drives[..., 1])


def rate_link(drive: Tensor) -> Tensor:
    """ELU(drive) + 1 + 1e-6: positive for every drive, elementwise."""
    return F.elu(drive) + 1.0 + FLOOR


@torch.no_grad()
def fit_gamma_shape(responses: Tensor, rho: float = RHO, cap: float = CAP) -> Tensor:
    """The shape k of each unit's gamma, by maximum likelihood with its location at rho; (units,).

        ln k - digamma(k) = ln mean(x) - mean(ln x),  x = y - rho over the responses above rho

    responses (rows, units) in the recording's own unit, NaN = not observed: give the train rows only, since k
    is fixed before the twin is fitted. k is held at `cap`, which is also what a unit gets whose responses above
    rho are all equal; a unit without any gets 1. Source: Schmidt et al. fit it with
    `scipy.stats.gamma.fit(floc=rho)` to responses from rho on; one of exactly rho, whose excess has no
    logarithm, is left out here.

    >>> fit_gamma_shape(torch.tensor([[0.0, 0.0], [2.005, 0.0], [2.005, 0.0]])).tolist()
    [80.0, 1.0]
    """
    values = responses.double()
    active = values > rho
    excess = torch.where(active, values - rho, torch.nan)
    gap = excess.nanmean(dim=0).log() - excess.log().nanmean(dim=0)
    shape = _solved(gap.nan_to_num(nan=1.0).clamp(min=1e-12), cap)
    return torch.where(active.any(dim=0), shape, 1.0).to(responses)


def _solved(gap: Tensor, cap: float) -> Tensor:
    """k with ln k - digamma(k) = gap, at most `cap`. Newton in 1/k, from Minka's closed-form start (2002)."""
    shape = (3.0 - gap + ((gap - 3.0).square() + 24.0 * gap).sqrt()) / (12.0 * gap)
    for _ in range(NEWTON):
        slope = shape - shape.square() * torch.polygamma(1, shape)
        shape = 1.0 / (1.0 / shape + (shape.log() - torch.digamma(shape) - gap) / slope)
    return shape.clamp(max=cap)
