"""What a loss is: the class that declares one, and what several losses share. Importing this imports no torch.

Every loss is a mean over the entries that were observed (`correlation`: over units), so that its size depends
neither on the number of stimuli nor on that of the units. All is in deviations: a response divided by s, the
standard deviation of its unit over the train rows, see `models.training.gradient_fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-8
"""Added to a rate before its logarithm is taken, as in Sensorium's Poisson loss, and to a prediction's variance."""

LEAST = 1e-3
"""Mean responses below this many deviations count as that many when a bias is chosen: no rate starts at zero."""

Outcome: TypeAlias = "tuple[Tensor, ...]"
"""Output parameters of a readout for each entry: (rate,), or (q, theta)."""


@dataclass(frozen=True)
class Loss:
    """A loss by its parts, which are functions of tensors; a loss fixes the readout's output parameters.

    `outputs`: drives that a readout gives for each unit. `link`: drives (..., outputs) -> outcome, each (...).
    `mean`: (outcome, shape) -> expected response (...), where `shape` (units,) is the gamma's k and otherwise
    means nothing. `start`: (level, active, shape), each (units,), -> drives (units, outputs) at which the expected
    response is `level`; `active` is the share of responses above rho. `measure`: (outcome, observed, shape) ->
    the loss, a scalar; `observed` (rows, units) is NaN where nothing was observed. `positive` losses refuse
    negative responses. A `scaleless` one does not know the responses' scale and mean: they are set after the fit.
    Raise `version` when, and only when, the numbers that it gives change.
    """

    measure: Callable[[Outcome, Tensor, Tensor], Tensor]
    link: Callable[[Tensor], Outcome]
    mean: Callable[[Outcome, Tensor], Tensor]
    start: Callable[[Tensor, Tensor, Tensor], Tensor]
    outputs: int = 1
    positive: bool = False
    scaleless: bool = False
    version: int = 1


def filled(observed: Tensor) -> Tensor:
    """Put zeros where `observed` is NaN: `masked_mean` then leaves those entries out."""
    import torch

    return torch.where(observed.isnan(), 0.0, observed)


def masked_mean(terms: Tensor, observed: Tensor) -> Tensor:
    """Average `terms` where `observed` is not NaN; 0 where it is NaN throughout."""
    import torch

    valid = ~observed.isnan()
    return torch.where(valid, terms, 0.0).sum() / valid.sum().clamp(min=1)


def drive_itself(drive: Tensor) -> Outcome:
    """Take the drive (..., 1) as the response: (...,)."""
    return (drive[..., 0],)


def level_itself(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    """Start at the level: the inverse of `drive_itself`."""
    return level[:, None]


def rate_start(level: Tensor, active: Tensor, shape: Tensor) -> Tensor:
    """Invert ELU + 1 at the level, which counts as `LEAST` at least."""
    import torch

    return torch.where(level >= 1.0, level - 1.0, level.clamp(min=LEAST).log())[:, None]


def first(outcome: Outcome, shape: Tensor) -> Tensor:
    """Take the first output parameter, a rate, as the expected response."""
    return outcome[0]
