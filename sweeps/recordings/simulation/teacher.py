"""The teacher of a simulated recording: areas of localised softplus units that read planted blocks of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.backbones import BACKBONES

SIDE = 7
"""Feature maps are averaged to SIDE x SIDE before an area reads them."""


@dataclass(frozen=True)
class Standard:
    """A shift and a scale, taken once and applied to anything."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, axes: tuple[int, ...], least: float) -> Standard:
        """Mean and deviation over `axes`; a deviation of at most `least` counts as 1."""
        deviation = values.std(axis=axes, keepdims=True)
        return cls(values.mean(axis=axes, keepdims=True), np.where(deviation > least, deviation, 1.0))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.asarray((values - self.mean) / self.deviation)


@dataclass(frozen=True)
class AreaUnits:
    """Units that are drawn for an area: how many, the gain of their semantic axis, their peak rate.

    The first `scenes` stimuli set the scale; the axis is fitted to the first `drawn` (all scenes, captioned ones too).
    """

    units: int
    gain: float
    rate: float
    scenes: int
    drawn: int


@dataclass(frozen=True)
class TeacherArea:
    """Units of one area: z-scored channels weighed inside Gaussian windows, and a semantic axis of the same block.

    rate = peak softplus(1.5 (sqrt(1 - gain^2) local + gain axis preference)), with `local` and `axis` z-scored over
    the scenes. Built by `of` from the maps of everything that is recorded; then gives rates for any maps.
    """

    gain: float
    rate: float
    channels: Standard
    windows: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    local: Standard
    axis_weights: np.ndarray
    axis_centre: np.ndarray
    axis: Standard
    preference: np.ndarray

    @classmethod
    def of(
        cls, maps: np.ndarray, living: np.ndarray, population: AreaUnits, random: np.random.Generator
    ) -> TeacherArea:
        """Draw the units of an area and fit its semantic axis.

        maps (stimuli, channels, h, w) of everything recorded; `living` (stimuli,) how living each scene is.
        """
        units, scenes = population.units, population.scenes
        channels = Standard.of(maps, (0, 2, 3), 1e-9)
        windows, weights = _draw_units(maps.shape, units, random)
        local = Standard.of(_localised(channels(maps), windows, weights)[:scenes], (0,), 1e-12)
        axis_weights, axis_centre = _semantic(maps, living, slice(0, population.drawn))
        axis = Standard.of(((maps.mean(axis=(2, 3)) - axis_centre) @ axis_weights)[:scenes, None], (0,), 1e-12)
        preference = random.choice([-1.0, 1.0], units) * random.uniform(0.5, 1.0, units)
        semantic = (axis_weights, axis_centre, axis, preference)
        return cls(population.gain, population.rate, channels, windows, weights, local, *semantic)

    def viewing(self, maps: np.ndarray) -> np.ndarray:
        """Rates (stimuli, units) of pictures, from their maps."""
        local = self.local(_localised(self.channels(maps), self.windows, self.weights))
        axis = self.axis(((maps.mean(axis=(2, 3)) - self.axis_centre) @ self.axis_weights)[:, None])
        return self._rates(np.sqrt(1 - self.gain**2) * local + self.gain * axis * self.preference)

    def reading(self, axis: np.ndarray) -> np.ndarray:
        """Rates (texts, units) of captions that are read: the semantic axis alone, given z-scored (texts,)."""
        return self._rates(self.gain * axis[:, None] * self.preference)

    def _rates(self, drive: np.ndarray) -> np.ndarray:
        return np.asarray(self.rate * np.logaddexp(0.0, 1.5 * drive))


def teacher_maps(
    backbone: str, weights: str, seed: int, depths: Sequence[int], pictures: np.ndarray
) -> dict[int, np.ndarray]:
    """Maps (pictures, channels, 7, 7) of the planted blocks by depth, float64, in one pass through the network."""
    import torch

    from models.inputs.tensors import BATCH, as_images
    from models.readouts.gaussian import shrink

    network = BACKBONES[backbone].load()({"weights": weights}, seed)
    wanted = sorted(set(depths))
    parts: dict[int, list[np.ndarray]] = {depth: [] for depth in wanted}
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            images = as_images(pictures[start : start + BATCH], torch.device("cpu"))
            for depth, maps in zip(wanted, network.forward_blocks(images, wanted), strict=True):
                parts[depth].append(shrink(maps, SIDE).numpy())
    return {depth: np.concatenate(batches).astype(np.float64) for depth, batches in parts.items()}


def _draw_units(
    shape: tuple[int, ...], units: int, random: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Windows (units, h), (units, w) and channel weights (units, channels)."""
    grid = np.linspace(-1, 1, shape[2])
    centre, width = random.uniform(-0.7, 0.7, (units, 2)), random.uniform(0.2, 0.5, units)
    across = np.exp(-((grid - centre[:, :1]) ** 2) / (2 * width[:, None] ** 2))
    down = np.exp(-((grid - centre[:, 1:]) ** 2) / (2 * width[:, None] ** 2))
    return (down, across), random.standard_normal((units, shape[1]))


def _localised(normal: np.ndarray, windows: tuple[np.ndarray, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Drives (stimuli, units): each unit weighs the z-scored channels inside its own window."""
    return np.einsum("nchw,uc,uh,uw->nu", normal, weights, *windows, optimize=True)


def _semantic(maps: np.ndarray, living: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Weights and centre of the functional of the pooled channels that best tells living from lifeless scenes."""
    pooled = maps.mean(axis=(2, 3))[rows]
    centre = pooled.mean(axis=0)
    gram = (pooled - centre).T @ (pooled - centre)
    penalty = 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + penalty, (pooled - centre).T @ (living[rows] - living[rows].mean())), centre
