"""The two towers of CLIP."""

from __future__ import annotations

from models.backbones.declarations.shared import (
    HUB_CONTENT,
    NETWORK,
    NORMALISE,
    POOLING,
    RANDOM,
    RANDOM_OR_PROJECTED,
    texts,
)
from models.component import Component

VISION = Component(
    target="models.backbones.transformers.clip:ClipVision",
    version=2,
    content=HUB_CONTENT,
    parameters={**NETWORK, **POOLING, **NORMALISE},
    blocks="models.backbones.transformers.hub_files:clip_vision_count",
    seeded=RANDOM_OR_PROJECTED,
    summary="layers of CLIP's vision tower, then its projected embedding",
)

TEXT = Component(
    target="models.backbones.transformers.clip:ClipText",
    version=2,
    content=HUB_CONTENT,
    parameters={**NETWORK, **texts("last", ("last", "mean"), after=0), **NORMALISE},
    blocks="models.backbones.transformers.hub_files:clip_text_count",
    sees="texts",
    seeded=RANDOM,
    summary="layers of CLIP's text tower, then its projected embedding",
)
