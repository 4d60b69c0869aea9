"""What earlier runs have left: finished cells and trials, how often each was tried, which scores each holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.ledger import Ledger
from sweeps.scores import SCORES, cell_columns

KEPT = (
    "status",
    "error",
    "seconds",
    "peak_memory_mb",
    "device",
    "host",
    "data_fingerprint",
    "split",
    "score_keys",
    "recording",
    "area",
    *cell_columns(list(SCORES)),
)
"""Columns of a cell row that a trial needs."""


def slim(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a cell row that a trial needs."""
    return {name: row.get(name) for name in KEPT}


class Known:
    """Rows that need not be made again.

    A row is final when it failed, or when it is done and holds every wanted score; with `retry_failed` rows with
    an error (also that of a single score) are not. `names` tells which scores a set of rows holds under the
    present VERSIONs and probes.
    """

    def __init__(
        self, ledger: Ledger, score_keys: Mapping[str, str], wanted: Iterable[str], retry_failed: bool
    ) -> None:
        self.score_keys = dict(score_keys)
        self.wanted = {score_keys[name] for name in wanted}
        self.retry_failed = retry_failed
        self.attempts: dict[str, int] = {}
        self.cells: dict[str, dict[str, Any]] = {}
        self.lacking: dict[str, str] = {}
        for row in ledger.rows("cells"):
            self.attempts[row["cell_id"]] = row["attempt"] + 1
            if self._final(row):
                self.cells[row["cell_id"]] = slim(row)
            elif row["status"] == "done":
                self.lacking[row["cell_id"]] = row["score_keys"]
        self.trials: dict[str, dict[str, Any]] = {}
        for row in ledger.rows("trials"):
            self.attempts[row["trial_id"]] = row["attempt"] + 1
            if self._final(row):
                self.trials[row["trial_id"]] = row

    def _final(self, row: Mapping[str, Any]) -> bool:
        if self.retry_failed and row["error"]:
            return False
        return row["status"] != "done" or self.wanted <= set(row["score_keys"].split())

    def names(self, score_keys: Iterable[str]) -> list[str]:
        """Scores that every one of these rows holds, given their `score_keys`."""
        held = [set(keys.split()) for keys in score_keys]
        return [name for name, key in self.score_keys.items() if held and all(key in keys for keys in held)]

    def also(self, cell_ids: Iterable[str]) -> tuple[str, ...]:
        """Scores that earlier rows of any of these cells hold: they are taken again, so that none is lost."""
        held = {key for cell_id in cell_ids for key in self.lacking.get(cell_id, "").split()}
        return tuple(name for name, key in self.score_keys.items() if key in held)
