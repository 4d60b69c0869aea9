"""What a fitted cell predicts, and its cache on this node's disk: a score that is new or changed fits nothing again."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.io.files import prune, replacing
from sweeps.recordings.recording import Recording
from sweeps.recordings.splits import Fold

SPLITS = ("select", "report")

LAYOUT = 2
"""Raise when the layout of a file changes: files of other layouts are left alone and pruned in time."""

MARK, HEAD = b"cell-fit", struct.Struct("<8sQI")
"""What every file begins with: the mark, the size of its header in bytes, the checksum of header and arrays."""

LOOK = 0.05
"""Share of the limit that a process writes before it looks whether there is too much."""


@dataclass
class CellFit:
    """Predictions of one fitted cell.

    `held_out[split]` (fit stimuli, units) is NaN where a stimulus does not belong to the split; `baseline[split]`, of
    the same shape, is what a twin without features predicts: the mean response to the stimuli it is fitted on.
    `shown[split][name]` (rows, units) are responses to what else was shown, averaged over folds.
    `extras[split][name]`, whose first axis is that of the fit stimuli, are what a kind of twin predicts besides, such
    as responses given those of other units. `facts` are numbers worth keeping, such as the median alpha.
    `transferred[split]` gives, for twins of features, predictions from the recording's other feature sets.
    A `pruned` one was ended half-way by halving and is not kept.
    """

    held_out: dict[str, np.ndarray]
    baseline: dict[str, np.ndarray]
    shown: dict[str, dict[str, np.ndarray]]
    facts: dict[str, float] = field(default_factory=dict)
    extras: dict[str, dict[str, np.ndarray]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    transferred: dict[str, Callable[[], Mapping[str, np.ndarray]]] = field(default_factory=dict)
    pruned: bool = False

    def keep(
        self, fold: Fold, split: str, baseline: np.ndarray, predicted: Mapping[str, np.ndarray], folds: int
    ) -> None:
        """Put a fold's predictions of a split in their places; a unit without any response to learn from has 0.

        `predicted` (rows, units) by name: "fit", all stimuli of the recording, and what else was shown. `baseline`
        (units,) is NaN for a unit without a response.
        """
        rows, taught = fold.held_out(split), ~np.isnan(baseline)
        self.baseline[split][rows] = baseline
        for name, array in predicted.items():
            found = np.where(taught, array, 0.0)
            if name == "fit":
                self.held_out[split][rows] = found[rows]
            else:
                self.shown[split][name] = self.shown[split].get(name, 0.0) + found / folds


def empty_fit(recording: Recording, units: int) -> CellFit:
    """A fit without predictions."""
    blank = np.full((len(recording.groups), units), np.nan)
    held_out, baseline = ({split: blank.copy() for split in SPLITS} for _ in range(2))
    return CellFit(held_out, baseline, {split: {} for split in SPLITS})


class FitCache:
    """Predictions of fitted cells by cell_id, cut to `limit` bytes, those used longest ago first; 0 keeps nothing.

    What else a twin was shown is part of a file's identity: a fit that was shown another probe does not serve. A cache
    that cannot be read or written keeps nothing and is no error. Between two looks the processes of a node may write
    LOOK of the limit each beyond it.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder / "fits"
        self.limit = limit
        self._unseen = limit

    def load(self, cell_id: str, shown: Mapping[str, str]) -> CellFit | None:
        """The fit of a cell that was shown the pictures with these keys; None when it is not here or unreadable."""
        path = self._path(cell_id)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            fit = _read(content, shown)
        except Exception:  # whatever a damaged file makes numpy, struct or json raise
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return fit

    def save(self, cell_id: str, fit: CellFit, shown: Mapping[str, str]) -> None:
        """Keep a fit."""
        if not self.limit:
            return
        path = self._path(cell_id)
        content = _as_bytes(*_pack(fit, shown))
        with suppress(OSError):
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(content)
            self._unseen += len(content)
        if self._unseen > LOOK * self.limit:
            self._unseen = 0.0
            prune(self.folder.glob("*/*/*"), self.limit)  # of any layout

    def _path(self, cell_id: str) -> Path:
        return self.folder / f"layout-{LAYOUT}" / cell_id[:2] / f"{cell_id}.fit"


def _as_bytes(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """One file: HEAD (mark, size of the header, checksum of all that follows), a JSON header, the arrays' bytes.

    A zip of many small arrays takes longer to write than a small readout takes to fit.
    """
    held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, array.dtype.str, array.shape] for name, array in held.items()]
    header = json.dumps({"arrays": layout, **facts}).encode()
    body = b"".join([header, *(array.tobytes() for array in held.values())])
    return HEAD.pack(MARK, len(header), zlib.crc32(body)) + body


def _read(content: bytes, shown: Mapping[str, str]) -> CellFit | None:
    """The fit in a file, None when it was shown other pictures; any error when the file is damaged."""
    mark, size, checksum = HEAD.unpack_from(content)
    body = memoryview(content)[HEAD.size :]
    if mark != MARK or zlib.crc32(body) != checksum:
        raise ValueError("damaged")
    header = json.loads(bytes(body[:size]))
    if not shown.items() <= header["shown"].items():
        return None
    arrays, start = {}, size
    for name, kind, shape in header["arrays"]:
        array = np.frombuffer(body, np.dtype(kind), math.prod(shape), start).reshape(shape).copy()
        arrays[name], start = array, start + array.nbytes
    return _unpack(arrays, header)


def _pack(fit: CellFit, shown: Mapping[str, str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and the rest as what JSON can hold."""
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = np.flatnonzero(np.isfinite(fit.held_out[split]).any(axis=1))
        arrays[f"rows/{split}"] = rows
        arrays[f"held_out/{split}"] = fit.held_out[split][rows]
        arrays[f"baseline/{split}"] = fit.baseline[split][rows]
        arrays |= {f"shown/{split}/{name}": responses for name, responses in fit.shown[split].items()}
        arrays |= {f"extras/{split}/{name}": held for name, held in fit.extras[split].items()}
    facts = {"facts": fit.facts, "shown": dict(shown), "shape": fit.held_out[SPLITS[0]].shape}
    return arrays, facts


def _unpack(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> CellFit:
    parts: dict[str, dict[str, np.ndarray]] = {"held_out": {}, "baseline": {}}
    for split in SPLITS:
        for part, held in parts.items():
            held[split] = np.full(tuple(facts["shape"]), np.nan)
            held[split][arrays[f"rows/{split}"]] = arrays[f"{part}/{split}"]
    shown, extras = ({split: _under(arrays, f"{what}/{split}/") for split in SPLITS} for what in ("shown", "extras"))
    return CellFit(parts["held_out"], parts["baseline"], shown, dict(facts["facts"]), extras)


def _under(arrays: Mapping[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(head): each for name, each in arrays.items() if name.startswith(head)}


def mean_response(recording: Recording, area: str, rows: np.ndarray) -> np.ndarray:
    """Mean response (units,) over some stimuli, missing ones left out; NaN for a unit without any."""
    held = recording.fit.average[rows][:, recording.units(area)]
    with np.errstate(invalid="ignore"):  # none of none is NaN
        return np.asarray(np.nansum(held, axis=0) / np.count_nonzero(~np.isnan(held), axis=0))
