"""What a score sees of a fitted cell: one split's predictions beside what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sweeps.hashing import digest_bytes
from sweeps.probes import Probe
from sweeps.recordings.recording import Recording

ROUNDING = 1e-12
"""A prediction this close to the training mean, relative to mean and spread, is the training mean."""


@dataclass(frozen=True)
class CellView:
    """One fitted cell on one split ("select" or "report").

    `rows` are the `fit` stimuli of the split, `predicted` (rows, units) their held-out predictions and `baseline`
    (rows, units) the mean response to the stimuli that each of them was predicted from. `shown` holds the twin's
    responses to other stimuli: "probe.objects", "probe.captions" and, where the recording has them,
    "recorded.objects", "recorded.captions". `tables` are the probes' tables, and `embed` the sentence encoder.
    `cell_id` and `seed` are the cell's own, made from names as well: draws take `brain_seed` instead. `common_units` is
    the smallest number of units of any area of the recording. `remember` keeps what depends on the recording alone,
    while this process lives, and `keep` arrays by name on this node's disk, under a key that says all that they depend
    on (see sweeps.io.disk_cache). `transferred` is filled for twins of one of several feature sets, `extras` (rows
    first) by twins that predict more (see sweeps.fitting.cell_fit). `linear` readouts have the same Jacobian
    everywhere. `predictor` gives the twin as a function of pictures (see sweeps.fitting.predictors), `maps` the feature
    maps (rows, channels, h, w) that it reads of the split's pictures; both are None where there are none. `network`
    gives the frozen backbone (None for trained cores and for features), `backbone_key` is equal for cells that share
    it, and `probes` are the sweep's probes with their pictures. `narrowest` gives the smallest numbers of channels, and
    of channels x positions, of any block of the backbone, its maps pooled as the cell's are: what blocks of all depths
    can be cut to.
    """

    split: str
    split_seed: int
    recording: Recording
    units: np.ndarray
    rows: np.ndarray
    predicted: np.ndarray
    baseline: np.ndarray
    shown: Mapping[str, np.ndarray]
    tables: Mapping[str, pd.DataFrame]
    embed: Callable[[tuple[str, ...]], np.ndarray]
    cell_id: str
    seed: int
    common_units: int
    remember: Callable[[Hashable, Callable[[], Any]], Any]
    transferred: Callable[[], Mapping[str, np.ndarray]] | None = None
    linear: bool = True
    predictor: Callable[[], Any] | None = None
    maps: Callable[[], np.ndarray] | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    network: Callable[[], Any] | None = None
    backbone_key: str = ""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    keep: Callable[[Any, Callable[[], Mapping[str, np.ndarray]]], Mapping[str, np.ndarray]] = lambda key, compute: (
        compute()
    )
    narrowest: Callable[[], tuple[int, int]] | None = None

    def random(self, name: str) -> np.random.Generator:
        """A generator for the draws of one score, seeded by what was recorded: the same for every twin."""
        return np.random.default_rng([self.brain_seed, len(name), *name.encode()])

    @property
    def brain_seed(self) -> int:
        """Seed of a score's draws: of the averages recorded in the split, so that no name of anything matters."""
        seed: int = self.of_brain("seed", lambda: int(digest_bytes([self.observed.tobytes()])[:12], 16))
        return seed

    def of_brain(self, name: Hashable, compute: Callable[[], Any]) -> Any:
        """A value that depends on what was recorded alone, not on the twin: computed once per area and split."""
        key = (name, self.recording.fingerprint, self.units.tobytes(), self.split, self.rows.tobytes())
        return self.remember(key, compute)

    @property
    def observed(self) -> np.ndarray:
        """Repeat averages of the split (rows, units)."""
        return self.recording.fit.average[self.rows][:, self.units]

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation (units,) of the repeat averages of the split."""
        return np.asarray(self.of_brain("deviation", lambda: np.nanstd(self.observed, axis=0)))

    def beyond_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and observed (rows, units), each less the mean response of the training stimuli.

        One training set (recordings that are not folded): a constant per unit, which no correlation sees. Folded
        recordings: training means differ between folds, high where the held-out responses are low, so that a twin that
        knows nothing but the mean would correlate negatively over the concatenated folds. A prediction that is the
        mean but for rounding is exactly 0 here.
        """
        beyond = self.predicted - self.baseline
        size = np.abs(self.baseline) + self.deviation
        beyond[np.abs(beyond) <= ROUNDING * size] = 0.0
        return beyond, self.observed - self.baseline

    def presentations(self, role: str = "fit", whole: bool = False) -> np.ndarray:
        """Recorded responses (stimuli, units, repeats) to every presentation, NaN where there was none.

        Of the role `fit` those of the split's rows, or of all rows where `whole`; of other roles all of them. The one
        way in which scores read single presentations.
        """
        responses = self.recording.sets[role].responses
        chosen = responses if whole or role != "fit" else responses[self.rows]
        return chosen[:, self.units]

    @property
    def repeats(self) -> np.ndarray:
        """`presentations` of the split (rows, units, repeats)."""
        return self.presentations()

    def clips(self, role: str = "fit") -> np.ndarray | None:
        """Label of the clip of every stimulus of `presentations(role)`; None where they are no clips."""
        stimuli = self.recording.sets[role]
        if not stimuli.clips:
            return None
        labels = np.repeat(np.arange(len(stimuli.clips)), [len(rows) for rows in stimuli.clips])
        return labels[self.rows] if role == "fit" else labels

    def half(self, labels: Any) -> np.ndarray:
        """Mask of the labels that belong to this split: distinct labels are dealt in two by the split seed."""
        names = np.asarray(labels)
        distinct = np.unique(names)
        order = np.random.default_rng([self.split_seed, 3]).permutation(len(distinct))
        first = distinct[order[: len(distinct) // 2]]
        chosen = np.isin(names, first)
        return chosen if self.split == "select" else ~chosen
