"""The readouts by name: one file and one line in `READOUTS` each. Importing this imports no torch."""

from __future__ import annotations

from models.component import Component, Parameter

READOUTS: dict[str, Component] = {
    "ridge": Component(
        target="models.ridge:fit_ridge",
        version=1,
        fitted_by="ridge",
        parameters={
            "alpha": Parameter("auto", "float", words=("auto",), positive=True),
            "pool": Parameter(7, "int", low=1),
        },
        summary="linear, from the whole map averaged to at most pool x pool",
    ),
    "gaussian": Component(
        target="models.readouts.gaussian:GaussianReadout",
        version=1,
        fitted_by="gradient",
        parameters={
            "loss": Parameter("poisson", "str", words=("poisson", "gaussian")),
            "l1": Parameter(0.01, "float", low=0),
            "learning_rate": Parameter(0.01, "float", positive=True),
            "epochs": Parameter(100, "int", low=1),
            "patience": Parameter(8, "int", low=1),
            "pool": Parameter(14, "int", low=1),
        },
        summary="one learned position per unit; frozen maps are averaged to at most pool x pool first",
    ),
}
