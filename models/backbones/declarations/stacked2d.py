"""The core of the Sensorium 2022 baseline."""

from __future__ import annotations

from models.backbones.declarations.shared import JOINT, TRAINER, training
from models.component import Component, Parameter

COMPONENT = Component(
    target="models.backbones.cores.stacked2d:Stacked2d",
    version=2,
    parameters={
        "layers": Parameter(4, "int", low=1, high=16),
        "channels": Parameter(64, "int", low=1),
        "kernel_first": Parameter(9, "int", low=1, odd=True),
        "kernel_then": Parameter(7, "int", low=1, odd=True),
        "smoothness": Parameter(0.0, "float", low=0),
        **training(learning_rate=0.009, epochs=200, patience=5),
        "decays": Parameter(3, "int", low=0),
        "batch": Parameter(128, "int", low=1),
        **JOINT,
    },
    blocks="layers",
    trained=True,
    readouts=("gaussian", "factorised"),
    idle=TRAINER,
    summary="the Sensorium 2022 baseline's core: separable convolutions, trained together with its readouts",
)
