"""What a fitted cell predicts, and its cache on this node's disk: a score that is new or changed fits nothing again."""

from __future__ import annotations

import io
import json
import os
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweeps.recordings.recording import Recording

SPLITS = ("select", "report")

LAYOUT = 1
"""Raise when the layout of a file changes: files of other layouts are left alone and pruned in time."""

PRUNE_EVERY = 64
"""Files that a process writes before it looks whether there are too many."""


@dataclass
class CellFit:
    """Predictions of one fitted cell.

    `held_out[split]` (fit stimuli, units) is NaN where a stimulus does not belong to the split; `baseline[split]`, of
    the same shape, is what a twin without features predicts: the mean response to the stimuli it is fitted on.
    `shown[split][name]` (rows, units) are responses to what else was shown, averaged over folds.
    `facts` are numbers worth keeping, such as the median alpha. `transferred[split]` gives, for twins of
    features, predictions from the recording's other feature sets.
    """

    held_out: dict[str, np.ndarray]
    baseline: dict[str, np.ndarray]
    shown: dict[str, dict[str, np.ndarray]]
    facts: dict[str, float] = field(default_factory=dict)
    transferred: dict[str, Callable[[], Mapping[str, np.ndarray]]] = field(default_factory=dict)


def empty_fit(recording: Recording, units: int) -> CellFit:
    """A fit without predictions."""
    blank = np.full((len(recording.groups), units), np.nan)
    held_out, baseline = ({split: blank.copy() for split in SPLITS} for _ in range(2))
    return CellFit(held_out, baseline, {split: {} for split in SPLITS})


class FitCache:
    """Predictions of fitted cells by cell_id, cut to `limit` bytes, those used longest ago first; 0 keeps nothing.

    What else a twin was shown is part of a file's identity: a fit that was shown another probe does not serve.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder / "fits" / f"layout-{LAYOUT}"
        self.limit = limit
        self._written = 0

    def load(self, cell_id: str, shown: Mapping[str, str]) -> CellFit | None:
        """The fit of a cell that was shown the pictures with these keys; None when it is not here or unreadable."""
        path = self._path(cell_id)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
                facts = json.loads(str(held["facts"]))
                if not shown.items() <= facts["shown"].items():
                    return None
                fit = _unpack({name: held[name] for name in held.files}, facts)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None
        return fit

    def save(self, cell_id: str, fit: CellFit, shown: Mapping[str, str]) -> None:
        """Keep a fit; a full disk keeps nothing and is no error."""
        if not self.limit:
            return
        path = self._path(cell_id)
        fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(fresh, "wb") as file:
                np.savez(file, **_pack(fit, shown))  # type: ignore[arg-type]
            os.replace(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
        self._written += 1
        if self._written % PRUNE_EVERY == 1:
            self._prune()

    def _path(self, cell_id: str) -> Path:
        return self.folder / cell_id[:2] / f"{cell_id}.npz"

    def _prune(self) -> None:
        files = sorted(((_used(path), _bytes(path), path) for path in self.folder.glob("*/*.npz")), reverse=True)
        total = 0
        for _, size, path in files:
            total += size
            if total > self.limit:
                path.unlink(missing_ok=True)


def _pack(fit: CellFit, shown: Mapping[str, str]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = np.flatnonzero(np.isfinite(fit.held_out[split]).any(axis=1))
        arrays[f"rows/{split}"] = rows
        arrays[f"held_out/{split}"] = fit.held_out[split][rows]
        arrays[f"baseline/{split}"] = fit.baseline[split][rows]
        arrays |= {f"shown/{split}/{name}": responses for name, responses in fit.shown[split].items()}
    facts = {"facts": fit.facts, "shown": dict(shown), "shape": fit.held_out[SPLITS[0]].shape}
    return arrays | {"facts": np.array(json.dumps(facts))}


def _unpack(arrays: Mapping[str, np.ndarray], facts: Mapping[str, dict]) -> CellFit:
    parts: dict[str, dict[str, np.ndarray]] = {"held_out": {}, "baseline": {}}
    shown: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for part, held in parts.items():
            held[split] = np.full(tuple(facts["shape"]), np.nan)
            held[split][arrays[f"rows/{split}"]] = arrays[f"{part}/{split}"]
        head = f"shown/{split}/"
        shown[split] = {name.removeprefix(head): each for name, each in arrays.items() if name.startswith(head)}
    return CellFit(parts["held_out"], parts["baseline"], shown, dict(facts["facts"]))


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
