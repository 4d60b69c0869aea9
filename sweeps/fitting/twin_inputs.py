"""Rows of a recording as the inputs of a trained twin: single pictures, or whole clips."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sweeps.experiment.cells import Cell
from sweeps.features.shown_stimuli import ShownStimuli
from sweeps.features.worker_data import WorkerData
from sweeps.recordings.recording import Recording, StimulusSet


@dataclass(frozen=True)
class TwinInputs:
    """What a twin is shown, stimulus by stimulus, and which row of the recording belongs to each.

    `stimuli` are pictures (n, 3, h, w) or clips (n, 3, frames, h, w), uint8. `rows` are (n,), or (n, frames) with -1
    where a frame belongs to no row: what fills up a shorter clip, and all but the last frame of a picture that is held
    still. `behaviour` and `pupil` have the shape of the rows and their channels.
    """

    stimuli: Tensor
    rows: np.ndarray
    behaviour: Tensor | None = None
    pupil: Tensor | None = None

    @cached_property
    def count(self) -> int:
        """Number of rows that are shown."""
        return int(self.rows.max(initial=-1)) + 1

    @cached_property
    def digests(self) -> list[bytes]:
        """Content of every stimulus: of a clip, all frames that belong to a row."""
        shown = (
            stimulus if self.rows.ndim == 1 else stimulus[:, rows >= 0]
            for stimulus, rows in zip(self.stimuli, self.rows, strict=True)
        )
        return [hashlib.blake2b(np.ascontiguousarray(part.numpy()).data, digest_size=16).digest() for part in shown]

    def gathered(self, values: np.ndarray) -> Tensor:
        """Values (rows, k) by stimulus: (n, k), or (n, frames, k) with NaN where there is no row."""
        by_stimulus = torch.from_numpy(values[self.rows]).float()
        return torch.where(torch.from_numpy(self.rows >= 0)[..., None], by_stimulus, torch.nan)

    def scattered(self, values: Tensor) -> np.ndarray:
        """Values by stimulus as (rows, k), NaN for rows without any.

        values (n, k), or (n, frames', k) of the last frames' frames of every clip.
        """
        by_stimulus = values.cpu().double().numpy()
        rows = self.rows if by_stimulus.ndim == 2 else self.rows[:, self.rows.shape[1] - by_stimulus.shape[1] :]
        by_row = np.full((self.count, by_stimulus.shape[-1]), np.nan)
        by_row[rows[rows >= 0]] = by_stimulus[rows >= 0]
        return by_row

    def among(self, rows: np.ndarray) -> Tensor:
        """Numbers of the stimuli that belong to these rows; a ValueError where rows cut a clip."""
        chosen = np.isin(self.rows, rows)
        if self.rows.ndim == 1:
            return torch.from_numpy(np.flatnonzero(chosen))
        some, every = chosen.any(axis=1), (chosen | (self.rows < 0)).all(axis=1)
        if (some != every).any():
            raise ValueError(f"{int((some != every).sum())} clips are cut by a split: a clip needs one group")
        return torch.from_numpy(np.flatnonzero(every))


def still_frames(cell: Cell) -> int:
    """Frames for which a picture is held still for a cell whose backbone sees clips, 0 for one of pictures.

    The response is that to the last of them: as long as the deepest block looks back, so that what was before the
    picture (zeros of the padding) takes no part, and equally long for every depth.
    """
    component = cell.backbone_component
    return component.still_frames(cell.backbone) if component.sees == "clips" else 0


def twin_inputs_of(recording: Recording, name: str, shown: ShownStimuli, still: int) -> TwinInputs:
    """What is shown under `name`, as pictures or, for a twin of clips, as clips: pictures for `still` frames."""
    pictures = torch.from_numpy(np.ascontiguousarray(shown.load(slice(0, shown.count))))
    stimuli = recording.sets["fit" if name == "fit" else name.partition(".")[2]] if _recorded(name) else None
    if not still:
        inputs = TwinInputs(pictures.permute(0, 3, 1, 2), np.arange(shown.count))
    elif stimuli is not None and stimuli.clips:
        inputs = _clips(pictures, stimuli)
    else:
        inputs = _stills(pictures, still)
    if stimuli is None:
        return inputs
    return replace(
        inputs,
        behaviour=_mean_of_repeats(inputs, stimuli.behaviour),
        pupil=_mean_of_repeats(inputs, stimuli.pupil),
    )


def _recorded(name: str) -> bool:
    return name == "fit" or name.startswith("recorded.")


def _clips(pictures: Tensor, stimuli: StimulusSet) -> TwinInputs:
    """Clips as long as the longest; shorter ones end in their last frame again, which belongs to no row."""
    longest = max(len(rows) for rows in stimuli.clips)
    if all(len(rows) == longest for rows in stimuli.clips):
        clips = pictures.unflatten(0, (-1, longest))  # rows of a clip lie together: no copy
        return TwinInputs(clips.movedim(-1, 1), np.arange(len(pictures)).reshape(-1, longest))
    filled = np.stack([np.pad(rows, (0, longest - len(rows)), mode="edge") for rows in stimuli.clips])
    lengths = np.array([len(rows) for rows in stimuli.clips])
    rows = np.where(np.arange(longest) < lengths[:, None], filled, -1)
    return TwinInputs(pictures[torch.from_numpy(filled)].movedim(-1, 1), rows)


def _stills(pictures: Tensor, frames: int) -> TwinInputs:
    rows = np.full((len(pictures), frames), -1)
    rows[:, -1] = np.arange(len(pictures))
    return TwinInputs(held_still(pictures.permute(0, 3, 1, 2), frames), rows)


def _mean_of_repeats(inputs: TwinInputs, values: np.ndarray | None) -> Tensor | None:
    """Behaviour or pupil (rows, k, repeats) by stimulus, averaged over the repeats that are there."""
    if values is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return inputs.gathered(np.nanmean(values, axis=2))


def held_still(pictures: Tensor, frames: int) -> Tensor:
    """Pictures (n, 3, h, w) as clips (n, 3, frames, h, w) that stand still."""
    return pictures[:, :, None].expand(-1, -1, frames, -1, -1)


def coordinates_of(recording: Recording, units: np.ndarray) -> Tensor | None:
    """Places of some units in cortex, where they are known."""
    return None if recording.coordinates is None else torch.from_numpy(recording.coordinates[units]).float()


def all_twin_inputs(worker: WorkerData, cell: Cell, recording: Recording) -> dict[str, TwinInputs]:
    """Everything that the twin of a cell is shown of a recording, by name."""
    still = still_frames(cell)
    return {name: twin_inputs_of(recording, name, shown, still) for name, shown in worker.shown(recording).items()}
