"""Pictures and clips as tensors: uint8, or floats in [0, 1]; clips are (clips, 3, frames, height, width)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_float(clips: Tensor) -> Tensor:
    """The clips in float32, uint8 divided by 255; floats are taken as they are.

    Give it a batch at a time, so that no float copy of all clips is ever made. An array (clips, frames, h, w, 3)
    becomes clips, without a copy, by `torch.from_numpy(array).movedim(-1, 1)`.
    """
    return clips.to(torch.float32) / 255.0 if clips.dtype == torch.uint8 else clips.to(torch.float32)


def check_clips(clips: Tensor) -> None:
    """Raise ValueError unless `clips` looks like (clips, 3, frames, height, width)."""
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips must be (clips, 3, frames, height, width), not {tuple(clips.shape)}")


def clip_statistics(*clips: Tensor) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) of the grey levels, in [0, 1], over all clips, frames and pixels.

    Grey is the mean of the three colours. Clips of different sizes come in several tensors; one clip at a time is
    looked at, in float64. No clip: a ValueError.
    """
    total, squares, count = 0.0, 0.0, 0
    for part in clips:
        check_clips(part)
        for clip in part:
            grey = as_float(clip).double().mean(dim=0)
            total, squares, count = (
                total + float(grey.sum()),
                squares + float(grey.square().sum()),
                count + grey.numel(),
            )
    if not count:
        raise ValueError(f"clips must not be empty, as {[tuple(part.shape) for part in clips]} are")
    return total / count, max(squares / count - (total / count) ** 2, 0.0) ** 0.5


BATCH = 64


def as_images(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (n, h, w, 3) as float32 (n, 3, h, w) in [0, 1]."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
