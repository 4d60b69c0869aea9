"""What earlier runs have left: finished cells and trials, how often each was tried, which scores each holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.experiment.cells import Cell
from sweeps.planning.finished_rows import FACTS, Finished, SlimRow
from sweeps.scores import SCORES, cell_columns
from sweeps.storage.provenance import joined_errors
from sweeps.storage.row_log import Ledger

TRIAL_FIELDS = ("trial_id", "status", "error", "score_keys", "attempt", "config", "halving")
"""Columns of earlier trials that are read besides the objectives."""


class Known:
    """Rows that need not be made again.

    A row is final when it failed, or when it holds every wanted score and is done, or was pruned under the present
    `halving`; with `retry_failed` rows with an error (also that of a single score) are not. `names` tells which scores
    a set of rows holds under the present VERSIONs and probes. `attempts` counts how often a cell or trial that is not
    final was tried before. `configurations`: those of finished trials are kept, for a search that adopts them.
    """

    def __init__(
        self,
        ledger: Ledger,
        score_keys: Mapping[str, str],
        wanted: Iterable[str],
        objectives: Iterable[str],
        retry_failed: bool,
        configurations: bool = False,
        halving: str = "",
    ) -> None:
        self.score_keys = dict(score_keys)
        self.wanted = {score_keys[name] for name in wanted}
        self.objectives = tuple(objectives)
        self.retry_failed, self.halving = retry_failed, halving
        self.attempts: dict[str, int] = {}
        self.cells: dict[str, SlimRow] = {}
        self.lacking: dict[str, dict[str, Any]] = {}
        self._columns: dict[str, dict[str, int]] = {}
        for row in ledger.rows("cells"):
            if self._final(row):
                self.cells[row["cell_id"]] = self.slim(row)
            else:
                self.attempts[row["cell_id"]] = row["attempt"] + 1
                if row["status"] == "done":
                    self.lacking[row["cell_id"]] = self._held(row)
        self.trials: dict[str, Finished] = {}
        for row in ledger.rows("trials", [*TRIAL_FIELDS, *self.objectives]):
            if self._final(row):
                self.trials[row["trial_id"]] = self.finished(row, row["config"] if configurations else "")
            else:
                self.attempts[row["trial_id"]] = row["attempt"] + 1

    def slim(self, row: Mapping[str, Any]) -> SlimRow:
        """The part of a cell row that trials need."""
        keys = row["score_keys"] or ""
        if keys not in self._columns:
            names = cell_columns(self.names([keys]))
            self._columns[keys] = {name: index for index, name in enumerate(names)}
        return SlimRow(row, self._columns[keys])

    def finished(self, row: Mapping[str, Any], config: str = "") -> Finished:
        """What a search needs to know of a trial's row."""
        if row["status"] == "failed":
            return Finished(self.objectives, None, config)
        found = (row.get(name) for name in self.objectives)
        values = tuple(math.nan if value is None else value for value in found)
        return Finished(self.objectives, values, config, row["status"] == "pruned")

    def _final(self, row: Mapping[str, Any]) -> bool:
        if self.retry_failed and row["error"]:
            return False
        if row["status"] == "pruned" and row["halving"] != self.halving:
            return False
        return row["status"] == "failed" or self.wanted <= set(row["score_keys"].split())

    def names(self, score_keys: Iterable[str]) -> list[str]:
        """Scores that every one of these rows holds, given their `score_keys`."""
        held = [set(keys.split()) for keys in score_keys]
        return [name for name, key in self.score_keys.items() if held and all(key in keys for keys in held)]

    def _held(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row that lacks a score has: its scores under the present keys, its facts, and their errors.

        `again`: its error is to be tried again, so that all of these scores are taken anew.
        """
        names = self.names([row["score_keys"]])
        again = bool(self.retry_failed and row["error"])
        return {
            "names": names,
            "numbers": {} if again else {column: row.get(column) for column in cell_columns(names)},
            "facts": {column: row.get(column) for column in FACTS},
            "error": None if again else _errors_of(row["error"], names),
            "seconds": row["seconds"],
            "again": again,
        }

    def reopen(self, cell_ids: Iterable[str]) -> None:
        """Count finished cells as lacking, because cells that are fitted together with them lack a score."""
        for cell_id in cell_ids:
            row = self.cells.pop(cell_id, None)
            if row is not None:
                self.attempts[cell_id] = row["attempt"] + 1
                if row["status"] == "done":
                    self.lacking[cell_id] = self._held(row)

    def as_done(self, held: Mapping[str, Any] | None, error: str) -> dict[str, Any]:
        """Columns of a `done` row that keeps what a cell had and lacks the wanted scores; none if it had nothing."""
        if held is None or held["again"]:
            return {}
        keys = self.wanted | {self.score_keys[name] for name in held["names"]}
        return {
            "status": "done",
            "error": joined_errors(held["error"], error),
            "score_keys": " ".join(sorted(keys)),
            "seconds": held["seconds"],
            **held["facts"],
            **held["numbers"],
        }

    def earlier(self, cells: Iterable[Cell]) -> dict[str, dict[str, Any]]:
        """By cell_id, for those of these cells that are done but lack a score: what they have."""
        return {cell.cell_id: self.lacking[cell.cell_id] for cell in cells if cell.cell_id in self.lacking}


def _errors_of(error: str | None, names: Iterable[str]) -> str | None:
    """The part of a row's error that comes from these scores, or from none in particular."""
    kept, own = [], True
    for part in (error or "").split("; "):
        score = part.partition(": ")[0]
        own = score in names if score in SCORES else own
        kept += [part] if own and part else []
    return joined_errors(*kept)
