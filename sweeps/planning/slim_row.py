"""Rows in little memory: the driver keeps those of some hundred thousand cells and trials."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

import numpy as np

DOUBLE = 8
"""Bytes of a number."""

FACTS = ("alpha", "units", "stimuli", "groups", "outer_folds")
"""Columns of a cell row that a fit gives beside its scores."""

OWN = ("alpha", "seconds", "peak_memory_mb")
"""Columns of a cell row that differ from cell to cell besides its scores."""

SHARED = (
    *(name for name in FACTS if name not in OWN),
    "status",
    "error",
    "attempt",
    "device",
    "host",
    "data_fingerprint",
    "split",
    "score_keys",
    "plugins",
    "recording",
    "area",
)
"""Columns of a cell row that many cells have alike."""

FIELDS = (*OWN, *SHARED)
"""Columns of a cell row that a trial needs besides its scores."""

PLACE_OF_SHARED = {name: index for index, name in enumerate(SHARED)}
KINDS = 10_000
"""Different values of the shared columns that are remembered, so that equal ones are one tuple."""


class SlimRow(Mapping[str, Any]):
    """The part of a cell row that trials need, in a twentieth of the memory of a dict.

    `columns` gives the place of every score column and is shared by all rows with the same scores.
    """

    __slots__ = ("columns", "doubles", "shared")

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, int]) -> None:
        self.columns = columns
        self.shared = _one_tuple(*(row.get(name) for name in SHARED))
        own = (row.get(name) for name in (*OWN, *columns))
        self.doubles = array("d", [math.nan if value is None else value for value in own]).tobytes()

    @property
    def numbers(self) -> np.ndarray:
        """The scores, in the order of `columns`; NaN where there is none."""
        return np.frombuffer(self.doubles, offset=DOUBLE * len(OWN))

    def __getitem__(self, name: str) -> Any:
        if name in PLACE_OF_SHARED:
            return self.shared[PLACE_OF_SHARED[name]]
        if name not in OWN:
            return self._double(len(OWN) + self.columns[name])
        value = self._double(OWN.index(name))
        return None if math.isnan(value) else value

    def _double(self, place: int) -> float:
        return float(unpack_from("d", self.doubles, DOUBLE * place)[0])

    def __iter__(self) -> Iterator[str]:
        return iter((*FIELDS, *self.columns))

    def __len__(self) -> int:
        return len(FIELDS) + len(self.columns)


@functools.lru_cache(KINDS)
def _one_tuple(*values: Any) -> tuple[Any, ...]:
    """Give one tuple for equal values."""
    return values


@dataclass(frozen=True, slots=True)
class FinishedTrial:
    """What a search needs to know of a finished trial: its objectives (None: it failed), and its configuration.

    `names` of the `values` are shared by all trials of a sweep. The configuration, as JSON, is kept of earlier runs
    alone. The objectives of a `pruned` trial are those that it had when its fit was ended: a search learns from them,
    but it is no candidate for the best.
    """

    names: tuple[str, ...]
    values: tuple[float, ...] | None
    config: str = ""
    pruned: bool = False

    @property
    def objectives(self) -> dict[str, float] | None:
        """Objectives by name, NaN where one is missing."""
        return None if self.values is None else dict(zip(self.names, self.values, strict=True))
