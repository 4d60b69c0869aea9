"""Whether a trial's areas follow an order: the experiment's own, the observable's published one, or the recorded."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics import AREA_ORDERS, area_order_from_errors
from sweeps.scores.score import Score

Orders = Mapping[str, Mapping[str, float]]
"""Ranks of areas by name, by observable: what an experiment states under `order`."""

FEWEST = 3
"""Areas of one recording that make an order."""

DRAWS = 400
"""Draws of a tau's interval; trials are many."""


def areas_by_recording(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group rows by recording; only those recordings that have at least three areas."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["recording"]].append(row)
    return [areas for areas in groups.values() if len(areas) >= FEWEST]


def number(value: Any) -> float:
    """A value of a row, NaN for None."""
    return math.nan if value is None else float(value)


def ranks_of(areas: Sequence[str], stated: Sequence[Mapping[str, float]]) -> tuple[list[float], bool]:
    """Ranks of a recording's areas in the first stated order that ranks three of them, and whether there is one.

    NaN for an area that it does not rank; without one the areas' places as recorded.

    >>> ranks_of(["V1", "AL", "LM", "PM"], [{"V1": 0, "LM": 1, "AL": 2}])
    ([0.0, 2.0, 1.0, nan], True)
    >>> ranks_of(["V1", "V4", "IT"], [{"V1": 0, "LM": 1, "AL": 2}])
    ([0.0, 1.0, 2.0], False)
    """
    for order in stated:
        ranks = [float(order.get(area, math.nan)) for area in areas]
        if np.isfinite(ranks).sum() >= FEWEST:
            return ranks, True
    return [float(place) for place in range(len(areas))], False


@dataclass(frozen=True)
class OrderedAreas:
    """The ranked areas of one recording, and their ranks; `stated`: these are no mere places."""

    rows: Sequence[Mapping[str, Any]]
    ranks: Sequence[float]
    stated: bool

    def of(self, column: str) -> list[float]:
        """The areas' values of a column, NaN where a row has none."""
        return [number(row.get(column)) for row in self.rows]


def _ordered(areas: Sequence[Mapping[str, Any]], stated: Sequence[Mapping[str, float]]) -> OrderedAreas:
    ranks, known = ranks_of([row["area"] for row in areas], stated)
    ranked = [(row, rank) for row, rank in zip(areas, ranks, strict=True) if not math.isnan(rank)]
    return OrderedAreas([row for row, _ in ranked], [rank for _, rank in ranked], known)


def order_columns(rows: Sequence[Mapping[str, Any]], score: Score, orders: Orders) -> dict[str, float]:
    """Compute the columns of a trial that say how the areas follow an order, for every ordered column of a score.

    `_tau` is the mean over recordings of Kendall's tau; a recording that lacks the value of a ranked area is left out.
    `_tau_low`, `_tau_high` and `_tau_p` are of metrics.area_order_from_errors, NaN where an area has no standard error.
    `_tau_order` is the share of recordings whose order is a stated one. `_tau_at_chance` is the share of recordings in
    which fewer than two areas are above chance: tau keeps its value there, since that twins fail is a finding.
    """
    columns: dict[str, float] = {}
    recordings = areas_by_recording(rows) if score.ordered else []
    for observable in score.ordered:
        published = AREA_ORDERS.get(score.published.get(observable, ""), {})
        ordered = [_ordered(areas, [orders.get(observable, {}), published]) for areas in recordings]
        for split in ("select", "score"):
            whole = [areas for areas in ordered if np.isfinite(areas.of(f"{split}.{observable}")).all()]
            columns |= _tau_columns(whole, f"{split}.{observable}") if whole else {}
    return columns


def _tau_columns(recordings: Sequence[OrderedAreas], column: str) -> dict[str, float]:
    test = area_order_from_errors(
        _padded([areas.of(column) for areas in recordings]),
        _padded([areas.of(f"{column}_se") for areas in recordings]),
        _padded([areas.ranks for areas in recordings]),
        draws=DRAWS,
    )
    chance = [np.array(areas.of(f"{column}_at_chance")) for areas in recordings]
    failing = [math.nan if np.isnan(flags).any() else float((flags == 0).sum() < 2) for flags in chance]
    return {
        f"{column}_tau": test.tau,
        f"{column}_tau_low": test.low,
        f"{column}_tau_high": test.high,
        f"{column}_tau_p": test.p,
        f"{column}_tau_order": float(np.mean([areas.stated for areas in recordings])),
        f"{column}_tau_at_chance": float(np.mean(failing)),
    }


def _padded(lists: Sequence[Sequence[float]]) -> np.ndarray:
    """Lists of different lengths as the rows of a table, NaN behind their ends."""
    longest = max(len(values) for values in lists)
    return np.array([[*values, *[math.nan] * (longest - len(values))] for values in lists])
