"""Vision networks of transformers, read at their stem and after every stage or layer, for images from a least side on.

What a block gives is what `AutoBackbone` gives with every stage requested (`feature_maps`), for ViT and DeiT, which it
does not know, the hidden states. Mind the norms in it: ConvNeXt and Swin normalise every position over channels with a
gain that no checkpoint holds, so 1; DINOv2 and v3 use their last layer norm at every block. Position embeddings are
interpolated where a network has them, so images are never resized; Swin pads them to whole patches and windows, ResNet
rounds odd sides up, the others leave out pixels beyond the last whole patch. The least side is one patch, for ConvNeXt
the stride of the deepest requested block (32 pixels as a rule for the last), for ResNet and Swin a single pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.backbones.blocks import check_images
from models.backbones.transformers.hooks import chain, run_until
from models.backbones.transformers.hub_files import family_of, pixel_statistics, stage_count
from models.backbones.transformers.loading import load_config, load_network
from models.backbones.transformers.token_pooling import Pooler

WITHOUT_BACKBONE = ("vit", "deit")
"""Families that transformers has no backbone class of: their hidden states are read."""

INTERPOLATE = ("vit", "deit", "swin")
"""Families that interpolate position embeddings on request; the others with such embeddings always do."""


class AutoNetwork(nn.Module):
    """A frozen network; depth = stem or embedded patches, then every stage (ResNet, ConvNeXt, Swin) or layer.

    `model`: folder or name on the hub; `weights`: `pretrained`, or `random`, an untrained network of the same
    configuration drawn from the seed alone; `pooling`, `dimensions`: see `models.backbones.transformers.token_pooling`.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        from transformers import AutoConfig

        model = parameters["model"]
        self.family, self.statistics, self.pooler = family_of(model), pixel_statistics(model), Pooler(parameters, seed)
        config = load_config(model, AutoConfig, {"out_indices": list(range(stage_count(parameters)))})
        self.config, self.kind = config, str(config.model_type)
        self.network = load_network(model, network_class(config), config, parameters["weights"], seed)
        self.eval()

    def forward_blocks(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps of the requested blocks (see `models.backbones`); gradients flow to the images where they ask."""
        check_images(images)
        layers = self.network.get_submodule(self.family.layers)
        assert isinstance(layers, nn.ModuleList)
        options = {"interpolate_pos_encoding": True} if self.kind in INTERPOLATE else {}
        inputs = self.statistics.apply(images)
        grid = patch_grid(images, self.config.patch_size) if self.family.tokens else None
        check_side(self.kind, self.config, images, blocks)
        values = run_until(lambda: self.network(inputs, **options), chain(layers), blocks)
        maps = {block: self._map(block, value, images, grid) for block, value in values.items()}
        return [maps[block] for block in blocks]

    def _map(self, block: int, value: Any, images: Tensor, grid: tuple[int, int] | None) -> Tensor:
        finished = FINISH.get(self.kind, plain)(self, block, value, images)
        return self.pooler.tokens(finished, grid) if grid else self.pooler.maps(finished)


def network_class(config: Any) -> Any:
    """The class of transformers for a configuration: its backbone where it has one."""
    from transformers import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING

    known = MODEL_MAPPING if config.model_type in WITHOUT_BACKBONE else MODEL_FOR_BACKBONE_MAPPING
    return known[type(config)]


def patch_grid(images: Tensor, patch: int | Sequence[int]) -> tuple[int, int]:
    """Whole patches down and across; ValueError for images smaller than one patch."""
    sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
    high, wide = images.shape[-2] // sides[0], images.shape[-1] // sides[1]
    if not high or not wide:
        raise ValueError(f"images of {tuple(images.shape[-2:])} pixels are smaller than one patch, {sides}")
    return high, wide


def check_side(kind: str, config: Any, images: Tensor, blocks: Sequence[int]) -> None:
    """Raise ValueError for images that ConvNeXt's strides leave nothing of before the deepest requested block."""
    if not kind.startswith("convnext"):
        return
    deepest = min(max(blocks, default=0), len(config.depths))
    stride = int(config.patch_size) * 2 ** max(deepest - 1, 0)
    if min(images.shape[-2:]) < stride:
        raise ValueError(
            f"images of {tuple(images.shape[-2:])} pixels are too small for block {deepest} of a ConvNeXt: "
            f"it needs sides of {stride} pixels at least"
        )


def plain(owner: AutoNetwork, block: int, value: Any, images: Tensor) -> Tensor:
    """The hidden state as it is."""
    map: Tensor = value
    return map


def channel_norm(owner: AutoNetwork, block: int, value: Any, images: Tensor) -> Tensor:
    """ConvNeXt: maps normalised over channels."""
    normed: Tensor = _stage_norm(owner, block)(value)
    return normed


def window_norm(owner: AutoNetwork, block: int, value: Any, images: Tensor) -> Tensor:
    """Swin: maps before each stage's halving, normalised over channels; the stem's tokens are laid out first."""
    if block:
        maps = value[1]
    else:
        patch = int(owner.config.patch_size)
        maps = value.transpose(1, 2).unflatten(2, [-(-side // patch) for side in images.shape[-2:]])
    normed: Tensor = _stage_norm(owner, block)(maps.permute(0, 2, 3, 1))
    return normed.permute(0, 3, 1, 2)


def _stage_norm(owner: AutoNetwork, block: int) -> nn.Module:
    return owner.network.get_submodule(f"hidden_states_norms.{owner.config.stage_names[block]}")


def last_norm(owner: AutoNetwork, block: int, value: Any, images: Tensor) -> Tensor:
    """DINOv2: the last layer norm, at every block unless the configuration turns `apply_layernorm` off."""
    return owner.network.get_submodule("layernorm")(value) if owner.config.apply_layernorm else value


def last_norm_v3(owner: AutoNetwork, block: int, value: Any, images: Tensor) -> Tensor:
    """DINOv3: as DINOv2, and always after the last layer."""
    normed = owner.config.apply_layernorm or block == len(owner.config.stage_names) - 1
    return owner.network.get_submodule("norm")(value) if normed else value


FINISH: dict[str, Callable[[AutoNetwork, int, Any, Tensor], Tensor]] = {
    "convnext": channel_norm,
    "convnextv2": channel_norm,
    "swin": window_norm,
    "dinov2": last_norm,
    "dinov2_with_registers": last_norm,
    "dinov3_vit": last_norm_v3,
}
"""Model type -> how a hidden state becomes what `AutoBackbone` gives; the others are left as they are."""
