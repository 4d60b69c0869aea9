"""What the backbones that wrap a model of transformers declare about themselves. Importing this imports no torch."""

from __future__ import annotations

from models.component import Component, Parameter

NETWORK = {
    "model": Parameter(None, "str"),
    "weights": Parameter("pretrained", "str", words=("pretrained", "random")),
}
"""`model` is a folder or a name on the hub and must be given."""

POOLING = {
    "pooling": Parameter("patches", "str", words=("patches", "mean", "max", "class", "projection")),
    "dimensions": Parameter(4096, "int", low=1, idle={"pooling": ("patches", "mean", "max", "class")}),
}

NORMALISE = {"normalise": Parameter(False, "bool")}


def _texts(token: str, words: tuple[str, ...], after: int) -> dict[str, Parameter]:
    """Parameters of a backbone of texts; all but `token` are about stories, see `sweeps.features.story_features`."""
    return {
        "token": Parameter(token, "str", words=words),
        "context": Parameter(20, "int", low=0),
        "after": Parameter(after, "int", low=0),
        "resample": Parameter("sum", "str", words=("sum", "mean")),
        "zscore": Parameter(True, "bool"),
    }


OF_IMAGES = {"weights": ("random",), "pooling": ("projection",)}
OF_TEXTS = {"weights": ("random",)}
CONTENT = ("model", "models.backbones.transformers.hub_files:fingerprint")

HUB: dict[str, Component] = {
    "autobackbone": Component(
        target="models.backbones.transformers.vision:AutoNetwork",
        version=1,
        content=CONTENT,
        parameters={**NETWORK, **POOLING},
        blocks="models.backbones.transformers.hub_files:stage_count",
        seeded=OF_IMAGES,
        summary="stages or layers of a ResNet, ConvNeXt, Swin, DINOv2, DINOv3, BEiT, ViT or DeiT of transformers",
    ),
    "clip-vision": Component(
        target="models.backbones.transformers.clip:ClipVision",
        version=2,
        content=CONTENT,
        parameters={**NETWORK, **POOLING, **NORMALISE},
        blocks="models.backbones.transformers.hub_files:clip_vision_count",
        seeded=OF_IMAGES,
        summary="layers of CLIP's vision tower, then its projected embedding",
    ),
    "clip-text": Component(
        target="models.backbones.transformers.clip:ClipText",
        version=2,
        content=CONTENT,
        parameters={**NETWORK, **_texts("last", ("last", "mean"), after=0), **NORMALISE},
        blocks="models.backbones.transformers.hub_files:clip_text_count",
        sees="texts",
        seeded=OF_TEXTS,
        summary="layers of CLIP's text tower, then its projected embedding",
    ),
    "bridgetower-vision": Component(
        target="models.backbones.transformers.bridgetower:BridgeTowerVision",
        version=1,
        content=CONTENT,
        parameters={**NETWORK, **POOLING},
        blocks="models.backbones.transformers.hub_files:bridgetower_vision_count",
        seeded=OF_IMAGES,
        summary="BridgeTower shown pictures with the empty text: vision layers, then cross-modal layers",
    ),
    "bridgetower-language": Component(
        target="models.backbones.transformers.bridgetower:BridgeTowerLanguage",
        version=1,
        content=CONTENT,
        parameters={**NETWORK, **_texts("mean", ("first", "last", "mean"), after=20)},
        blocks="models.backbones.transformers.hub_files:bridgetower_language_count",
        sees="texts",
        seeded=OF_TEXTS,
        summary="BridgeTower shown texts with a grey picture: text layers, then cross-modal layers",
    ),
    "language": Component(
        target="models.backbones.transformers.language:LanguageModel",
        version=1,
        content=CONTENT,
        parameters={**NETWORK, **_texts("last", ("last", "mean"), after=0)},
        blocks="models.backbones.transformers.hub_files:language_count",
        sees="texts",
        seeded=OF_TEXTS,
        summary="hidden states of a language model of transformers, causal or not",
    ),
}
"""Name -> backbone."""
