"""The Gaussian readout."""

from __future__ import annotations

from models.component import Component, Parameter
from models.objectives.losses import LOSSES
from models.readouts.declarations.shared import TRAINING

COMPONENT = Component(
    target="models.readouts.gaussian:GaussianReadout",
    version=1,
    fitted_by="gradient",
    parameters={
        "loss": Parameter("poisson", "str", words=LOSSES),
        "l1": Parameter(0.01, "float", low=0),
        **TRAINING,
        "covariance": Parameter("uncorrelated", "str", words=("isotropic", "uncorrelated", "full"), later=True),
        "position": Parameter("free", "str", words=("free", "coordinates"), later=True),
        "position_l1": Parameter(0.0, "float", low=0, later=True, idle={"position": ("free",)}),
        "position_pull": Parameter(0.0, "float", low=0, later=True, idle={"position": ("coordinates",)}),
        "position_anchor": Parameter(
            "centre",
            "str",
            words=("centre", "coordinates"),
            later=True,
            idle={"position_pull": (0,), "position": ("coordinates",)},
        ),
        "group": Parameter(0.0, "float", low=0, later=True),
        "group_over": Parameter("channels", "str", words=("channels", "units"), later=True, idle={"group": (0,)}),
        "bias": Parameter(True, "bool", later=True),
        "balance": Parameter("none", "str", words=("none", "areas"), later=True, joint=True),
        "refit": Parameter(False, "bool", later=True),
    },
    summary="one learned position per unit; frozen maps are averaged to at most pool x pool first",
)
