"""Language models of transformers."""

from __future__ import annotations

from models.backbones.declarations.shared import HUB_CONTENT, NETWORK, RANDOM, texts
from models.component import Component

COMPONENT = Component(
    target="models.backbones.transformers.language:LanguageModel",
    version=1,
    content=HUB_CONTENT,
    parameters={**NETWORK, **texts("last", ("last", "mean"), after=0)},
    blocks="models.backbones.transformers.hub_files:language_count",
    sees="texts",
    seeded=RANDOM,
    summary="hidden states of a language model of transformers, causal or not",
)
