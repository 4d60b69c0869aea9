"""The image as its own features: the floor that any network has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.backbones.blocks import check_images, run_blocks


class Pixels(nn.Module):
    """One block, the identity: the map is the image (stimuli, 3, height, width) in [0, 1]."""

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        self.eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """The images, once for each requested block (only block 0 exists)."""
        check_images(images)
        return run_blocks([lambda image: image], images, blocks)
