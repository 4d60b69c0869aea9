"""BridgeTower, shown pictures or texts."""

from __future__ import annotations

from models.backbones.declarations.shared import HUB_CONTENT, NETWORK, POOLING, RANDOM, RANDOM_OR_PROJECTED, texts
from models.component import Component

VISION = Component(
    target="models.backbones.transformers.bridgetower:BridgeTowerVision",
    version=1,
    content=HUB_CONTENT,
    parameters={**NETWORK, **POOLING},
    blocks="models.backbones.transformers.hub_files:bridgetower_vision_count",
    seeded=RANDOM_OR_PROJECTED,
    summary="BridgeTower shown pictures with the empty text: vision layers, then cross-modal layers",
)

LANGUAGE = Component(
    target="models.backbones.transformers.bridgetower:BridgeTowerLanguage",
    version=1,
    content=HUB_CONTENT,
    parameters={**NETWORK, **texts("mean", ("first", "last", "mean"), after=20)},
    blocks="models.backbones.transformers.hub_files:bridgetower_language_count",
    sees="texts",
    seeded=RANDOM,
    summary="BridgeTower shown texts with a grey picture: text layers, then cross-modal layers",
)
