"""Looking at maps: at positions, averaged to fewer pixels, moved by a shift, or several maps at one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Maps = Tensor | Sequence[Tensor]
"""One map (stimuli, channels, h, w), or one for each of several blocks that are read together."""

Shape = tuple[int, int, int]
"""Channels, height and width of a map."""


def as_list(maps: Maps) -> list[Tensor]:
    """Return the maps as a list, also if there is one only."""
    return [maps] if isinstance(maps, Tensor) else list(maps)


def sample(maps: Tensor, positions: Tensor) -> Tensor:
    """Features (stimuli, channels, units) of maps at positions (units, 2), or one set for each stimulus.

    Positions are (x, y); -1 and 1 are the centres of the outermost pixels, and beyond the rim maps fade to 0.
    """
    positions = positions.expand(len(maps), -1, -1)
    return F.grid_sample(maps, positions[:, :, None], mode="bilinear", align_corners=True)[..., 0]


def sample_own(planes: Tensor, positions: Tensor) -> Tensor:
    """Planes (units, outputs, stimuli, h, w) of each unit at its position: (stimuli, units, outputs).

    Positions ([stimuli,] units, 2) and what lies beyond the rim as in `sample`, which this is for one channel a unit.
    """
    units, _, stimuli, high, wide = planes.shape
    places = positions.expand(stimuli, units, 2).transpose(0, 1)
    across, down = ((places[..., axis] + 1.0) / 2.0 * (length - 1) for axis, length in ((0, wide), (1, high)))
    left, top = across.detach().floor(), down.detach().floor()
    flat, read = planes.flatten(3), planes.new_zeros(())
    for right in (0, 1):
        for below in (0, 1):
            column, row = left + right, top + below
            shares = (across - left if right else column + 1.0 - across), (down - top if below else row + 1.0 - down)
            inside = (column >= 0) & (column < wide) & (row >= 0) & (row < high)
            share = torch.where(inside, shares[0] * shares[1], 0.0 * shares[0])  # NaN stays NaN
            index = (row.clamp(0, high - 1) * wide + column.clamp(0, wide - 1)).nan_to_num(0.0).long()
            values = flat.gather(3, index[:, None, :, None].expand(-1, flat.shape[1], -1, -1))[..., 0]
            read = read + values * share[:, None]
    return read.permute(2, 0, 1)


def shrink(maps: Tensor, size: int) -> Tensor:
    """Average maps (stimuli, channels, h, w) to at most `size` rows and columns; never enlarge them."""
    high, wide = min(size, maps.shape[-2]), min(size, maps.shape[-1])
    if (high, wide) == tuple(maps.shape[-2:]):
        return maps
    return F.adaptive_avg_pool2d(maps, (high, wide))


def pooled(maps: Maps, size: int | None) -> list[Tensor]:
    """Every map averaged to at most `size` a side; None leaves them as they are."""
    return [shrink(feature_map, size) if size else feature_map for feature_map in as_list(maps)]


def pooled_shape(shape: Shape, size: int | None) -> Shape:
    """Compute the shape that `shrink` makes of maps of this shape."""
    channels, high, wide = shape
    return (channels, min(size, high), min(size, wide)) if size else shape


def moved(maps: Tensor, shift: Tensor) -> Tensor:
    """Maps (stimuli, channels, h, w) as they look to readouts that are moved by `shift` (stimuli, 2).

    moved(position) = map(position + shift), in half maps, bilinear; what lies beyond the rim is 0.
    """
    rows, columns = (torch.linspace(-1.0, 1.0, length).to(maps) for length in maps.shape[-2:])
    places = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], dim=-1)
    if len(rows) == 1 or len(columns) == 1:  # one pixel is in the middle of the axis, not at its end
        places = places * torch.tensor([len(columns) > 1, len(rows) > 1]).to(maps)
    return F.grid_sample(maps, places + shift[:, None, None], mode="bilinear", align_corners=True)


def stacked(maps: Maps, size: int) -> Tensor:
    """Put all channels of all maps into one map, averaged to at most `size` a side and enlarged to the largest's size.

    Enlarging is bilinear between centres of pixels, so a position means the same place in every map that covers the
    same pictures; those of cores without padding lose a margin that grows with depth.
    """
    small = pooled(maps, size)
    high, wide = (max(feature_map.shape[axis] for feature_map in small) for axis in (2, 3))
    same = [
        feature_map
        if tuple(feature_map.shape[-2:]) == (high, wide)
        else F.interpolate(feature_map, (high, wide), mode="bilinear", align_corners=True)
        for feature_map in small
    ]
    return torch.cat(same, dim=1) if len(same) > 1 else same[0]
