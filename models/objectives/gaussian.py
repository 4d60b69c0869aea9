"""The Gaussian loss: squared error. Importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.objectives.loss import Loss, Outcome, drive_itself, filled, first, level_itself, masked_mean

if TYPE_CHECKING:
    from torch import Tensor


def gaussian_loss(rate: Tensor, observed: Tensor) -> Tensor:
    """Compute the squared error: L = mean( (rate - observed)^2 ) over the entries of `observed` that are not NaN.

    Both (stimuli, units). Nothing observed: 0, with zero gradient.
    """
    return masked_mean((rate - filled(observed)).square(), observed)


def _measure(outcome: Outcome, observed: Tensor, shape: Tensor) -> Tensor:
    return gaussian_loss(outcome[0], observed)


LOSS = Loss(version=1, measure=_measure, link=drive_itself, mean=first, start=level_itself)
