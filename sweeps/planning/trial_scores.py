"""A trial of finished cells is a join: the mean over areas of the mean over an area's recordings."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from metrics import dimensionality_alignment
from sweeps.planning.area_orders import Orders, areas_by_recording, number, order_columns
from sweeps.planning.slim_row import SlimRow
from sweeps.scores import SCORES, cell_columns, trial_columns

MEASURES = ("participation_ratio", "two_nn")


def join_scores(
    rows: Sequence[Mapping[str, Any]],
    names: list[str],
    beside: Sequence[str] = (),
    orders: Orders = MappingProxyType({}),
) -> dict[str, float]:
    """Join the scores of a trial from the rows of its cells (recording, area and score columns).

    Every column is the mean over areas of the mean over the area's recordings, NaN left out. Kendall's tau,
    curve distance and collapse index compare areas within one recording (its areas in recorded order) and are
    averaged over the recordings that have at least three areas, NaN where there is none. Columns of `Score.ordered`
    have a tau of their own: whether the twin's values rise along the order of `orders`, the published or the recorded
    one (see area_orders). `beside` are columns of scores that are not known here: they have means alone.
    """
    columns = [*cell_columns(names), *beside]
    values = _matrix(rows, columns)
    areas: dict[str, int] = {}
    member = np.array([areas.setdefault(row["area"], len(areas)) for row in rows])
    within = _mean(values, (member == np.arange(len(areas))[:, None]).astype(float))
    scores = dict(zip(columns, _mean(within, np.ones((1, len(areas))))[0].tolist(), strict=True))
    if "dimensionality" in names:
        scores |= _curves(rows)
    for name in names:
        scores |= order_columns(rows, SCORES[name], orders)
    return {name: scores.get(name, math.nan) for name in [*columns, *trial_columns(names)]}


def _mean(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Means (sets, columns) of the rows that belong to each set (sets, rows), NaN left out; NaN of nothing."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray((member @ np.where(there, values, 0.0)) / (member @ there))


def _matrix(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> np.ndarray:
    """Values (rows, columns), NaN where a row has none."""
    if all(isinstance(row, SlimRow) and list(row.columns) == columns for row in rows):
        return np.array([row.numbers for row in rows])  # type: ignore[attr-defined]
    return np.array([[number(row.get(column)) for column in columns] for row in rows])


def join_costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join what a trial took and where: sums and maxima over its cells, which other trials may share."""
    return {
        "seconds": sum(row["seconds"] or 0.0 for row in rows),
        "peak_memory_mb": max((row["peak_memory_mb"] or 0.0 for row in rows), default=0.0),
        **{name: _joined(row[name] for row in rows) for name in ("device", "host", "data_fingerprint")},
    }


def _joined(values: Iterable[str | None]) -> str:
    return " ".join(sorted({value for value in values if value}))


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for areas in areas_by_recording(rows):
        for split in ("select", "score"):
            for measure in MEASURES:
                twin = np.array([number(row.get(f"{split}.{measure}")) for row in areas])
                brain = np.array([number(row.get(f"{split}.brain_{measure}")) for row in areas])
                if np.isfinite(twin).all() and np.isfinite(brain).all():
                    result = dimensionality_alignment(twin, brain)
                    values[f"{split}.{measure}_tau"].append(result.tau)
                    values[f"{split}.{measure}_curve_distance"].append(result.curve_distance)
                    values[f"{split}.{measure}_collapse"].append(result.collapse)
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}
