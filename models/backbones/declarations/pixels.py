"""The image itself."""

from __future__ import annotations

from models.component import Component

COMPONENT = Component(
    target="models.backbones.pixels:Pixels",
    version=1,
    blocks=1,
    summary="the image itself",
)
