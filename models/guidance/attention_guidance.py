"""Self-attention guidance: away from what the network makes of a picture that is blurred where it attends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 9
SPREAD = 1.0
"""Side in pixels and standard deviation of the Gaussian that degrades latents."""

ATTENDED = 1.0
"""A position is attended when it receives more than this: what it would under uniform attention."""


@dataclass(frozen=True)
class SelfAttention:
    """Attention (n, heads, queries, keys) of the network's middle block, on a map of `shape` = queries = keys."""

    weights: Tensor
    shape: tuple[int, int]

    def mask(self) -> Tensor:
        """1 where the attention received, averaged over heads and summed over queries, is above 1: (n, 1, h, w)."""
        received = self.weights.mean(dim=1).sum(dim=1)
        return (received > ATTENDED).to(self.weights).reshape(-1, 1, *self.shape)


def attending(network: nn.Module, call: Callable[[], Tensor]) -> tuple[Tensor, SelfAttention]:
    """What `call`, one pass through a diffusers UNet, returns, and the self-attention of its middle block.

    Queries and keys are overheard by hooks that are gone afterwards: the pass itself is what it would be without.
    Raises ValueError for a network without self-attention there.
    """
    place, layer = middle_attention(network)
    captured: dict[str, Tensor] = {}
    shape: list[tuple[int, int]] = []
    hooks = [
        layer.to_q.register_forward_hook(lambda _, __, output: captured.__setitem__("queries", output.detach())),
        layer.to_k.register_forward_hook(lambda _, __, output: captured.__setitem__("keys", output.detach())),
        place.register_forward_pre_hook(lambda _, inputs: shape.append(tuple(inputs[0].shape[-2:]))),
    ]
    try:
        output = call()
    finally:
        for hook in hooks:
            hook.remove()
    queries, keys = (layer.head_to_batch_dim(captured[name]) for name in ("queries", "keys"))
    weights = layer.get_attention_scores(queries, keys)
    return output, SelfAttention(weights.unflatten(0, (-1, layer.heads)), shape[-1])


def middle_attention(network: nn.Module) -> tuple[nn.Module, Any]:
    """The middle block's first attention, and the layer in it that attends from positions to positions."""
    layers = [layer for layer in getattr(getattr(network, "mid_block", None), "attentions", []) if layer is not None]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no self-attention in its middle block: set attention to 0")
    blocks = getattr(layers[0], "transformer_blocks", None)
    return layers[0], layers[0] if blocks is None else blocks[0].attn1


def degraded(clean: Tensor, attention: SelfAttention) -> Tensor:
    """Clean latents (n, channels, h, w), blurred where the middle block attends.

    x' = mask blur(x) + (1 - mask) x, the mask brought to the latents' size by nearest neighbours.
    Source: Hong et al. 2023 (ICCV).
    """
    mask = F.interpolate(attention.mask().to(clean), size=clean.shape[-2:])
    return blurred(clean) * mask + clean * (1.0 - mask)


def blurred(maps: Tensor) -> Tensor:
    """Maps (n, channels, h, w) smoothed by a 9 x 9 Gaussian of sigma 1, mirrored at the edges (edge not repeated)."""
    offsets = torch.arange(KERNEL, dtype=maps.dtype, device=maps.device) - KERNEL // 2
    line = torch.exp(-0.5 * (offsets / SPREAD).square())
    line = line / line.sum()
    kernel = torch.outer(line, line).expand(maps.shape[1], 1, KERNEL, KERNEL)
    return F.conv2d(F.pad(maps, [KERNEL // 2] * 4, mode="reflect"), kernel, groups=maps.shape[1])
