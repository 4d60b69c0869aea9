"""The losses of gradient readouts by name: one file and one line in `LOSSES` each. Importing this imports no torch."""

from __future__ import annotations

from models.objectives.loss import Loss
from models.registry import Registry

LOSSES: Registry[Loss] = Registry(
    "losses",
    Loss,
    {
        "poisson": "models.objectives.poisson:LOSS",
        "gaussian": "models.objectives.gaussian:LOSS",
        "correlation": "models.objectives.correlation:LOSS",
        "zero-inflated-gamma": "models.objectives.zero_inflated_gamma:LOSS",
    },
)
"""Name in an experiment -> loss."""
