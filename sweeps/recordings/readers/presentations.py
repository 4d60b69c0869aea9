"""Rows of a table that are presentations of one stimulus: they become its repeats, not stimuli of their own."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from sweeps.recordings.readers.screens import Presentations, arrange, first_of

PRESENTATION = re.compile(
    "(trial|presentation|repeat|rep|session|run|block|time|onset|reaction)s?|repetitions?|order|index|idx|row|sequence|"
    "epoch|sweep|scan|timestamp|offset|start|stop|end|date|day|hour|number|nr|id|unnamed|subject|running|speed|pupil|"
    "gaze|eye|correct|choice|rt"
)
"""Words in the names of columns that tell of one presentation (`trial`, `session_id`), not of what is shown."""

STIMULUS = re.compile(
    "group|role|tier|split|object|transform|rotation|position|view|caption|label|category|class|condition|contrast|"
    "size|orientation"
)
"""Words in the names of columns that tell of what is shown, whatever stands beside them (`position_index`)."""


def presentations_of(table: pd.DataFrame, shown: np.ndarray) -> Presentations:
    """Return which rows of a role present the same stimulus, given a label (rows,) of what each shows ("": unknown).

    Rows are the same stimulus where they show the same and agree in every column, but for those that tell of one
    presentation (see PRESENTATION): the same picture at another position is another stimulus. Rows of clips are the
    same where the whole clip stands again, under the same name and with the same frames, or with its first ones.
    """
    names = stimulus_columns(table) + (["frame"] if has_clips(table) else [])
    stimulus = _numbered([shown.astype(str), *(table[name].to_numpy(dtype=str) for name in names)])
    unknown = np.flatnonzero(shown == "")
    stimulus[unknown] = unknown
    return arrange((_clip_items(table, stimulus) if has_clips(table) else stimulus).tolist(), None)


def has_clips(table: pd.DataFrame) -> bool:
    """Whether the rows of a role are frames of clips."""
    return {"clip", "frame"} <= set(table) and bool((table["clip"] != "").any())


def stacked(responses: np.ndarray, presentations: Presentations) -> np.ndarray:
    """Responses (rows, units, repeats) as (stimuli, units, presentations x repeats); NaN where there are fewer.

    >>> stacked(np.array([[[1.0]], [[2.0]], [[3.0]]]), arrange(["a", "b", "a"], None))[:, 0]
    array([[ 1.,  3.],
           [ 2., nan]])
    """
    rows, units, repeats = responses.shape
    stimuli = len(presentations.first)
    together = np.full((stimuli, units, presentations.repeats * repeats), np.nan, responses.dtype)
    for row in range(rows):
        start = presentations.repeat[row] * repeats
        together[presentations.item[row], :, start : start + repeats] = responses[row]
    return together


def told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a name of its own for every presentation of a clip: `gulls`, `gulls #2`, `gulls #3`."""
    if not has_clips(table):
        return table
    clip, run = table["clip"], pd.Series(_runs(table), table.index)
    turn = run.groupby(clip).rank(method="dense").astype(int)
    return table.assign(clip=clip.where(turn == 1, clip + " #" + turn.astype(str)))


def presentations_note(presentations: Presentations) -> str:
    """Return what `sweeps check` says of rows that were taken as repeats."""
    rows, stimuli = len(presentations.item), len(presentations.first)
    advice = "`presentations: separate` keeps them apart"
    return f"{rows} rows are presentations of {stimuli} stimuli, taken as repeats ({advice})"


def apart_note(table: pd.DataFrame, shown: np.ndarray) -> str | None:
    """Return what it says of rows that show the same but differ in a column; None where there are none.

    table and shown (stimuli,): one row for each stimulus.
    """
    again = pd.Series(shown)[shown != ""].duplicated(keep=False)
    rows = again.index.to_numpy()[again.to_numpy()]
    if not len(rows) or has_clips(table):
        return None
    same, columns = pd.Series(shown[rows]), table.iloc[rows].reset_index(drop=True)
    differ = [name for name in stimulus_columns(table) if (columns.groupby(same)[name].nunique() > 1).any()]
    return f"{len(rows)} rows show what another shows, but differ in {', '.join(differ)}: they are stimuli of their own"


def stimulus_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell of what is shown; those that name it (file, clip, frame) are none of them."""
    return [str(name) for name in table if name not in ("file", "clip", "frame") and _of_stimulus(str(name))]


def _of_stimulus(column: str) -> bool:
    """Whether a column tells of what is shown; words are joined by signs or capitals: `session_id`, `trialIndex`."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower())
    return any(map(STIMULUS.fullmatch, words)) or not any(map(PRESENTATION.fullmatch, words))


def _clip_items(table: pd.DataFrame, stimulus: np.ndarray) -> np.ndarray:
    """A number per row, equal for the same frame of a clip that stands again; of other rows, one of its own.

    The run of a clip that stands again must be the first run's rows, in order, or the first few of them.
    """
    run, items = _runs(table), np.arange(len(table))
    first: dict[str, np.ndarray] = {}
    for rows in np.split(items.copy(), np.flatnonzero(np.diff(run)) + 1):
        known = first.setdefault(str(table["clip"].iloc[rows[0]]), rows)
        if np.array_equal(stimulus[rows], stimulus[known[: len(rows)]]):
            items[rows] = known[: len(rows)]
    return items


def _runs(table: pd.DataFrame) -> np.ndarray:
    """Number (rows,) of the run that a row belongs to: it begins where the label changes, or the frame is 0 again."""
    frame = pd.to_numeric(table["frame"], errors="coerce")
    return ((table["clip"] != table["clip"].shift()) | (frame == 0)).cumsum().to_numpy()


def _numbered(columns: list[np.ndarray]) -> np.ndarray:
    """A number per row, equal for rows that agree in all columns: that of the first of them."""
    codes = np.stack([np.unique(column, return_inverse=True)[1] for column in columns])
    return first_of(np.unique(codes, axis=1, return_inverse=True)[1].ravel())
