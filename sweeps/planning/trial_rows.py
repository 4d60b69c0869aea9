"""Rows of the table `trials`: a trial waits for its cells, and is joined from their rows when all are there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sweeps.experiment.cells import Cell
from sweeps.experiment.space import Configuration
from sweeps.planning.finished_rows import FinishedRows
from sweeps.planning.run_progress import RunProgress
from sweeps.planning.slim_row import FinishedTrial
from sweeps.planning.trial_scores import join_costs, join_scores
from sweeps.storage.columns import Outcome, trial_row
from sweeps.storage.current_rows import split_text
from sweeps.storage.row_log import RowLog

FLUSH_ROWS = 500
FLUSH_SECONDS = 5.0


@dataclass(frozen=True)
class RowOrigin:
    """Columns that all rows of one driver share: where and with what they are made."""

    provenance: Mapping[str, Any]

    def now(self) -> dict[str, Any]:
        """The columns of provenance of a row that is made now."""
        return {**self.provenance, "finished": datetime.now(UTC)}


@dataclass
class OpenTrial:
    """A trial that waits for the cells whose ids are `missing`."""

    trial_id: str
    configuration: Configuration
    cells: list[Cell]
    missing: set[str]
    attempt: int


class TrialRows:
    """Opens trials, closes those whose cells are all finished, and writes their rows now and then."""

    def __init__(self, row_log: RowLog, finished: FinishedRows, progress: RunProgress, origin: RowOrigin) -> None:
        self.row_log, self.finished, self.progress, self.origin = row_log, finished, progress, origin
        self.open: dict[str, OpenTrial] = {}
        self._waiting: dict[str, list[str]] = defaultdict(list)
        self._pending: list[dict[str, Any]] = []
        self._flushed_at = time.monotonic()

    def add(self, trial_id: str, configuration: Configuration, cells: list[Cell]) -> tuple[OpenTrial, list[Cell]]:
        """Open a trial; beside it, those of its cells that no other trial waits for and that are to be fitted."""
        missing = {cell.cell_id for cell in cells if cell.cell_id not in self.finished.cells}
        if missing and cells[0].twin:  # trained together: none of its cells can be fitted without the others
            missing = {cell.cell_id for cell in cells}
            self.finished.reopen(missing)
        trial = OpenTrial(trial_id, configuration, cells, missing, self.finished.attempts.get(trial_id, 0))
        self.open[trial_id] = trial
        wanted = {cell.cell_id: cell for cell in cells if cell.cell_id in missing}
        fresh = [cell for cell_id, cell in wanted.items() if cell_id not in self._waiting]
        for cell_id in missing:
            self._waiting[cell_id].append(trial_id)
        return trial, fresh

    def completed_by(self, cell_id: str) -> list[OpenTrial]:
        """Count a cell as finished; the trials that have waited for it alone."""
        trials = [self.open[trial_id] for trial_id in self._waiting.pop(cell_id, [])]
        for trial in trials:
            trial.missing.discard(cell_id)
        return [trial for trial in trials if not trial.missing]

    def close(self, trial: OpenTrial) -> FinishedTrial:
        """Join a trial whose cells are all finished."""
        del self.open[trial.trial_id]
        row = self._row(trial)
        finished = self.finished.add_trial(row)
        self.progress.count_trial(row["status"], finished)
        self._pending.append(row)
        return finished

    def _row(self, trial: OpenTrial) -> dict[str, Any]:
        wanted, rows = self.finished.wanted, [self.finished.cells[cell.cell_id] for cell in trial.cells]
        status = next((word for word in ("failed", "pruned") if any(row["status"] == word for row in rows)), "done")
        names = wanted.names(row["score_keys"] or "" for row in rows)
        foreign = _common([wanted.foreign_keys(row["score_keys"]) for row in rows])
        outcome = Outcome(
            status,
            _errors_of(trial.cells, rows),
            trial.attempt,
            split_text(row["split"] for row in rows),
            [*(wanted.score_keys[name] for name in names), *foreign, *wanted.order_keys],
            wanted.halving if status == "pruned" else None,
        )
        beside = _common([wanted.foreign_columns(row) for row in rows]) if foreign else []
        scores = {} if status == "failed" else join_scores(rows, names, beside, wanted.orders)
        values = {**self.origin.now(), **join_costs(rows), **scores}
        return trial_row(trial.trial_id, trial.configuration, trial.cells, outcome, values)

    def flush_if_due(self) -> bool:
        """Write finished trials when there are many, or when the last ones have waited; whether it was due."""
        due = len(self._pending) >= FLUSH_ROWS or time.monotonic() - self._flushed_at > FLUSH_SECONDS
        if due:
            self.flush()
        return due

    def flush(self) -> None:
        """Write finished trials."""
        self.row_log.write("trials", self._pending)
        self._pending = []
        self._flushed_at = time.monotonic()


def _common(lists: Sequence[Sequence[str]]) -> list[str]:
    """What stands in every list, in the order of the first."""
    return [entry for entry in lists[0] if all(entry in entries for entries in lists[1:])]


def _errors_of(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]]) -> str | None:
    errors = [
        f"{cell.recording}/{cell.area}: {row['error']}" for cell, row in zip(cells, rows, strict=True) if row["error"]
    ]
    return "; ".join(errors) or None
