"""The `fit` rows of a folder: which are presentations of one stimulus, and which groups show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sweeps.errors import InputError
from sweeps.recordings.contents import Contents, in_joined, joined_notes, row_keys
from sweeps.recordings.readers.presentations import (
    apart_note,
    has_clips,
    presentations_note,
    presentations_of,
    told_apart,
)
from sweeps.recordings.readers.screens import Presentations, arrange
from sweeps.recordings.recording import FEWEST_GROUPS
from sweeps.stimuli.images import ImageFolder
from sweeps.stimuli.picture_contents import FolderPictures


@dataclass(frozen=True)
class FitStimuli:
    """Stimuli that are fitted: a `table` with a row each (numbered as in the file), and which rows presented them.

    `rules` says which rules changed what was read, `notes` what `sweeps check` says of it.
    """

    table: pd.DataFrame
    presentations: Presentations
    contents: Contents | None = None
    rules: Mapping[str, bool] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def fit_stimuli(
    table: pd.DataFrame,
    features: Mapping[str, np.ndarray],
    pictures: ImageFolder | None,
    separate: bool,
    drawn: bool,
    file: str,
) -> FitStimuli:
    """Return the stimuli of the `fit` rows of a table, of which `features` are (rows, features).

    Rows show the same where they have the same name and the same features. `separate` keeps them apart, and
    what was `drawn` by this project is taken as it is.
    """
    rows = arrange([str(row) for row in range(len(table))], None)
    if drawn:
        return FitStimuli(table, rows)
    keys, notes = row_keys(features), {}
    shown = _shown(table, keys)
    if separate:
        table = told_apart(table)
    else:
        rows = presentations_of(table, shown)
        table, keys = table.iloc[rows.first], [keys[row] for row in rows.first] if keys else []
        notes = {"presentations": presentations_note(rows)} if rows.repeats > 1 else {}
        apart = apart_note(table, shown[rows.first])
        notes |= {"apart": apart} if apart else {}
    contents = _contents(table, pictures, keys)
    before = table["group"].to_numpy(dtype=str)
    joined = contents.joined_groups() if contents is not None else {}
    after = in_joined(before, joined)
    if joined:
        _check_joined(before, after, file)
        notes |= joined_notes(before, after)
    rules = {"presentations": rows.repeats > 1, "equal-content": bool(joined)}
    known = contents.in_groups(joined) if contents is not None else None
    return FitStimuli(table.assign(group=after), rows, known, rules, notes)


def _shown(table: pd.DataFrame, keys: Sequence[str]) -> np.ndarray:
    """A label (rows,) of what each shows: the name by which the table calls it, and its features; "" without a name."""
    names = zip(table["file"], keys or [""] * len(table), strict=True)
    return np.array([f"{name}\n{key}" if name else "" for name, key in names], dtype=str)


def _contents(table: pd.DataFrame, pictures: ImageFolder | None, keys: Sequence[str]) -> Contents | None:
    """What the stimuli show, by picture or by clip; None without pictures and features."""
    groups = table["group"].to_numpy(dtype=str)
    if pictures is not None:
        stored = FolderPictures(pictures, table["file"].tolist())
        contents = Contents(groups, stored.sketches, stored.contents)
    elif len(keys):
        contents = Contents.known(groups, keys)
    else:
        return None
    if has_clips(table):
        starts = np.flatnonzero((table["clip"] != table["clip"].shift()).to_numpy())
        return contents.of_clips(np.split(np.arange(len(table)), starts[1:]))
    return contents.among(np.flatnonzero(contents.sketches != ""))


def _check_joined(before: np.ndarray, after: np.ndarray, file: str) -> None:
    """Raise InputError where groups that were enough are too few once those that show the same are one."""
    groups, joined = len(np.unique(before)), len(np.unique(after))
    if joined < FEWEST_GROUPS <= groups:
        problem = f"{groups} groups show the same stimuli, so that only {joined} can be told apart:"
        advice = "a split by them would hold out what it trains on; let each group have stimuli of its own"
        raise InputError(f"{problem} {advice}", file=file, key="group")
