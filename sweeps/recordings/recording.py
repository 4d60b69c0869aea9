"""What every format is read into: stimuli, responses, areas and groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.recordings.contents import Contents
from sweeps.recordings.split_rows import SplitBasis

ROLES = ("fit", "objects", "captions", "text", "ood")
"""Roles of stimuli: `fit` is split into train, select and report; the others are only scored: object views,
captioned scenes shown as pictures, the same captions read as text, and stimuli of another kind than those of `fit`."""

BLOCK = 2**20
"""Responses that are worked on at a time, so that little room is taken beside them."""

LEAVE_OUT = "remove them, or name them in the recording's exclude_units"


@dataclass(frozen=True)
class RecordingFacts:
    """Name, identity and sizes of a recording. `areas` maps each area to its number of units.

    `clips` is the number of clips (0: single pictures), `texts` whether there is something to read, `behaviour`,
    `pupil` and `coordinates` whether these were recorded. `truth` is what is planted in a simulated recording: {area:
    depth of the teacher}. `notes` are remarks of the format's own. `lowest` and `lowest_average` are
    {area: its least response, and least average over repeats}; empty where a format does not say. `contents` tell what
    the `fit` stimuli show, None where nothing is known of it. `repeated` is, by role and area, the share of units
    of which any stimulus was repeated: those whose noise is known. Empty where that was not counted. `split_basis` is
    what splits look at, None where every group has as many stimuli and repeats as any other and no column names any.
    """

    name: str
    fingerprint: str
    areas: dict[str, int]
    stimuli: int
    groups: int
    repeats: int
    roles: tuple[str, ...]
    features: tuple[str, ...] = ()
    pictures: bool = True
    clips: int = 0
    texts: bool = False
    behaviour: bool = False
    pupil: bool = False
    coordinates: bool = False
    truth: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    lowest_average: dict[str, float] = field(default_factory=dict)
    contents: Contents | None = field(default=None, repr=False, compare=False)
    repeated: dict[str, dict[str, float]] = field(default_factory=dict)
    split_basis: SplitBasis | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class StimulusSet:
    """Stimuli of one role: `table` (one row each), `responses` (stimuli, units, repeats), NaN = missing.

    `images` gives uint8 (rows, height, width, 3) of a slice of rows, or is None where there are no pictures; `key`
    identifies those pictures by content and geometry.

    Clips: a row is one frame (one time bin of the responses), the columns `clip` (a label) and `frame` (from 0) say
    which; the frames of a clip lie together, in order. A clip that is shown again is a repeat, not other rows. Where
    one of the two columns is missing, the rows are single pictures.
    `behaviour` (rows, channels, repeats) and `pupil` (rows, 2, repeats) were recorded beside the responses, NaN where
    they are missing; None where there are none.
    """

    table: pd.DataFrame
    responses: np.ndarray
    key: str
    images: Callable[[slice], np.ndarray] | None = None
    behaviour: np.ndarray | None = None
    pupil: np.ndarray | None = None

    @cached_property
    def clips(self) -> list[np.ndarray]:
        """Rows of every clip, in order of the rows; none where the stimuli are no clips."""
        if "clip" not in self.table or "frame" not in self.table:
            return []
        labels = self.table["clip"].to_numpy()
        cuts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        return np.split(np.arange(len(labels)), cuts) if len(labels) else []

    @cached_property
    def average(self) -> np.ndarray:
        """Mean over the repeats that are there, (stimuli, units), float64; NaN where there is none."""
        return mean_over_repeats(self.responses)

    @cached_property
    def repeats(self) -> np.ndarray:
        """Number of repeats of every stimulus (stimuli,) in which some unit has a response."""
        step = max(1, BLOCK // max(1, self.responses[:1].size))
        starts = range(0, len(self.responses), step)
        counts = [np.isfinite(self.responses[start : start + step]).any(axis=1).sum(axis=1) for start in starts]
        return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Recording:
    """One recording: its stimuli by role, the area of every unit, features where it brings its own.

    `geometry` is how its pictures are shown, None where it has none. `coordinates` (units, 2 or 3) are places of the
    units in cortex, in micrometres; `frame_rate` the frames (rows) a second of clips, or samples a second of an fMRI
    run. `words` are the stories that were listened to or read in every run: columns run, time (seconds from the
    run's first sample), word; the table's columns `run` and `time` then place every row. `notes` are remarks of the
    format's own, such as how many voxels were left out. `contents` tell what the `fit` stimuli show, so that
    recordings of one experiment that show the same hold the same out; None: nothing is known of it.
    """

    name: str
    fingerprint: str
    areas: np.ndarray
    sets: Mapping[str, StimulusSet]
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    geometry: Geometry | None = None
    coordinates: np.ndarray | None = None
    frame_rate: float | None = None
    words: pd.DataFrame | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    contents: Contents | None = None

    @property
    def fit(self) -> StimulusSet:
        return self.sets["fit"]

    @cached_property
    def groups(self) -> np.ndarray:
        """Group label of every `fit` stimulus."""
        return self.fit.table["group"].to_numpy(dtype=str)

    @cached_property
    def split_basis(self) -> SplitBasis:
        """What splits look at."""
        return SplitBasis(self.name, self.groups, self.fit.repeats, self.fit.table)

    def area_names(self) -> list[str]:
        """Areas in order of first appearance: the order of the hierarchy where the file gives one."""
        return list(dict.fromkeys(self.areas.tolist()))

    def facts(self) -> RecordingFacts:
        """Return what the driver needs to know of it."""
        return RecordingFacts(
            name=self.name,
            fingerprint=self.fingerprint,
            areas={area: len(self.units(area)) for area in self.area_names()},
            stimuli=len(self.groups),
            groups=len(np.unique(self.groups)),
            repeats=self.fit.responses.shape[2],
            roles=tuple(self.sets),
            features=tuple(self.features),
            pictures=self.fit.images is not None,
            clips=len(self.fit.clips),
            texts=self.words is not None or "caption" in self.fit.table,
            behaviour=self.fit.behaviour is not None,
            pupil=self.fit.pupil is not None,
            coordinates=self.coordinates is not None,
            notes=dict(self.notes),
            lowest=self._lowest(np.fmin.reduce(self.fit.responses, axis=(0, 2))),
            lowest_average=self._lowest(np.fmin.reduce(self.fit.average, axis=0)),
            contents=self.contents,
            repeated={role: self._repeated(stimuli.responses) for role, stimuli in self.sets.items()},
            split_basis=self.split_basis,
        )

    def _lowest(self, values: np.ndarray) -> dict[str, float]:
        """Return the least of the values (units,) of every area."""
        return {area: float(np.fmin.reduce(values[self.units(area)])) for area in self.area_names()}

    def _repeated(self, responses: np.ndarray) -> dict[str, float]:
        """Share of each area's units of which any stimulus has two responses."""
        step = max(1, BLOCK // max(1, responses[:1].size))
        rows = range(0, len(responses), step)
        parts = [(np.isfinite(responses[row : row + step]).sum(axis=2) > 1).any(axis=0) for row in rows]
        known = np.any(parts, axis=0) if parts else np.zeros(len(self.areas), dtype=bool)
        return {area: float(known[self.units(area)].mean()) for area in self.area_names()}

    def units(self, area: str) -> np.ndarray:
        """Indices of the units of an area."""
        return self._places.get(area, np.empty(0, dtype=np.int64))

    @cached_property
    def _places(self) -> dict[str, np.ndarray]:
        return {area: np.flatnonzero(self.areas == area) for area in self.area_names()}


def mean_over_repeats(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of (rows, units, repeats), in float64, of what is there; NaN where there is none.

    Equal to NumPy's `nanmean` of the whole array as float64, bit for bit, but taken from a block of rows at a time.

    >>> mean_over_repeats(np.array([[[1.0, 2.0], [4.0, np.nan], [np.nan, np.nan]]]))
    array([[1.5, 4. , nan]])
    """
    mean = np.empty_like(values[:, :, 0], dtype=np.float64)
    step = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), step):
        block = values[start : start + step].astype(np.float64)
        with np.errstate(invalid="ignore"):  # none of none is NaN
            mean[start : start + step] = np.nansum(block, axis=2) / np.count_nonzero(~np.isnan(block), axis=2)
    return mean


def check_responses(responses: np.ndarray, file: str, rows: np.ndarray | None = None) -> None:
    """Raise InputError for units that cannot be fitted: infinite, all missing, constant.

    `rows` (units,) are their numbers in the file, where not all of them are read.
    """
    infinite = _units_where(responses, lambda values: np.isinf(values).any(axis=(0, 2)), rows)
    if len(infinite):
        raise InputError(f"infinite responses in units {listed(infinite)}: only numbers and NaN are allowed", file=file)
    empty = _units_where(responses, lambda values: np.isnan(values).all(axis=(0, 2)), rows)
    if len(empty):
        raise InputError(f"units {listed(empty)} are NaN throughout: {LEAVE_OUT}", file=file)
    flat = _units_where(responses, _constant, rows)
    if len(flat):
        problem = f"units {listed(flat)} respond the same to every stimulus (constant)"
        raise InputError(f"{problem}: {LEAVE_OUT}", file=file)


def _units_where(
    responses: np.ndarray, holds: Callable[[np.ndarray], np.ndarray], rows: np.ndarray | None
) -> np.ndarray:
    """Numbers of the units for which `holds` is true, tested a block of units at a time."""
    step = max(1, BLOCK // max(1, responses[:, :1].size))
    parts = [holds(responses[:, start : start + step]) for start in range(0, responses.shape[1], step)]
    units = np.flatnonzero(np.concatenate(parts))
    return units if rows is None else rows[units]


def _constant(responses: np.ndarray) -> np.ndarray:
    """Which units respond the same to every stimulus, up to rounding; every unit has a response."""
    spread = np.nanstd(mean_over_repeats(responses), axis=0)
    return np.asarray(spread <= 1e-9 * np.nanmax(np.abs(responses), axis=(0, 2)))


FEWEST_GROUPS = 4
"""Groups in which a unit must have been recorded: train needs two, select and report one each."""


def check_groups(fit: StimulusSet, file: str, rows: np.ndarray | None = None) -> None:
    """Raise InputError for units that were recorded in too few groups to be fitted and scored.

    `rows` (units,) are their numbers in the file, where not all of them are read.
    """
    present = pd.DataFrame(np.isfinite(fit.responses).any(axis=2)).groupby(fit.table["group"].to_numpy()).any()
    needed = min(FEWEST_GROUPS, len(present))
    few = np.flatnonzero(present.to_numpy().sum(axis=0) < needed)
    if len(few):
        numbers = listed(few if rows is None else rows[few])
        raise InputError(f"units {numbers} have responses in fewer than {needed} groups: {LEAVE_OUT}", file=file)


def check_roles(sets: Mapping[str, StimulusSet], file: str) -> None:
    """Raise InputError when stimuli that are only scored lack the labels that they are scored by."""
    needs = {"objects": ("object", "transform"), "captions": ("caption",), "text": ("caption",)}
    for role, columns in needs.items():
        for column in columns if role in sets else ():
            table = sets[role].table
            if column not in table or (table[column] == "").any():
                raise InputError(f"stimuli with the role `{role}` need a {column}", file=file, key=column)
            if column == "transform" and not np.isfinite(_numbers(table[column])).all():
                raise InputError("must be numbers for object views", file=file, key=column)
        if role in sets and not np.isfinite(sets[role].average).all():
            raise InputError(f"a stimulus with the role `{role}` has a unit without a response", file=file, key="role")
    if "text" in sets and "captions" in sets:
        pairs = [
            list(zip(sets[role].table["file"], sets[role].table["caption"], strict=True))
            for role in needs
            if role != "objects"
        ]
        if pairs[0] != pairs[1]:
            raise InputError(
                "the `text` stimuli must be the `captions` stimuli again, file by file in the same order",
                file=file,
                key="role",
            )


def _numbers(column: pd.Series) -> np.ndarray:
    """A column of texts as numbers, NaN where one is none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)


def listed(numbers: np.ndarray, most: int = 8) -> str:
    """The first few numbers as text."""
    shown = ", ".join(str(number) for number in numbers[:most])
    return shown + (f" and {len(numbers) - most} more" if len(numbers) > most else "")
