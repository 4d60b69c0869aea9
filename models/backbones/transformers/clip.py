"""The two towers of CLIP, read at every layer and at the embedding that pictures and texts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.blocks import check_images
from models.backbones.transformers.hooks import chain, first, run_until
from models.backbones.transformers.hub_files import clip_text_count, clip_vision_count, pixel_statistics, read_config
from models.backbones.transformers.language import Reader
from models.backbones.transformers.loading import load_config, load_network
from models.backbones.transformers.token_pooling import Pooler, pool_texts
from models.backbones.transformers.vision import patch_grid


class ClipVision(nn.Module):
    """The vision tower, frozen; depth = embedded patches, every layer, the projected embedding (stimuli, d, 1, 1).

    Block 0 is what enters the first layer; hidden states are not normalised. The last block is the class token after
    the last layer norm, projected, and of length 1 with `normalise`; `pooling` means nothing to it. Position embeddings
    are interpolated, so images may have any size from one patch on. `model`, `weights`: as for `autobackbone`.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        model = parameters["model"]
        self.last, self.normalise = clip_vision_count(parameters) - 1, bool(parameters["normalise"])
        self.statistics, self.pooler = pixel_statistics(model), Pooler(parameters, seed)
        self.config = load_config(model, CLIPVisionConfig, shared_options(model))
        self.network = load_network(model, CLIPVisionModelWithProjection, self.config, parameters["weights"], seed)
        self.eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`); gradients flow to the images where they ask."""
        check_images(images)
        grid, inputs = patch_grid(images, self.config.patch_size), self.statistics.apply(images)
        tower = self.network.get_submodule("vision_model")
        taps = chain(tower.get_submodule("encoder.layers"))  # type: ignore[arg-type]
        values = run_until(lambda: tower(inputs, interpolate_pos_encoding=True), *_requested(taps, blocks, self.last))
        return [self._map(block, first(values[min(block, self.last - 1)]), grid) for block in blocks]

    def _map(self, block: int, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if block < self.last:
            return self.pooler.tokens(tokens, grid)
        normed = self.network.get_submodule("vision_model.post_layernorm")(tokens[:, 0])
        embedding = self.network.get_submodule("visual_projection")(normed)
        return (F.normalize(embedding, dim=1) if self.normalise else embedding)[:, :, None, None]


class ClipText(nn.Module):
    """The text tower, frozen; depth = embedded tokens, every layer, the projected embedding.

    `token` says which of a text's tokens stand for it: `last`, the end of the text, or the `mean`. The last block is
    the end of the text after the last layer norm, projected, whatever `token` says, and of length 1 with `normalise`.
    Of texts that are too long (77 tokens) the start is read. `model`, `weights`: as for `autobackbone`.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        model = parameters["model"]
        self.last, self.normalise = clip_text_count(parameters) - 1, bool(parameters["normalise"])
        config = load_config(model, CLIPTextConfig, shared_options(model))
        self.token, self.read = str(parameters["token"]), Reader(model, config, keep="start")
        self.network = load_network(model, CLIPTextModelWithProjection, config, parameters["weights"], seed)
        self.eval()

    def forward_texts(self, texts: Sequence[str], blocks: Sequence[int]) -> list[Tensor]:
        """Vectors (texts, channels) of the requested blocks, in the requested order (see `models.backbones`)."""
        ids, mask = self.read(texts, next(self.network.parameters()).device)
        tower = self.network.get_submodule("text_model")
        taps = chain(tower.get_submodule("encoder.layers"))  # type: ignore[arg-type]
        values = run_until(lambda: tower(input_ids=ids, attention_mask=mask), *_requested(taps, blocks, self.last))
        return [self._vector(block, first(values[min(block, self.last - 1)]), mask) for block in blocks]

    def _vector(self, block: int, tokens: Tensor, mask: Tensor) -> Tensor:
        if block < self.last:
            return pool_texts(tokens, mask, self.token)
        ends = pool_texts(self.network.get_submodule("text_model.final_layer_norm")(tokens), mask, "last")
        embedding: Tensor = self.network.get_submodule("text_projection")(ends)
        return F.normalize(embedding, dim=1) if self.normalise else embedding


def shared_options(model: str) -> dict[str, Any]:
    """The length of the shared embedding, which a file of two towers has at its top: what the towers say is not used.

    Empty where the top does not say, and for the file of a single tower, which has its own.
    """
    config = read_config(model)
    length = config.get("projection_dim") if config.get("model_type") == "clip" else None
    return {} if length is None else {"projection_dim": length}


def _requested(taps: list[Any], blocks: Sequence[int], last: int) -> tuple[list[Any], list[int]]:
    """Taps and blocks to run for: the embedding, block `last`, is made from what leaves the last layer."""
    for block in blocks:
        if not 0 <= block <= last:
            raise ValueError(f"block {block} does not exist: blocks are 0 to {last}")
    return taps, [min(block, last - 1) for block in blocks]
