"""What both ways of synthesis do to pictures: another size, a bounded contrast, no colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Synthesis:
    """Synthesised `pictures` (n, 3, h, w) in [0, 1], and the objective at every step, `trace` (steps, n)."""

    pictures: Tensor
    trace: Tensor


def resized(pictures: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pictures (n, 3, h, w) at another size, bilinear (pixel centres, no smoothing first); untouched at their own."""
    if tuple(pictures.shape[-2:]) == tuple(shape):
        return pictures
    return F.interpolate(pictures, size=tuple(shape), mode="bilinear", align_corners=False)


def capped(pictures: Tensor, cap: float | None) -> Tensor:
    """Pictures (n, 3, h, w) with an RMS contrast of at most `cap`.

    contrast = sqrt(mean over channels and pixels of (p - m_c)^2), m_c each channel's mean over pixels, and
    p' = m_c + (p - m_c) min(1, cap / contrast).
    Pictures stay within [0, 1]; those below the cap are untouched, and so are all with `cap` None. Differentiable.
    For grey pictures this is the standard deviation of luminance; for coloured ones it is a choice of ours.
    """
    if cap is None:
        return pictures
    centre = pictures.mean(dim=(2, 3), keepdim=True)
    variance = (pictures - centre).square().mean(dim=(1, 2, 3), keepdim=True)
    scale = cap / variance.clamp(min=cap**2).sqrt()
    return torch.where(variance > cap**2, centre + (pictures - centre) * scale, pictures)


def presented(pictures: Tensor, cap: float | None, grey: bool) -> Tensor:
    """Pictures (n, 3, h, w) as they are to be: every channel their mean where `grey`, and `capped`."""
    return capped(pictures.mean(dim=1, keepdim=True).expand_as(pictures) if grey else pictures, cap)


def in_batches(function: Callable[[Tensor], Tensor], pictures: Tensor, batch: int) -> Tensor:
    """A function of pictures a batch at a time, without gradients; rows joined."""
    with torch.no_grad():
        return torch.cat([function(part) for part in pictures.split(batch)])
