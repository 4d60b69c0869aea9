"""The residual MLP readout."""

from __future__ import annotations

from models.component import Component, Parameter
from models.objectives.losses import LOSSES
from models.readouts.declarations.shared import REFIT, TRAINING

COMPONENT = Component(
    target="models.readouts.mlp:MlpReadout",
    version=1,
    fitted_by="gradient",
    parameters={
        "loss": Parameter("gaussian", "str", words=LOSSES),
        "hidden": Parameter(1024, "int", low=1),
        "activation": Parameter("relu", "str", words=("relu", "leaky_relu", "gelu", "swish", "tanh", "none")),
        "bias": Parameter(False, "bool"),
        "l1": Parameter(0.0, "float", low=0),
        "weight_decay": Parameter(0.01, "float", low=0),
        "batch": Parameter("all", "int", words=("all",), low=1),
        **TRAINING,
        "learning_rate": Parameter(0.001, "float", positive=True),
        "epochs": Parameter(512, "int", low=1),
        "pool": Parameter(7, "int", low=1),
        **REFIT,
    },
    summary="a residual multilayer perceptron on the whole map averaged to at most pool x pool, for all units",
)
