"""What the examples share: smooth random pictures, and units that see the brightness of a place in them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Example:
    """The sizes of an example, every one with a default; `write` makes it up."""

    @abstractmethod
    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""


def save(path: Path, array: Any) -> None:
    """An array as .npy, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array), allow_pickle=False)


def pictures(count: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Smooth random pictures (count, height, width) uint8: coarse noise, enlarged."""
    coarse = random.integers(0, 256, (count, 4, 6), dtype=np.uint8)
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)) for noise in coarse])


def films(count: int, frames: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Clips (count, frames, height, width) uint8 that fade from one smooth random picture to the next, and so on."""
    clips = np.empty((count, frames, height, width), np.uint8)
    for index in range(count):
        scenes = pictures(frames // 15 + 2, height, width, random).astype(np.float64)
        place = np.arange(frames) / 15
        low, part = place.astype(int), (place % 1)[:, None, None]
        clips[index] = np.round((1 - part) * scenes[low] + part * scenes[low + 1])
    return clips


def drives(frames: np.ndarray, units: int, random: np.random.Generator) -> np.ndarray:
    """What pictures (..., height, width) do to units: 1 + softplus of the contrast at a random place of each."""
    rows, columns = random.integers(0, frames.shape[-2], units), random.integers(0, frames.shape[-1], units)
    sign = random.choice([-1.0, 1.0], units)
    return np.asarray(1 + np.logaddexp(0, sign * (frames[..., rows, columns] / 127.5 - 1) * 3))


def areas(units: int) -> np.ndarray:
    """Area of each of the units: half of them in V1, half in LM, taking turns."""
    return np.where(np.arange(units) % 2, "LM", "V1")
