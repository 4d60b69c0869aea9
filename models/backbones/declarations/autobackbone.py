"""Networks of images of transformers."""

from __future__ import annotations

from models.backbones.declarations.shared import HUB_CONTENT, NETWORK, POOLING, RANDOM_OR_PROJECTED
from models.component import Component

COMPONENT = Component(
    target="models.backbones.transformers.vision:AutoNetwork",
    version=1,
    content=HUB_CONTENT,
    parameters={**NETWORK, **POOLING},
    blocks="models.backbones.transformers.hub_files:stage_count",
    seeded=RANDOM_OR_PROJECTED,
    summary="stages or layers of a ResNet, ConvNeXt, Swin, DINOv2, DINOv3, BEiT, ViT or DeiT of transformers",
)
