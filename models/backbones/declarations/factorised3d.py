"""The core of clips with factorised convolutions."""

from __future__ import annotations

from models.backbones.cores.channels import CHANNELS
from models.backbones.declarations.shared import JOINT, TRAINER, training
from models.component import Component, Parameter

COMPONENT = Component(
    target="models.backbones.cores.factorised3d:Factorised3d",
    version=2,
    parameters={
        "channels": Parameter(
            "16-32-64-128-256-128-128-128", "str", pattern=CHANNELS, form="channels of every block such as 16-32-64"
        ),
        "spatial_first": Parameter(11, "int", low=1, odd=True),
        "spatial_then": Parameter(5, "int", low=1, odd=True),
        "temporal_first": Parameter(11, "int", low=1),
        "temporal_then": Parameter(5, "int", low=1),
        "padding": Parameter("causal", "str", words=("causal", "none")),
        "middle_norm": Parameter(True, "bool"),
        "momentum": Parameter(0.01, "float", positive=True, high=1),
        "two_streams": Parameter(False, "bool"),
        "smoothness": Parameter(0.0, "float", low=0),
        "temporal_smoothness": Parameter(0.0, "float", low=0),
        **training(learning_rate=0.005, epochs=200, patience=8),
        "decays": Parameter(4, "int", low=0),
        "warmup": Parameter(10, "int", low=0),
        "weight_decay": Parameter(0.01, "float", low=0),
        "batch": Parameter(8, "int", low=1),
        "frames": Parameter(80, "int", low=1),
        **JOINT,
    },
    blocks="models.backbones.cores.channels:factorised_depths",
    frames_back="models.backbones.cores.channels:frames_back",
    sees="clips",
    trained=True,
    readouts=("gaussian", "factorised", "latent"),
    idle=TRAINER,
    summary="convolutions over space, then time, for clips, trained together with its readouts",
)
