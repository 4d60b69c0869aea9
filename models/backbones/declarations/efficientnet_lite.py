"""EfficientNet-lite 0 to 2."""

from __future__ import annotations

from models.backbones.declarations.shared import RANDOM
from models.component import Component, Parameter

PARAMETERS = {"weights": Parameter("imagenet", "str", words=("imagenet", "random"))}

LITE0 = Component(
    target="models.backbones.efficientnet_lite:EfficientNetLite0",
    version=1,
    parameters=PARAMETERS,
    blocks=16,
    seeded=RANDOM,
    summary="the 16 blocks of EfficientNet-lite0, trained on ImageNet or left random",
)

LITE1 = Component(
    target="models.backbones.efficientnet_lite:EfficientNetLite1",
    version=1,
    parameters=PARAMETERS,
    blocks=21,
    seeded=RANDOM,
    summary="the 21 blocks of EfficientNet-lite1, trained on ImageNet or left random",
)

LITE2 = Component(
    target="models.backbones.efficientnet_lite:EfficientNetLite2",
    version=1,
    parameters=PARAMETERS,
    blocks=21,
    seeded=RANDOM,
    summary="the 21 blocks of EfficientNet-lite2, wider than those of lite1",
)
