"""Ridge regression on the map, or on a sparse random projection of it."""

from __future__ import annotations

from models.component import Component, Parameter
from models.readouts.declarations.shared import ALPHA, LINEAR

UNPROJECTED = {"kernel": ("centred", "zscored")}

RIDGE = Component(
    target="models.linear.ridge:fit_ridge",
    version=1,
    fitted_by="ridge",
    parameters={
        "alpha": ALPHA,
        "pool": Parameter(7, "int", low=1),
        "delays": Parameter(0, "int", low=0, later=True),
        "layer": Parameter("fixed", "str", words=("fixed", "nested"), later=True),
        "refit": Parameter(True, "bool", later=True),
    },
    summary="linear, from the whole map averaged to at most pool x pool",
)

SRP_RIDGE = Component(
    target="models.linear.ridge:fit_ridge",
    version=1,
    fitted_by="ridge",
    parameters={
        "alpha": ALPHA,
        "eps": Parameter(0.1, "float", positive=True, high=0.99, idle=UNPROJECTED),
        "kernel": Parameter("projection", "str", words=("projection", "centred", "zscored")),
        "projection_seed": Parameter(0, "int", low=0, idle=UNPROJECTED),
        **LINEAR,
        "layer": Parameter("fixed", "str", words=("fixed", "nested")),
        "refit": Parameter(True, "bool"),
    },
    summary="ridge on a sparse random projection of the map, its columns z-scored on the training stimuli",
)
