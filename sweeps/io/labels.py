"""Labels from files: groups, areas, tiers, objects, clips, unit ids. What looks the same is the same, or is refused.

Editors, spreadsheets and MATLAB pad labels with blanks or NUL, and file systems write accents in two ways: a group
that stands under two labels would be cut by a split.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from sweeps.errors import InputError

UNSEEN = "\0\ufeff\u200b"
"""What pads a label beside blanks: NUL, the byte order mark, the blank of no width."""

TRANSFORMS = ("transform", "rotation_deg", "rotation", "position", "view")
"""Columns that may hold numbers, which mean the same with and without padding."""

CASED = ("group", "area", "unit", "clip", "object", "tier", "split", *TRANSFORMS)
"""Columns of labels of which no two may differ by case alone."""

DECIDING = (*CASED, "role")
"""Columns that decide what is read: cleaning them may change it."""

TEXTS = ("file", "caption")
"""Columns that hold no labels."""


def clean_label(text: str) -> str:
    """Return a label without padding, in Unicode's composed form (NFC).

    >>> clean_label(" movie00\\0\\0"), clean_label("cafe\\u0301 ") == "caf\\xe9"
    ('movie00', True)
    """
    label = unicodedata.normalize("NFC", text)
    while (stripped := label.strip().strip(UNSEEN)) != label:
        label = stripped
    return label


def clean_labels(labels: Iterable[object], file: str, key: str | None = None) -> np.ndarray:
    """Return labels (n,) without padding; InputError shows two that then differ by case alone."""
    texts = [str(label) for label in labels]
    cleaned = {text: clean_label(text) for text in dict.fromkeys(texts)}
    refuse_case(cleaned.values(), file, key)
    return np.array([cleaned[text] for text in texts], dtype=str)


def refuse_case(labels: Iterable[str], file: str, key: str | None = None) -> None:
    """Raise InputError for two labels that differ only by case, such as the areas V1 and v1.

    >>> refuse_case(["V1", "V4", "v1"], "units.csv", "area")
    Traceback (most recent call last):
    sweeps.errors.InputError: units.csv: area = 'v1': differs from 'V1' only by case: write both alike
    """
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(label.casefold(), label)
        if other != label:
            problem = f"differs from {other!r} only by case: write both alike"
            raise InputError(problem, file=file, key=key, value=label)


def refuse_duplicates(ids: np.ndarray, file: str, key: str | None = None) -> None:
    """Raise InputError for an id that names two entries; an empty one names none."""
    names, counts = np.unique(ids[ids != ""], return_counts=True)
    if (counts > 1).any():
        problem = "duplicate: every entry needs an id of its own, or leave the ids out"
        raise InputError(problem, file=file, key=key, value=str(names[counts > 1][0]))


def clean_table(table: pd.DataFrame, file: str) -> tuple[pd.DataFrame, bool]:
    """Return a table of texts with the names of its columns and its labels cleaned, and whether that can matter.

    It matters where a column in DECIDING had another name, or another label that is no number.
    """
    names = [clean_label(str(name)) for name in table]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError("two columns of one name", file=file, key=twice[0])
    renamed = table.set_axis(names, axis=1)
    labels = {name: _clean_column(renamed[name], file, name) for name in names if name not in TEXTS}
    decides = [name for name, before in zip(names, table, strict=True) if name in DECIDING and name != before]
    changed = [name for name in DECIDING if name in labels and _matters(renamed[name], labels[name])]
    return renamed.assign(**labels), bool(decides or changed)


def _clean_column(column: pd.Series, file: str, name: str) -> pd.Series:
    cleaned = {text: clean_label(text) for text in column.unique()}
    if name in CASED:
        refuse_case(cleaned.values(), file, name)
    return column.map(cleaned)


def _matters(before: pd.Series, after: pd.Series) -> bool:
    """Whether a label changed, other than a transform that is a number with and without padding."""
    changed = before != after
    if before.name in TRANSFORMS:
        changed &= pd.to_numeric(after, errors="coerce").isna()
    return bool(changed.any())
