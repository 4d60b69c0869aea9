"""The small convolutional core."""

from __future__ import annotations

from models.backbones.declarations.shared import TRAINER, training
from models.component import Component, Parameter

COMPONENT = Component(
    target="models.backbones.cores.conv:ConvCore",
    version=2,
    parameters={
        "layers": Parameter(3, "int", low=1, high=8),
        "channels": Parameter(16, "int", low=1),
        "kernel": Parameter(7, "int", low=1, odd=True),
        "smoothness": Parameter(0.0, "float", low=0),
        **training(learning_rate=0.005, epochs=60, patience=8),
    },
    blocks="layers",
    trained=True,
    readouts=("gaussian",),
    idle=TRAINER,
    summary="a small convolutional core, trained together with its readouts",
)
