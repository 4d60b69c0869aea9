"""Rows of a recording as the items that a trained twin sees: single pictures, or whole clips."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.backbones import BACKBONES
from sweeps.experiment.cells import Cell
from sweeps.features.worker_data import Shown, Workshop
from sweeps.recordings.recording import Recording, StimulusSet


@dataclass(frozen=True)
class Items:
    """What a twin is shown, item by item, and which row of the recording belongs to each.

    `inputs` are pictures (items, 3, h, w) or clips (items, 3, frames, h, w), uint8. `rows` are (items,), or (items,
    frames) with -1 where a frame belongs to no row: what fills up a shorter clip, and all but the last frame of a
    picture that is held still. `behaviour` and `pupil` have the shape of the rows and their channels.
    """

    inputs: Tensor
    rows: np.ndarray
    behaviour: Tensor | None = None
    pupil: Tensor | None = None

    @cached_property
    def count(self) -> int:
        """Number of rows that are shown."""
        return int(self.rows.max(initial=-1)) + 1

    @cached_property
    def digests(self) -> list[bytes]:
        """Content of every item: of a clip, all frames that belong to a row."""
        shown = (
            stimulus if self.rows.ndim == 1 else stimulus[:, rows >= 0]
            for stimulus, rows in zip(self.inputs, self.rows, strict=True)
        )
        return [hashlib.blake2b(np.ascontiguousarray(each.numpy()).data, digest_size=16).digest() for each in shown]

    def gathered(self, values: np.ndarray) -> Tensor:
        """Values (rows, k) by item: (items, k), or (items, frames, k) with NaN where there is no row."""
        found = torch.from_numpy(values[self.rows]).float()
        return torch.where(torch.from_numpy(self.rows >= 0)[..., None], found, torch.nan)

    def scattered(self, values: Tensor) -> np.ndarray:
        """Values by item as (rows, k), NaN for rows without any.

        values (items, k), or (items, frames', k) of the last frames' frames of every clip.
        """
        held = values.cpu().double().numpy()
        rows = self.rows if held.ndim == 2 else self.rows[:, self.rows.shape[1] - held.shape[1] :]
        found = np.full((self.count, held.shape[-1]), np.nan)
        found[rows[rows >= 0]] = held[rows >= 0]
        return found

    def among(self, rows: np.ndarray) -> Tensor:
        """Numbers of the items that belong to these rows; a ValueError where rows cut a clip."""
        chosen = np.isin(self.rows, rows)
        if self.rows.ndim == 1:
            return torch.from_numpy(np.flatnonzero(chosen))
        some, every = chosen.any(axis=1), (chosen | (self.rows < 0)).all(axis=1)
        if (some != every).any():
            raise ValueError(f"{int((some != every).sum())} clips are cut by a split: a clip needs one group")
        return torch.from_numpy(np.flatnonzero(every))


def still_frames(backbone: Mapping[str, Any]) -> int:
    """Frames for which a picture is held still for a backbone of clips, 0 for one of pictures.

    The response is that to the last of them: as long as the deepest block looks back, so that what was before the
    picture (zeros of the padding) takes no part, and equally long for every depth.
    """
    component = BACKBONES[backbone["name"]]
    return component.still_frames(backbone) if component.sees == "clips" else 0


def items_of(recording: Recording, name: str, shown: Shown, still: int) -> Items:
    """What is shown under `name`, as pictures or, for a twin of clips, as clips: pictures for `still` frames."""
    pictures = torch.from_numpy(np.ascontiguousarray(shown.load(slice(0, shown.count))))
    stimuli = recording.sets["fit" if name == "fit" else name.partition(".")[2]] if _recorded(name) else None
    if not still:
        items = Items(pictures.permute(0, 3, 1, 2), np.arange(shown.count))
    elif stimuli is not None and stimuli.clips:
        items = _clips(pictures, stimuli)
    else:
        items = _stills(pictures, still)
    if stimuli is None:
        return items
    return Items(items.inputs, items.rows, _beside(items, stimuli.behaviour), _beside(items, stimuli.pupil))


def _recorded(name: str) -> bool:
    return name == "fit" or name.startswith("recorded.")


def _clips(pictures: Tensor, stimuli: StimulusSet) -> Items:
    """Clips as long as the longest; shorter ones end in their last frame again, which belongs to no row."""
    longest = max(len(rows) for rows in stimuli.clips)
    if all(len(rows) == longest for rows in stimuli.clips):
        inputs = pictures.unflatten(0, (-1, longest))  # rows of a clip lie together: no copy
        return Items(inputs.movedim(-1, 1), np.arange(len(pictures)).reshape(-1, longest))
    filled = np.stack([np.pad(rows, (0, longest - len(rows)), mode="edge") for rows in stimuli.clips])
    lengths = np.array([len(rows) for rows in stimuli.clips])
    rows = np.where(np.arange(longest) < lengths[:, None], filled, -1)
    return Items(pictures[torch.from_numpy(filled)].movedim(-1, 1), rows)


def _stills(pictures: Tensor, frames: int) -> Items:
    rows = np.full((len(pictures), frames), -1)
    rows[:, -1] = np.arange(len(pictures))
    return Items(held_still(pictures.permute(0, 3, 1, 2), frames), rows)


def _beside(items: Items, values: np.ndarray | None) -> Tensor | None:
    """Behaviour or pupil (rows, k, repeats) by item, averaged over the repeats that are there."""
    if values is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return items.gathered(np.nanmean(values, axis=2))


def held_still(pictures: Tensor, frames: int) -> Tensor:
    """Pictures (n, 3, h, w) as clips (n, 3, frames, h, w) that stand still."""
    return pictures[:, :, None].expand(-1, -1, frames, -1, -1)


def places(recording: Recording, units: np.ndarray) -> Tensor | None:
    """Places of some units in cortex, where they are known."""
    return None if recording.coordinates is None else torch.from_numpy(recording.coordinates[units]).float()


def all_items(workshop: Workshop, cell: Cell, recording: Recording) -> dict[str, Items]:
    """Everything that the twin of a cell is shown of a recording, by name."""
    still = still_frames(cell.backbone)
    return {name: items_of(recording, name, each, still) for name, each in workshop.shown(recording).items()}
