"""Counts of one run: what displays and metrics show."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sweeps.planning.slim_row import FinishedTrial


@dataclass
class RunProgress:
    """Counts of one run. `known` trials were finished before it began; `pruned` ones are among those `done`."""

    trials: int = 0
    done: int = 0
    failed: int = 0
    pruned: int = 0
    known: int = 0
    known_failed: int = 0
    cells: int = 0
    cells_done: int = 0
    cells_failed: int = 0
    best: dict[str, float] = field(default_factory=dict)

    @property
    def executed(self) -> int:
        """Cells that were fitted in this run, whatever came of it."""
        return self.cells_done + self.cells_failed

    @property
    def ended(self) -> int:
        """Trials that have ended, earlier runs included."""
        return self.done + self.failed + self.known

    def count_cell(self, status: str) -> None:
        """Count a cell that was fitted in this run."""
        self.cells_done += status != "failed"
        self.cells_failed += status == "failed"

    def count_trial(self, status: str, trial: FinishedTrial) -> None:
        """Count a trial that has ended in this run."""
        self.failed += status == "failed"
        self.done += status != "failed"
        self.pruned += status == "pruned"
        self._note_best(trial)

    def count_known(self, trial: FinishedTrial) -> None:
        """Count a trial that was finished before this run and belongs to its search."""
        self.trials += 1
        self.known += 1
        self.known_failed += trial.objectives is None
        self._note_best(trial)

    def _note_best(self, trial: FinishedTrial) -> None:
        for objective, value in (trial.objectives or {}).items():
            if not trial.pruned and not math.isnan(value):
                self.best[objective] = max(value, self.best.get(objective, -math.inf))
