"""What a score declares about itself: VERSION, columns, direction, cost, what stands beside it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from models.registry import UnknownName

if TYPE_CHECKING:
    from sweeps.recordings.recording import RecordingFacts
    from sweeps.scores.view import CellView

NO_PICTURES = "a twin of features that come without pictures cannot be shown the probe"
"""Why a score of a probe's pictures may be absent."""

TAU_PARTS = ("_low", "_high", "_p", "_order")
"""Beside a tau over areas: its interval, the p of the rise, and whether its order is a stated one (0: as recorded)."""


@dataclass(frozen=True)
class Score:
    """One score, declared as `SCORE` in its own file, beside the function `compute(view)` that computes it.

    `version` is raised when, and only when, the score's numbers change: what was scored before is then scored again.
    `columns` are written once with the prefix `select.` and once with `score.` (report); the first one is the score
    itself. `up` says that more is better; other scores are descriptive and never a default objective. `also_up` are
    further columns that may drive a search. `seconds` is about what a cell takes on one core, measured at the
    quickstart's sizes by benchmarks/scores.py. `probe` names the probe that it needs, `sentences` that it needs the
    sentence encoder; `absent` says why it is NaN where it does not apply. Scores `on_request` are computed only where
    they are named: in an experiment's `scores`, or by `sweeps score`. A trial has further columns: the `curves`, and
    for every column in `ordered` Kendall's tau over areas (see sweeps.planning.area_orders), in the experiment's
    `order`, in that of metrics.AREA_ORDERS whose name `published` gives, or as recorded. Its interval and p need a
    standard error over units, the column with `_se` behind its name; one with `_at_chance` says where an area is at
    chance. `shown` are the columns that the report
    shows for every area, each with the column of its reference (the brain's own value, people's, or what it is to
    beat) or None. A score that says in every row why it is NaN has a column `<name>_reason` of codes 1, 2, ..., whose
    texts are `reasons`; `gaps` gives what a recording's facts tell of it beforehand, {area: reason}. `module`, where
    the function lies, is filled in by the registry.
    """

    name: str
    version: int
    columns: tuple[str, ...]
    up: bool
    summary: str
    seconds: float = 0.01
    probe: str | None = None
    sentences: bool = False
    absent: str = ""
    on_request: bool = False
    also_up: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()
    published: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[str, ...] = ()
    shown: Mapping[str, str | None] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    gaps: Callable[[RecordingFacts], dict[str, str]] = lambda facts: {}
    module: str = ""

    def load(self) -> Callable[[CellView], dict[str, float]]:
        """Import and return the function that computes it."""
        function: Callable[[CellView], dict[str, float]] = importlib.import_module(self.module).compute
        return function

    def computed(self, view: CellView) -> dict[str, float]:
        """Compute it; ValueError where the function gives other columns than the score declares."""
        values = self.load()(view)
        if set(values) != set(self.columns):
            raise ValueError(f"gives the columns {', '.join(values)}, but declares {', '.join(self.columns)}")
        return values

    def unavailable(self) -> dict[str, float]:
        """NaN in every column: what a cell has to which the score does not apply."""
        return dict.fromkeys(self.columns, float("nan"))

    def reason(self, code: float) -> str:
        """The text of a code in its column of reasons; empty for NaN."""
        return "" if math.isnan(code) or not self.reasons else self.reasons[round(code) - 1]

    @property
    def nan_where(self) -> str:
        """All that is known of why it may be NaN."""
        codes = (f"{number}: {reason}" for number, reason in enumerate(self.reasons, 1))
        return "; ".join(part for part in (self.absent, *codes) if part)

    @property
    def trial_columns(self) -> tuple[str, ...]:
        """Columns that a trial has beyond those of its cells."""
        taus = (f"{column}_tau{part}" for column in self.ordered for part in ("", *self._tau_parts(column)))
        return (*taus, *self.curves)

    def _tau_parts(self, column: str) -> tuple[str, ...]:
        """Endings of the columns beside the tau of a column."""
        return (*TAU_PARTS, *(["_at_chance"] if f"{column}_at_chance" in self.columns else []))


def with_module(score: Score, module: str) -> Score:
    """Let a declared score know where its function lies; UnknownName where there is none beside it."""
    if not callable(getattr(importlib.import_module(module), "compute", None)):
        raise UnknownName(f"{module} declares the score {score.name!r}, but has no function `compute`")
    return replace(score, module=module)
