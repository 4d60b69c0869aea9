"""Which units of a recording are read, and the names of visual areas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from sweeps.errors import InputError
from sweeps.io.labels import clean_label, clean_labels
from sweeps.io.strict_model import Strict
from sweeps.recordings.recording import listed

ALIASES = {
    "VISp": "V1",
    "VISl": "LM",
    "VISal": "AL",
    "VISrl": "RL",
    "VISam": "AM",
    "VISpm": "PM",
    "VISli": "LI",
    "VISpor": "POR",
}
"""Allen acronyms of mouse areas -> the names that mouse laboratories use."""


def area_name(label: str) -> str:
    """The usual name of an area.

    >>> area_name("VISp"), area_name("V4")
    ('V1', 'V4')
    """
    return ALIASES.get(label, label)


class UnitChoice(Strict):
    """Which units are read: those of some areas, some left out, at most so many.

    `area` names the area of all units where the data do not tell; `areas` reads those areas alone, in that order;
    `units` reads at most so many of each area, evenly spaced over the file; `exclude_units` are rows of the file.
    """

    area: str | None = Field(None, min_length=1)
    areas: tuple[str, ...] = Field((), strict=False)
    units: int | None = Field(None, ge=1)
    exclude_units: tuple[int, ...] = Field((), strict=False)


@dataclass(frozen=True)
class Units:
    """Units that are read: `rows` of the file, the `areas` of these, `coordinates` (units, 2 or 3) in micrometres.

    `cleaned`: an area's label was padded, or in another form of Unicode.
    """

    rows: np.ndarray
    areas: np.ndarray
    coordinates: np.ndarray | None
    cleaned: bool = False


def choose_units(
    choice: UnitChoice, count: int, labels: np.ndarray | None, coordinates: np.ndarray | None, file: str
) -> Units:
    """Return which of `count` units are read, given the area of each where the data tell; InputError for none."""
    if choice.area is not None:
        labels = np.full(count, choice.area)
    if labels is None:
        raise InputError("the data do not tell the area of the units: name it, such as `area: V1`", file=file)
    stated = clean_labels(labels.tolist(), file, "area")
    areas = np.array([area_name(label) for label in stated.tolist()], dtype=str)
    if (areas == "").any():
        raise InputError(f"units {listed(np.flatnonzero(areas == ''))} have an empty area", file=file)
    included = _included(choice, areas, file)
    parts = [
        _thinned(np.flatnonzero(included & (areas == area)), choice.units) for area in _wanted(choice, areas, file)
    ]
    rows = np.concatenate(parts) if choice.areas else np.sort(np.concatenate(parts))
    if not len(rows):
        raise InputError(f"leaves none of the {count} units", file=file, key="exclude_units")
    places = None if coordinates is None else coordinates[rows].astype(np.float64)
    return Units(rows, areas[rows], places, bool((stated[rows] != labels[rows]).any()))


def check_length(values: np.ndarray | None, count: int, file: str) -> None:
    """Raise InputError unless there is one entry per unit."""
    entries = count if values is None else len(values) if values.ndim else 0
    if entries != count:
        raise InputError(f"has {entries} entries, the responses have {count} units", file=file)


def check_coordinates(coordinates: np.ndarray, count: int, file: str) -> None:
    """Raise InputError unless every unit has a place."""
    check_length(coordinates, count, file)
    if coordinates.ndim != 2 or coordinates.shape[1] not in (2, 3):
        raise InputError(f"must be ({count}, 2 or 3), not {coordinates.shape}", file=file)
    if not np.isfinite(coordinates).all():
        raise InputError("must hold the place of every unit, not NaN", file=file)


def _wanted(choice: UnitChoice, areas: np.ndarray, file: str) -> list[str]:
    present = list(dict.fromkeys(areas.tolist()))
    wanted = list(dict.fromkeys(area_name(clean_label(area)) for area in choice.areas)) or present
    for area in wanted:
        if area not in present:
            raise InputError("no unit lies there", file=file, key="areas", value=area, allowed=present)
    return wanted


def _included(choice: UnitChoice, areas: np.ndarray, file: str) -> np.ndarray:
    beyond = [unit for unit in choice.exclude_units if not 0 <= unit < len(areas)]
    if beyond:
        problem = f"must be units of the file, 0 to {len(areas) - 1}"
        raise InputError(problem, file=file, key="exclude_units", value=beyond[0])
    return ~np.isin(np.arange(len(areas)), choice.exclude_units)


def _thinned(rows: np.ndarray, most: int | None) -> np.ndarray:
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
