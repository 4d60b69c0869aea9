"""Networks with eccentric pooling."""

from __future__ import annotations

from models.backbones.declarations.shared import RANDOM, WEIGHTS
from models.component import Component, Parameter

NOT_ECCENTRIC = {"slopes_scale": (0,)}

COMPONENT = Component(
    target="models.backbones.eccentric:Eccentric",
    version=1,
    parameters={
        "base": Parameter(
            "efficientnet-lite0",
            "str",
            words=("vgg16", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
        ),
        "weights": Parameter(
            "imagenet",
            "str",
            words=("imagenet", "random"),
            pattern=r".+\.safetensors",
            form="the path of a .safetensors file",
        ),
        "preprocessing": Parameter("torch", "str", words=("torch", "keras")),
        "pooling": Parameter("average", "str", words=("average", "max")),
        "slopes_scale": Parameter(1.0, "float", low=0),
        "fovea": Parameter(4.0, "float", low=0, idle=NOT_ECCENTRIC),
        "ring": Parameter(1.0, "float", positive=True, idle=NOT_ECCENTRIC),
        "pixels_per_degree": Parameter(30.0, "float", positive=True, idle=NOT_ECCENTRIC),
    },
    blocks="models.backbones.eccentricity:block_count",
    content=WEIGHTS,
    seeded=RANDOM,
    summary="a network whose pooling windows grow with the distance from the image's centre",
)
