"""Clips as rows: every frame of every clip is a row, and the frames of a clip lie together in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ClipRows:
    """Rows of clips of known `lengths` (clips,): `start` (clips,) of each, `clip` and `frame` (rows,) of every row."""

    lengths: np.ndarray
    start: np.ndarray
    clip: np.ndarray
    frame: np.ndarray

    @classmethod
    def of(cls, lengths: np.ndarray) -> ClipRows:
        """From the number of frames of every clip.

        >>> ClipRows.of(np.array([2, 3])).frame
        array([0, 1, 0, 1, 2])
        """
        start = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int)
        clip = np.repeat(np.arange(len(lengths)), lengths)
        return cls(np.asarray(lengths), start, clip, np.arange(len(clip)) - start[clip])

    def __len__(self) -> int:
        return len(self.clip)

    def of_clip(self, clip: int) -> slice:
        """Rows of a clip."""
        return slice(int(self.start[clip]), int(self.start[clip] + self.lengths[clip]))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per clip (clips,) as one per row (rows,)."""
        return np.asarray(values)[self.clip]

    def table(self, files: Sequence[str], groups: Sequence[str] | np.ndarray, tiers: np.ndarray) -> pd.DataFrame:
        """The table of a stimulus set: clip, frame, group, role, file, tier."""
        columns = {
            "clip": self.spread(np.array([f"clip{index:05d}" for index in range(len(self.lengths))])),
            "frame": self.frame,
            "group": self.spread(np.asarray(groups, dtype=str)),
            "role": "fit",
            "file": self.spread(np.asarray(files, dtype=str)),
            "tier": self.spread(tiers),
        }
        return pd.DataFrame(columns)

    def images(self, shape: tuple[int, int], load: Callable[[int, slice], np.ndarray]) -> Callable[[slice], np.ndarray]:
        """Pictures uint8 (rows, h, w, 3) of a slice of rows, from `load(clip, frames)`; only those clips are loaded."""

        def images(rows: slice) -> np.ndarray:
            """Load the pictures of a slice of rows, clip by clip."""
            wanted = np.arange(len(self))[rows]
            shown = np.empty((len(wanted), *shape, 3), np.uint8)
            for clip in np.unique(self.clip[wanted]):
                mine = np.flatnonzero(self.clip[wanted] == clip)
                frames = self.frame[wanted[mine]]
                low = int(frames.min())
                shown[mine] = load(int(clip), slice(low, int(frames.max()) + 1))[frames - low]
            return shown

        return images
