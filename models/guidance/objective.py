"""What synthesised pictures are to drive: the mean of an area, or one area against another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Responses = Callable[[Tensor], Tensor]
"""Pictures (n, 3, h, w) in [0, 1] -> responses (n, units), differentiable; NaN where a unit is not predicted."""


@dataclass(frozen=True)
class AreaMean:
    """Predicted activity of an area: the weighted mean over the units that are predicted.

        A(I) = (sum_u w_u r_u(I) / sum_u w_u - centre) / scale,  u over the units whose r_u(I) is finite

    A unit that is not predicted counts in neither sum: counted as 0 it would dilute the gradient, by another factor
    in every area. `weights` (units,) are from 0 up, all equal when None. `centre` and `scale` are mean and standard
    deviation of the area's mean over natural pictures where activity is to be in their units.
    Raises ValueError for a scale that is not above 0, for weights below 0, and where no unit with a weight is
    predicted.
    """

    responses: Responses
    weights: Tensor | None = None
    centre: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"centre must be finite and scale above 0, not {self.centre} and {self.scale}")
        if self.weights is not None and not bool((self.weights >= 0).all()):
            raise ValueError(f"weights of units must be numbers from 0 up; the lowest is {float(self.weights.min())}")

    def __call__(self, pictures: Tensor) -> Tensor:
        """Activity (n,) of pictures (n, 3, h, w)."""
        responses = self.responses(pictures)
        predicted = responses.isfinite()
        weights = predicted * (1.0 if self.weights is None else self.weights.to(responses))
        total = weights.sum(dim=1)
        if not bool((total > 0).all()):
            raise ValueError(f"no unit of {responses.shape[1]} has a weight and a finite prediction")
        mean = (weights * torch.where(predicted, responses, 0.0)).sum(dim=1) / total
        return (mean - self.centre) / self.scale


@dataclass(frozen=True)
class Objective:
    """The number that is to rise: `target`, or the contrast A(I) - weight B(I) with B = `against`."""

    target: AreaMean
    against: AreaMean | None = None
    weight: float = 1.0

    def __call__(self, pictures: Tensor) -> Tensor:
        """Values (n,) of pictures (n, 3, h, w)."""
        value = self.target(pictures)
        return value if self.against is None else value - self.weight * self.against(pictures)


def gradient_of(values: Tensor, inputs: Tensor) -> Tensor:
    """d(sum of values) / d(inputs): every picture's own gradient, whatever else is in the batch.

    Raises FloatingPointError where it is not finite, such as behind a unit whose weights are NaN.
    """
    (gradient,) = torch.autograd.grad(values.sum(), inputs)
    bad = int((~gradient.isfinite()).flatten(1).any(dim=1).sum())
    if bad:
        raise FloatingPointError(f"the gradient of {bad} of {len(gradient)} pictures is not finite")
    return gradient


def unit_norm(gradient: Tensor) -> Tensor:
    """Every picture's gradient (n, ...) divided by its Euclidean norm; a gradient of 0 stays 0."""
    norm = gradient.flatten(1).norm(dim=1)
    return gradient / torch.where(norm > 0, norm, 1.0).reshape(-1, *[1] * (gradient.ndim - 1))
