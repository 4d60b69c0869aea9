"""Backgrounds for rendered scenes: five styles, each drawn from a seed, never as dark as an object's rim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sweeps.errors import InputError

DARKEST, LIGHTEST = 90.0, 215.0


@dataclass(frozen=True)
class Background:
    """A style from BACKGROUNDS and the seed of its colours and layout."""

    style: str = "plain"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.style not in BACKGROUNDS:
            raise InputError("unknown background", key="style", value=self.style, allowed=BACKGROUNDS)

    def image(self, size: int) -> np.ndarray:
        """The background as uint8 (size, size, 3); the same picture at every size."""
        rng = np.random.default_rng([8, self.seed])
        first, second = rng.uniform(DARKEST, LIGHTEST, (2, 3))
        weight = BACKGROUNDS[self.style](rng, size)[..., None]
        return np.round(first + (second - first) * weight).astype(np.uint8)


def _axis(size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def _slope(rng: np.random.Generator, size: int) -> np.ndarray:
    """Position along a random direction, from about -0.7 to 0.7."""
    angle, axis = rng.uniform(0, 2 * np.pi), _axis(size) - np.float32(0.5)
    return np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]


def _enlarged(grid: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(grid.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.zeros((size, size), np.float32)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.clip(_slope(rng, size) + np.float32(0.5), 0, 1)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse, fine = rng.random((9, 9)), rng.random((40, 40))
    return (_enlarged(coarse, size) + _enlarged(fine, size)) / 2


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    cycles, phase = np.float32(rng.uniform(4, 10)), np.float32(rng.uniform(0, 2 * np.pi))
    wave = np.sin(np.float32(2 * np.pi) * cycles * _slope(rng, size) + phase)
    return np.clip(wave * 2 + np.float32(0.5), 0, 1) * np.float32(0.6)


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    centre, width = rng.random((2, 7, 1)), rng.uniform(0.06, 0.18, (7, 1))
    across, down = np.exp(-0.5 * ((_axis(size) - centre) / width) ** 2).astype(np.float32)
    return np.minimum(down.T @ across, 1)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "blobs": _blobs,
}
