"""BridgeTower shown one modality alone: a text with a neutral grey picture, or a picture with the empty text.

Depth runs over the uni-modal layers of the shown modality's tower (0 = what enters its first layer), then over the
cross-modal layers, of which the shown modality's own output is read. Source of that protocol: Tang et al. 2023
(cross-modal transfer of encoding models), in a replication's account of it. Grey = 0.5 before the model's
normalisation, at the size that the model was trained with; which tokens are pooled, and how, is a choice of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.blocks import check_images
from models.backbones.transformers.hooks import Tap, chain, first, run_until
from models.backbones.transformers.hub_files import pixel_statistics
from models.backbones.transformers.language import Reader
from models.backbones.transformers.loading import load_config, load_network
from models.backbones.transformers.token_pooling import Pooler, pool_texts
from models.backbones.transformers.vision import patch_grid

GREY = 0.5
"""Brightness of the picture that stands for none."""

TOWERS = {
    "vision": {
        "whole": "vision_model",
        "layers": "vision_model.visual.transformer.resblocks",
        "crossed": "cross_modal_image_layers",
    },
    "text": {"whole": "text_model", "layers": "text_model.encoder.layer", "crossed": "cross_modal_text_layers"},
}
"""Names of a side's tower, of its layers and of its cross-modal layers in the network of transformers."""


class BridgeTower(nn.Module):
    """The whole network, frozen, and what it takes to show it a picture and a text; `side` is vision or text."""

    def __init__(self, parameters: Mapping[str, Any], seed: int, side: str) -> None:
        super().__init__()
        from transformers import BridgeTowerConfig, BridgeTowerModel

        model = parameters["model"]
        self.config = load_config(model, BridgeTowerConfig, {})
        self.statistics = pixel_statistics(model)
        self.read = Reader(model, self.config.text_config, keep="start")
        self.network = load_network(model, BridgeTowerModel, self.config, parameters["weights"], seed)
        self.side, self.towers = side, TOWERS[side]
        self.own = len(self._layers("layers"))
        self.bridged = self.config.text_config.num_hidden_layers - self.config.num_hidden_layers + 1
        self.eval()

    def _layers(self, part: str) -> nn.ModuleList:
        layers = self.network.get_submodule(self.towers[part])
        assert isinstance(layers, nn.ModuleList)
        return layers

    def states(self, images: Tensor, texts: Sequence[str], blocks: Sequence[int]) -> tuple[dict[int, Any], Tensor]:
        """What the modules of the requested blocks give, and the mask of the texts' tokens.

        Cross-modal layer k needs layers up to bridged + k of a tower, so one pass of the whole network has those too;
        what is requested of a tower beyond them is computed by the tower alone.
        """
        ids, mask = self.read(texts, next(self.network.parameters()).device)
        pixels = self.statistics.apply(images)
        taps = [*chain(self._layers("layers")), *(Tap(layer) for layer in self._layers("crossed"))]
        reached = max(blocks, default=0) - self.own - 1 + self.bridged
        alone = [block for block in blocks if block <= self.own and (max(blocks) <= self.own or block > reached)]
        joint = [block for block in blocks if block not in alone]
        values = run_until(lambda: self._tower(pixels, ids, mask), taps, alone)
        return values | run_until(lambda: self._network(pixels, ids, mask), taps, joint), mask

    def _network(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> None:
        self.network(input_ids=ids, attention_mask=mask, pixel_values=pixels, interpolate_pos_encoding=True)

    def _tower(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> None:
        """One tower alone: its layers give what they give in the whole network."""
        tower = self.network.get_submodule(self.towers["whole"])
        if self.side == "vision":
            tower(pixels, None, interpolate_pos_encoding=True)
        else:
            tower(input_ids=ids, attention_mask=mask)


class BridgeTowerVision(BridgeTower):
    """Pictures with the empty text: maps of the vision tower's layers, then of the cross-modal image layers.

    Images may have any size from one patch on, since position embeddings are interpolated. `model`, `weights`,
    `pooling`, `dimensions`: as for `autobackbone`.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__(parameters, seed, "vision")
        self.pooler = Pooler(parameters, seed)

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`); gradients flow to the images where they ask."""
        check_images(images)
        grid = patch_grid(images, self.config.vision_config.patch_size)
        values, _ = self.states(images, [""] * len(images), blocks)
        tokens = {  # in the tower the tokens come first, then the stimuli
            block: first(value) if block > self.own else first(value).transpose(0, 1) for block, value in values.items()
        }
        return [self.pooler.tokens(tokens[block], grid) for block in blocks]


class BridgeTowerLanguage(BridgeTower):
    """Texts with a grey picture: vectors of the text tower's layers, then of the cross-modal text layers.

    `token` says which of a text's tokens stand for it: their `mean`, the `last`, or the `first`, which the model's own
    heads read and which is the same for every text at block 0. Of texts that are too long the start is read. `model`,
    `weights`: as for `autobackbone`.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__(parameters, seed, "text")
        self.token = str(parameters["token"])

    def forward_texts(self, texts: Sequence[str], blocks: Sequence[int]) -> list[Tensor]:
        """Vectors (texts, channels) of the requested blocks, in the requested order (see `models.backbones`)."""
        side = int(self.config.vision_config.image_size)
        grey = torch.full((len(texts), 3, side, side), GREY, device=next(self.network.parameters()).device)
        values, mask = self.states(grey, texts, blocks)
        return [pool_texts(first(values[block]), mask, self.token) for block in blocks]
