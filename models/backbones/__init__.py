"""The backbones by name: a declaration and one line in `BACKBONES` each. Importing this imports no torch.

Every backbone of images is a `torch.nn.Module` made by `Class(parameters, seed)` with

    forward_blocks(images, blocks) -> list[Tensor]

images (stimuli, 3, height, width) float32 in [0, 1], red green blue -> one map (stimuli, channels, h, w) for
each requested block, in the requested order. It normalises its input itself and computes no block deeper than the
deepest requested. Frozen ones are in evaluation mode and need no gradient; a map may lie in memory with
its channels last. A backbone that sees texts has `forward_texts(texts, blocks)` instead: a list of texts -> one
tensor (texts, channels) for each requested block, by the same rules.
"""

from __future__ import annotations

from models.component import Component
from models.registry import Registry

BACKBONES: Registry[Component] = Registry(
    "backbones",
    Component,
    {
        "efficientnet-lite0": "models.backbones.declarations.efficientnet_lite:LITE0",
        "efficientnet-lite1": "models.backbones.declarations.efficientnet_lite:LITE1",
        "efficientnet-lite2": "models.backbones.declarations.efficientnet_lite:LITE2",
        "pixels": "models.backbones.declarations.pixels:COMPONENT",
        "features": "models.backbones.declarations.features:COMPONENT",
        "conv": "models.backbones.declarations.conv:COMPONENT",
        "factorised3d": "models.backbones.declarations.factorised3d:COMPONENT",
        "stacked2d": "models.backbones.declarations.stacked2d:COMPONENT",
        "sheet": "models.backbones.declarations.sheet:COMPONENT",
        "vgg16": "models.backbones.declarations.vgg16:COMPONENT",
        "eccentric": "models.backbones.declarations.eccentric:COMPONENT",
        "autobackbone": "models.backbones.declarations.autobackbone:COMPONENT",
        "clip-vision": "models.backbones.declarations.clip:VISION",
        "clip-text": "models.backbones.declarations.clip:TEXT",
        "bridgetower-vision": "models.backbones.declarations.bridgetower:VISION",
        "bridgetower-language": "models.backbones.declarations.bridgetower:LANGUAGE",
        "language": "models.backbones.declarations.language:COMPONENT",
    },
)
"""Name -> backbone."""
