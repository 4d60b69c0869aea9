"""What a fitted cell predicts, and its cache on this node's disk: a score that is new or changed fits nothing again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweeps.hashing import content_id
from sweeps.io.disk_cache import Arrays, DiskCache, Entry
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold

SPLITS = ("select", "report")

LAYOUT = 3
"""Raise when the names or meanings of a file's arrays change: files of other layouts make room in time."""


@dataclass
class CellFit:
    """Predictions of one fitted cell.

    `held_out[split]` (fit stimuli, units) is NaN where a stimulus does not belong to the split; `baseline[split]`, of
    the same shape, is what a twin without features predicts: the mean response to the stimuli it is fitted on.
    `shown[split][name]` (rows, units) are responses to what else was shown, averaged over folds.
    `extras[split][name]`, whose first axis is that of the fit stimuli, are what a kind of twin predicts besides, such
    as responses given those of other units. `facts` are numbers worth keeping, such as the median alpha.
    `transferred[split]` gives, for twins of features, predictions from the recording's other feature sets.
    A `pruned` one was ended half-way by halving and is not written to disk.
    """

    held_out: dict[str, np.ndarray]
    baseline: dict[str, np.ndarray]
    shown: dict[str, dict[str, np.ndarray]]
    facts: dict[str, float] = field(default_factory=dict)
    extras: dict[str, dict[str, np.ndarray]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    transferred: dict[str, Callable[[], Mapping[str, np.ndarray]]] = field(default_factory=dict)
    pruned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of fit stimuli and of units."""
        return self.held_out[SPLITS[0]].shape

    def add_fold(
        self, fold: Fold, split: str, baseline: np.ndarray, predicted: Mapping[str, np.ndarray], folds: int
    ) -> None:
        """Put a fold's predictions of a split in their places; a unit without any response to learn from has 0.

        `predicted` (rows, units) by name: "fit", all stimuli of the recording, and what else was shown. `baseline`
        (units,) is NaN for a unit without a response.
        """
        rows, recorded = fold.held_out(split), ~np.isnan(baseline)
        self.baseline[split][rows] = baseline
        for name, array in predicted.items():
            responses = np.where(recorded, array, 0.0)
            if name == "fit":
                self.held_out[split][rows] = responses[rows]
            else:
                self.shown[split][name] = self.shown[split].get(name, 0.0) + responses / folds


def empty_fit(recording: Recording, units: int) -> CellFit:
    """A fit without predictions."""
    blank = np.full((len(recording.groups), units), np.nan)
    held_out, baseline = ({split: blank.copy() for split in SPLITS} for _ in range(2))
    return CellFit(held_out, baseline, {split: {} for split in SPLITS})


class FitCache:
    """Predictions of fitted cells by cell_id on this node's disk, see DiskCache.

    What else a twin was shown is part of a file's identity: a fit that was shown another probe does not serve. One file
    for each fit: a zip of many small arrays takes longer to write than a small readout takes to fit. `code` tells the
    plug-ins that fits were made with, whatever their stated versions.
    """

    def __init__(self, folder: Path, limit: float, code: str = "") -> None:
        self.disk = DiskCache(folder / "fits", limit)
        self.code = f"-{content_id(code)}" if code else ""

    def load(self, cell_id: str, shown: Mapping[str, str]) -> CellFit | None:
        """The fit of a cell that was shown the stimuli with these keys; None when it is not here or damaged."""
        entry = self.disk.load(self._name(cell_id))
        if entry is None or not shown.items() <= entry.facts["shown"].items():
            return None
        return _unpack(entry)

    def save(self, cell_id: str, fit: CellFit, shown: Mapping[str, str]) -> None:
        """Write a fit to disk, where that can be done."""
        self.disk.save(
            self._name(cell_id), _arrays_of(fit), {"facts": fit.facts, "shown": dict(shown), "shape": fit.shape}
        )

    def _name(self, cell_id: str) -> str:
        return f"{cell_id}-{LAYOUT}{self.code}"


def _arrays_of(fit: CellFit) -> dict[str, np.ndarray]:
    """All arrays of a fit by name, held-out predictions without the rows that no fold predicts."""
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = np.flatnonzero(np.isfinite(fit.held_out[split]).any(axis=1))
        arrays[f"rows/{split}"] = rows
        arrays[f"held_out/{split}"] = fit.held_out[split][rows]
        arrays[f"baseline/{split}"] = fit.baseline[split][rows]
        arrays |= {f"shown/{split}/{name}": responses for name, responses in fit.shown[split].items()}
        arrays |= {f"extras/{split}/{name}": values for name, values in fit.extras[split].items()}
    return arrays


def _unpack(entry: Entry) -> CellFit:
    arrays = entry.arrays
    parts: dict[str, dict[str, np.ndarray]] = {"held_out": {}, "baseline": {}}
    for split in SPLITS:
        for part, by_split in parts.items():
            by_split[split] = np.full(tuple(entry.facts["shape"]), np.nan)
            by_split[split][arrays[f"rows/{split}"]] = arrays[f"{part}/{split}"]
    shown, extras = ({split: _under(arrays, f"{part}/{split}/") for split in SPLITS} for part in ("shown", "extras"))
    return CellFit(parts["held_out"], parts["baseline"], shown, dict(entry.facts["facts"]), extras)


def _under(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def mean_response(recording: Recording, area: str, rows: np.ndarray) -> np.ndarray:
    """Mean response (units,) over some stimuli, missing ones left out; NaN for a unit without any."""
    responses = recording.fit.average[rows][:, recording.units(area)]
    with np.errstate(invalid="ignore"):  # none of none is NaN
        return np.asarray(np.nansum(responses, axis=0) / np.count_nonzero(~np.isnan(responses), axis=0))
