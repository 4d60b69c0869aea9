"""The factorised readout."""

from __future__ import annotations

from models.component import Component, Parameter
from models.objectives.losses import LOSSES
from models.readouts.declarations.shared import REFIT, TRAINING

COMPONENT = Component(
    target="models.readouts.factorised:FactorisedReadout",
    version=1,
    fitted_by="gradient",
    parameters={
        "loss": Parameter("poisson", "str", words=LOSSES),
        "l1": Parameter(0.01, "float", low=0),
        "mask_l1": Parameter(0.01, "float", low=0),
        "laplace": Parameter(0.01, "float", low=0),
        "group": Parameter(0.0, "float", low=0),
        "group_over": Parameter("channels", "str", words=("channels", "units"), idle={"group": (0,)}),
        "bias": Parameter(True, "bool"),
        **TRAINING,
        **REFIT,
    },
    summary="a mask over positions and a weight per channel for every unit",
)
