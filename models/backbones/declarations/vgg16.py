"""VGG16."""

from __future__ import annotations

from models.backbones.declarations.shared import RANDOM, WEIGHTS
from models.component import Component, Parameter

COMPONENT = Component(
    target="models.backbones.vgg16:Vgg16",
    version=1,
    parameters={
        "weights": Parameter(
            "random", "str", words=("random",), pattern=r".+\.safetensors", form="the path of a .safetensors file"
        ),
        "preprocessing": Parameter("torch", "str", words=("torch", "keras")),
        "pooling": Parameter("max", "str", words=("max", "average")),
    },
    blocks=5,
    content=WEIGHTS,
    seeded=RANDOM,
    summary="the 5 convolutional blocks of VGG16, random or with weights from a file",
)
