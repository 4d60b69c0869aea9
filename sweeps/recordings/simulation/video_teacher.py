"""The teacher of a simulated video recording: spatiotemporal filters in blocks, units at planted places, and clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 8
SPATIAL = 5
TEMPORAL = (5, 3, 3, 3)
"""Frames that each block looks back over; a block sees 5, 9, 13, 17 pixels and 5, 7, 9, 11 frames of the clip."""

FIELD = 64
"""Side in pixels of the repeating textures that move through clips."""

BATCH = 8


@dataclass(frozen=True)
class VideoTeacher:
    """Blocks of a spatial filter, a causal temporal one, z-scoring per channel and half-wave rectification.

    Block 0 sees a clip as 2 brightness - 1; every later block the one before it. Maps keep the clip's size (padded
    with 0 in space, and before the clip's first frame). All is drawn from a seed; the z-scores are those of the clips
    that the teacher was made for.
    """

    spatial: tuple[Tensor, ...]
    temporal: tuple[Tensor, ...]
    mean: tuple[Tensor, ...]
    deviation: tuple[Tensor, ...]

    @classmethod
    def of(cls, clips: np.ndarray, blocks: int, random: np.random.Generator) -> VideoTeacher:
        """Draw filters, and take the z-scores of uint8 clips (clips, frames, h, w), block by block."""
        spatial = tuple(_spatial(CHANNELS if block else 1, random) for block in range(blocks))
        temporal = tuple(_temporal(TEMPORAL[block], random) for block in range(blocks))
        mean: list[Tensor] = []
        deviation: list[Tensor] = []
        maps = _as_input(clips)
        for block in range(blocks):
            maps = _filtered(maps, spatial[block], temporal[block])
            mean.append(maps.mean(dim=(0, 1, 3, 4), keepdim=True))
            deviation.append(maps.std(dim=(0, 1, 3, 4), keepdim=True))
            maps = F.relu((maps - mean[-1]) / deviation[-1])
        return cls(spatial, temporal, tuple(mean), tuple(deviation))

    def maps(self, clips: np.ndarray, deepest: int) -> list[Tensor]:
        """Maps (clips, frames, channels, h, w) of blocks 0 to `deepest` for uint8 clips (clips, frames, h, w)."""
        maps = [_as_input(clips)]
        for block in range(deepest + 1):
            value = _filtered(maps[-1], self.spatial[block], self.temporal[block])
            maps.append(F.relu((value - self.mean[block]) / self.deviation[block]))
        return maps[1:]

    def features(self, clips: np.ndarray, positions: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Features (clips, frames, units, channels) float64 of blocks at `positions` {block: (units, 2)}.

        Positions are x, y in [-1, 1], the centres of the outermost pixels; sampling is bilinear.
        """
        parts: dict[int, list[np.ndarray]] = {block: [] for block in positions}
        for start in range(0, len(clips), BATCH):
            maps = self.maps(clips[start : start + BATCH], max(positions))
            for block, places in positions.items():
                parts[block].append(_sampled(maps[block], places))
        return {block: np.concatenate(batches) for block, batches in parts.items()}


def _spatial(inputs: int, random: np.random.Generator) -> Tensor:
    """Gabor-like filters (channels, inputs, 5, 5) without a mean: random waves under a Gaussian window."""
    grid = np.arange(SPATIAL) - SPATIAL // 2
    down, across = np.meshgrid(grid, grid, indexing="ij")
    angle = random.uniform(0, np.pi, (CHANNELS, inputs, 1, 1))
    phase = random.uniform(0, 2 * np.pi, (CHANNELS, inputs, 1, 1))
    frequency = random.uniform(0.12, 0.3, (CHANNELS, inputs, 1, 1))
    waves = np.cos(2 * np.pi * frequency * (across * np.cos(angle) + down * np.sin(angle)) + phase)
    filters = random.standard_normal((CHANNELS, inputs, 1, 1)) * waves * np.exp(-(down**2 + across**2) / 4.0)
    filters -= filters.mean(axis=(2, 3), keepdims=True)
    return torch.from_numpy(filters.astype(np.float32))


def _temporal(frames: int, random: np.random.Generator) -> Tensor:
    """Causal filters (channels, frames), the last weight for the present frame."""
    decay = np.exp(-np.arange(frames)[::-1] / (frames / 2))
    filters = random.standard_normal((CHANNELS, frames)) * decay
    return torch.from_numpy(filters.astype(np.float32))


def _as_input(clips: np.ndarray) -> Tensor:
    return torch.from_numpy(clips.astype(np.float32))[:, :, None] / 127.5 - 1.0


def _filtered(maps: Tensor, spatial: Tensor, temporal: Tensor) -> Tensor:
    """Both filters of a block, on maps (clips, frames, channels, h, w)."""
    clips, frames = maps.shape[:2]
    maps = F.conv2d(maps.flatten(0, 1), spatial, padding=SPATIAL // 2).unflatten(0, (clips, frames))
    filtered = torch.zeros_like(maps)
    for back in range(min(temporal.shape[1], frames)):
        weight = temporal[:, -1 - back, None, None]
        filtered[:, back:] += weight * maps[:, : frames - back]
    return filtered


def _sampled(maps: Tensor, positions: np.ndarray) -> np.ndarray:
    """Bilinear samples (clips, frames, units, channels) of maps (clips, frames, channels, h, w)."""
    flat = maps.flatten(0, 1)
    grid = torch.from_numpy(positions.astype(np.float32))[None, :, None].expand(len(flat), -1, -1, -1)
    samples = F.grid_sample(flat, grid, mode="bilinear", align_corners=True)[..., 0]
    return samples.permute(0, 2, 1).unflatten(0, maps.shape[:2]).double().numpy()


def draw_clips(count: int, frames: int, shape: tuple[int, int], seeds: Sequence[int]) -> np.ndarray:
    """Grey clips uint8 (clips, frames, h, w): two textures with the spectrum of natural scenes that drift and mix.

    The amplitude of a texture falls with spatial frequency; both move at their own speed, and one fades in as the
    other fades out. Every clip is drawn from `seeds` and its own number.
    """
    clips = np.empty((count, frames, *shape), np.uint8)
    for index in range(count):
        random = np.random.default_rng([*seeds, index])
        layers = [_drift(frames, random)[:, : shape[0], : shape[1]] for _ in range(2)]
        blend = (1 + np.sin(2 * np.pi * (np.arange(frames) / 40 + random.uniform())))[:, None, None] / 2
        mixed = np.sqrt(blend) * layers[0] + np.sqrt(1 - blend) * layers[1]
        clips[index] = np.clip(np.round(127.5 + 50 * mixed), 0, 255)
    return clips


def _drift(frames: int, random: np.random.Generator) -> np.ndarray:
    """A texture of unit variance that moves (frames, 64, 64), by up to a pixel a frame."""
    down, across = np.meshgrid(np.fft.fftfreq(FIELD), np.fft.rfftfreq(FIELD), indexing="ij")
    radius = np.hypot(down, across)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal((FIELD, FIELD))) / radius
    speed = random.uniform(-1, 1, 2)
    time = np.arange(frames)[:, None, None]
    moved = spectrum * np.exp(-2j * np.pi * time * (speed[0] * down + speed[1] * across))
    field = np.fft.irfft2(moved, (FIELD, FIELD))
    return np.asarray((field - field.mean()) / field.std())
