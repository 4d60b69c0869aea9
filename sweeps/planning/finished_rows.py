"""What earlier runs have left: finished cells and trials, how often each was tried, which scores each holds."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import EarlierScores
from sweeps.hashing import content_id
from sweeps.planning.area_orders import Orders
from sweeps.planning.slim_row import FACTS, FinishedTrial, SlimRow
from sweeps.scores import SCORES, cell_columns, trial_columns
from sweeps.storage.provenance import joined_errors
from sweeps.storage.row_log import RowLog

TRIAL_FIELDS = ("trial_id", "status", "error", "score_keys", "attempt", "config", "halving")
"""Columns of earlier trials that are read besides the objectives."""

ORDER_KEY = "order"
"""Name of the key of an experiment's orders of areas, among those of the scores of a trial."""


@dataclass(frozen=True)
class WantedRows:
    """What the rows of a sweep hold: which scores, under which keys, and the objectives of its search.

    A row is final when it failed, or when it holds every wanted score and is done, or was pruned under the present
    `halving`; with `retry_failed` rows with an error (also that of a single score) are not. `orders` are ranks of areas
    by observable; trials, which alone compare areas, are final under the present ones.
    """

    score_keys: Mapping[str, str]
    scores: tuple[str, ...]
    objectives: tuple[str, ...]
    halving: str = ""
    retry_failed: bool = False
    orders: Orders = field(default_factory=dict)

    @functools.cached_property
    def keys(self) -> set[str]:
        """Keys of the wanted scores."""
        return {self.score_keys[name] for name in self.scores}

    def is_final(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row need not be made again."""
        if self.retry_failed and row["error"]:
            return False
        if row["status"] == "pruned" and row["halving"] != self.halving:
            return False
        return row["status"] == "failed" or self.keys <= set(row["score_keys"].split())

    @functools.cached_property
    def order_keys(self) -> set[str]:
        """The key of the present orders in the `score_keys` of a trial; none where the experiment states none."""
        return {f"{ORDER_KEY}@{content_id(self.orders)}"} if self.orders else set()

    def is_final_trial(self, row: Mapping[str, Any]) -> bool:
        """Tell whether the row of a trial need not be joined again: an order of areas may have been edited."""
        keys = (row["score_keys"] or "").split()
        orders = {key for key in keys if key.partition("@")[0] == ORDER_KEY}
        return self.is_final(row) and (row["status"] == "failed" or orders == self.order_keys)

    def names(self, score_keys: Iterable[str]) -> list[str]:
        """List the scores that every one of these rows holds under the present VERSIONs, given their `score_keys`."""
        sets = [set(keys.split()) for keys in score_keys]
        return [name for name, key in self.score_keys.items() if sets and all(key in keys for keys in sets)]

    def foreign_keys(self, score_keys: str | None) -> list[str]:
        """List the keys of scores that are not known here, such as those of a plug-in that is missing."""
        return [key for key in (score_keys or "").split() if key.partition("@")[0] not in self.score_keys]

    def foreign_columns(self, row: Mapping[str, Any]) -> list[str]:
        """List the score columns in which a row has numbers of scores that are not known here."""
        if not self.foreign_keys(row["score_keys"]):
            return []
        scores = [name for name in row if name.startswith(("select.", "score."))]
        return [name for name in scores if name not in self._known_columns and row[name] is not None]

    @functools.cached_property
    def _known_columns(self) -> set[str]:
        names = list(self.score_keys)
        return {*cell_columns(names), *trial_columns(names)}


class FinishedRows:
    """Rows that need not be made again, those of earlier runs and those of this one.

    `attempts` counts how often a cell or trial that is not final was tried before. `plugins` are the texts of the
    plug-ins that the cells of earlier runs were made with. With `configurations` those of finished trials are kept, for
    a search that adopts them.
    """

    def __init__(self, row_log: RowLog, wanted: WantedRows, configurations: bool = False) -> None:
        self.wanted = wanted
        self.attempts: dict[str, int] = {}
        self.cells: dict[str, SlimRow] = {}
        self.trials: dict[str, FinishedTrial] = {}
        self.plugins: set[str | None] = set()
        self._earlier: dict[str, EarlierScores] = {}
        self._columns: dict[str, dict[str, int]] = {}
        self._read_cells(row_log)
        self._read_trials(row_log, configurations)

    def _read_cells(self, row_log: RowLog) -> None:
        for row in row_log.rows("cells"):
            self.plugins.add(row["plugins"])
            if self.wanted.is_final(row):
                self.add_cell(row)
            else:
                self._reopen(row["cell_id"], row)

    def _read_trials(self, row_log: RowLog, configurations: bool) -> None:
        for row in row_log.rows("trials", [*TRIAL_FIELDS, *self.wanted.objectives]):
            if self.wanted.is_final_trial(row):
                self.add_trial(row, row["config"] if configurations else "")
            else:
                self.attempts[row["trial_id"]] = row["attempt"] + 1

    def add_cell(self, row: Mapping[str, Any]) -> None:
        """Take up a row of a finished cell."""
        keys = row["score_keys"] or ""
        if keys not in self._columns:
            names = [*cell_columns(self.wanted.names([keys])), *self.wanted.foreign_columns(row)]
            self._columns[keys] = {name: index for index, name in enumerate(names)}
        self.cells[row["cell_id"]] = SlimRow(row, self._columns[keys])

    def add_trial(self, row: Mapping[str, Any], config: str = "") -> FinishedTrial:
        """Take up a row of a finished trial."""
        objectives = self.wanted.objectives
        numbers = (row.get(name) for name in objectives)
        values = tuple(math.nan if value is None else value for value in numbers)
        failed, pruned = row["status"] == "failed", row["status"] == "pruned"
        trial = FinishedTrial(objectives, None if failed else values, config, pruned)
        self.trials[row["trial_id"]] = trial
        return trial

    def reopen(self, cell_ids: Iterable[str]) -> None:
        """Count finished cells as lacking, because cells that are fitted together with them lack a score."""
        for cell_id in cell_ids:
            row = self.cells.pop(cell_id, None)
            if row is not None:
                self._reopen(cell_id, row)

    def _reopen(self, cell_id: str, row: Mapping[str, Any]) -> None:
        self.attempts[cell_id] = row["attempt"] + 1
        if row["status"] == "done":
            self._earlier[cell_id] = self._scores_of(row)

    def _scores_of(self, row: Mapping[str, Any]) -> EarlierScores:
        """What a row that lacks a score has; where its error is to be tried again, only which scores those were."""
        names = tuple(self.wanted.names([row["score_keys"]]))
        if self.wanted.retry_failed and row["error"]:
            return EarlierScores(names, seconds=row["seconds"])
        columns = [*cell_columns(list(names)), *self.wanted.foreign_columns(row)]
        return EarlierScores(
            names,
            foreign_keys=tuple(self.wanted.foreign_keys(row["score_keys"])),
            numbers={column: row.get(column) for column in columns},
            facts={column: row.get(column) for column in FACTS},
            error=_errors_of(row["error"], names),
            seconds=row["seconds"],
            done=True,
            plugins=row["plugins"],
        )

    def earlier(self, cells: Iterable[Cell]) -> dict[str, EarlierScores]:
        """Give, by cell_id, what those of these cells have that are done but lack a score."""
        return {cell.cell_id: self._earlier[cell.cell_id] for cell in cells if cell.cell_id in self._earlier}


def _errors_of(error: str | None, names: Iterable[str]) -> str | None:
    """The part of a row's error that comes from these scores, or from none in particular."""
    parts, own = [], True
    for part in (error or "").split("; "):
        score = part.partition(": ")[0]
        own = score in names if score in SCORES else own
        parts += [part] if own and part else []
    return joined_errors(*parts)
