"""Rows as the driver holds them: some hundred thousand cells and trials in little memory."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FACTS = ("alpha", "units", "stimuli", "groups", "outer_folds")
"""Columns of a cell row that a fit gives beside its scores."""

FIELDS = (
    *FACTS,
    "status",
    "error",
    "attempt",
    "seconds",
    "peak_memory_mb",
    "device",
    "host",
    "data_fingerprint",
    "split",
    "score_keys",
    "recording",
    "area",
)
"""Columns of a cell row that a trial needs besides its scores."""

PLACES = {name: index for index, name in enumerate(FIELDS)}


class SlimRow(Mapping[str, Any]):
    """The part of a cell row that trials need, in a tenth of the memory of a dict: some hundred thousand are held.

    `columns` tells the place of every score column and is shared by all rows with the same scores.
    """

    __slots__ = ("columns", "fields", "numbers")

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, int]) -> None:
        self.columns = columns
        self.fields = tuple(_interned(row.get(name)) for name in FIELDS)
        self.numbers = array("d", [math.nan if row.get(name) is None else row[name] for name in columns])

    def __getitem__(self, name: str) -> Any:
        if name in PLACES:
            return self.fields[PLACES[name]]
        return self.numbers[self.columns[name]]

    def __iter__(self) -> Iterator[str]:
        return iter((*FIELDS, *self.columns))

    def __len__(self) -> int:
        return len(FIELDS) + len(self.columns)


def _interned(value: Any) -> Any:
    return sys.intern(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Finished:
    """What a search needs to know of a finished trial: its objectives (None: it failed), and its configuration.

    The configuration, as JSON, is kept of earlier runs alone. The objectives of a `pruned` trial are those that it had
    when its fit was ended: a search learns from them, but it is no candidate for the best.
    """

    objectives: dict[str, float] | None
    config: str = ""
    pruned: bool = False
