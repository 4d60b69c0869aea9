"""What a score sees of a fitted cell: one split's predictions beside what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeps.recordings.recording import Recording


@dataclass(frozen=True)
class CellView:
    """One fitted cell on one split ("select" or "report").

    `rows` are the `fit` stimuli of the split and `predicted` (rows, units) their held-out predictions.
    `shown` holds the twin's responses to other stimuli: "probe.objects", "probe.captions" and, where the
    recording has them, "recorded.objects", "recorded.captions". `tables` are the probes' tables, and
    `embed` the sentence encoder. `seed` is the cell's own; `common_units` the smallest number of units of
    any area of the recording. `remember` keeps what depends on the recording alone. `transferred` is filled
    for twins of features (see feature_transfer).
    """

    split: str
    split_seed: int
    recording: Recording
    units: np.ndarray
    rows: np.ndarray
    predicted: np.ndarray
    shown: Mapping[str, np.ndarray]
    tables: Mapping[str, pd.DataFrame]
    embed: Callable[[tuple[str, ...]], np.ndarray]
    seed: int
    common_units: int
    remember: Callable[[Hashable, Callable[[], Any]], Any]
    transferred: Callable[[], Mapping[str, np.ndarray]] | None = None

    def random(self, name: str) -> np.random.Generator:
        """A generator for the draws of one score, seeded by the cell."""
        return np.random.default_rng([self.seed, len(name), *name.encode()])

    def of_brain(self, name: str, compute: Callable[[], Any]) -> Any:
        """A value that depends on what was recorded alone, not on the twin: computed once per area and split."""
        key = (name, self.recording.fingerprint, self.units.tobytes(), self.split, self.rows.tobytes())
        return self.remember(key, compute)

    @property
    def observed(self) -> np.ndarray:
        """Repeat averages of the split (rows, units)."""
        return self.recording.fit.average[self.rows][:, self.units]

    @property
    def repeats(self) -> np.ndarray:
        """Recorded responses of the split (rows, units, repeats)."""
        return self.recording.fit.responses[self.rows][:, self.units]

    def recorded(self, role: str) -> np.ndarray:
        """Recorded responses (stimuli, units, repeats) of another role."""
        return self.recording.sets[role].responses[:, self.units]

    def half(self, labels: Any) -> np.ndarray:
        """Mask of the labels that belong to this split: distinct labels are dealt in two by the split seed."""
        names = np.asarray(labels)
        distinct = np.unique(names)
        order = np.random.default_rng([self.split_seed, 3]).permutation(len(distinct))
        first = distinct[order[: len(distinct) // 2]]
        chosen = np.isin(names, first)
        return chosen if self.split == "select" else ~chosen
