"""The correlation loss. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.objectives.loss import EPSILON, Loss, Outcome, drive_itself, filled, first, level_itself

if TYPE_CHECKING:
    from torch import Tensor


def correlation_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Compute L = mean over units of 1 - r, r the Pearson correlation over the observed rows of the batch.

    r = cov(rate, observed) / sqrt( (var(rate) + 1e-8) var(observed) ), ddof 0 throughout, both (stimuli, units).
    Between 0 and 2. A constant prediction has r = 0. A unit that is observed fewer than twice, or is constant in
    this batch, is left out; if all are, 0, with zero gradient. The loss depends on the batch: a batch of few rows
    gives a noisy, biased r.
    """
    import torch

    valid = ~observed.isnan()
    count = valid.sum(dim=0).clamp(min=1)
    a, b = _centred(rate, valid, count), _centred(filled(observed), valid, count)
    spread, size = b.square().sum(dim=0) / count, filled(observed).square().sum(dim=0) / count
    varies = spread > 1e-10 * size.clamp(min=1e-12)
    norms = ((a.square().sum(dim=0) / count + EPSILON) * torch.where(varies, spread, 1.0)).sqrt()
    r = (a * b).sum(dim=0) / count / norms
    return torch.where(varies, 1.0 - r, 0.0).sum() / varies.sum().clamp(min=1)


def _centred(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """Subtract the mean over valid entries, 0 elsewhere."""
    import torch

    mean = torch.where(valid, values, 0.0).sum(dim=0) / count
    return torch.where(valid, values - mean, 0.0)


def _measure(outcome: Outcome, observed: Tensor, shape: Tensor) -> Tensor:
    return correlation_loss(outcome[0], observed)


LOSS = Loss(version=1, measure=_measure, link=drive_itself, mean=first, start=level_itself, scaleless=True)
