"""Removing rows for good: trials by state or id, with the cells that no other trial uses."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.storage.load import load
from sweeps.storage.objects import attempt
from sweeps.storage.retry import RETRY_SECONDS
from sweeps.storage.row_log import RowLog
from sweeps.storage.run_lock import RunLock
from sweeps.storage.schema import FORGOTTEN
from sweeps.storage.store import Store

FAILED = "failed"
WAYS = (FAILED, "trial ids, or their first letters, with commas between")

OF_CELLS = ("cells", "bootstraps")
"""Tables whose rows go with a cell."""


@dataclass(frozen=True)
class ForgottenTrials:
    """Trials to forget, of how many, and the cells that go with them; `shared` cells stay, since other trials use them.

    A failed cell of a failed trial goes even where another trial uses it, so that it runs again.
    """

    trials: pd.DataFrame
    of: int
    cells: pd.DataFrame
    shared: int


def choose_forgotten(storage: str, wanted: str) -> ForgottenTrials:
    """Choose trials: all `failed` ones, those with these ids (or beginnings of ids), or both with commas between.

    InputError where no sweep has written, and for an id that no trial or more than one has.
    """
    trials, cells = load(storage), load(storage, "cells")
    chosen: set[Any] = set()
    for word in (word.strip() for word in wanted.split(",")):
        chosen |= set(trials.index[trials["status"] == FAILED]) if word == FAILED else {_one(trials, word)}
    mask = trials.index.isin(list(chosen))
    gone, rest = trials[mask], trials[~mask]
    own, used = _cells_of(gone), _cells_of(rest)
    failed = set(cells.loc[cells["status"] == FAILED, "cell_id"]) & _cells_of(gone[gone["status"] == FAILED])
    leaving = (own - used) | failed
    return ForgottenTrials(gone, len(trials), cells[cells["cell_id"].isin(leaving)], len(own - leaving))


def _one(trials: pd.DataFrame, beginning: str) -> Any:
    """The row whose id begins like this; InputError names the nearest where there is none."""
    ids = trials["trial_id"]
    matches = trials.index[ids.str.startswith(beginning)] if beginning else trials.index[:0]
    if len(matches) == 1:
        return matches[0]
    if len(matches):
        raise InputError(f"{len(matches)} trials begin like this", key="--trials", value=beginning, allowed=WAYS)
    words = {FAILED: FAILED, **{trial_id[: max(1, len(beginning))]: trial_id for trial_id in ids}}
    near = difflib.get_close_matches(beginning, list(words), n=1)
    hint = f"; did you mean {words[near[0]]!r}?" if near else ""
    raise InputError(f"no trial has this id{hint}", key="--trials", value=beginning, allowed=WAYS)


def _cells_of(trials: pd.DataFrame) -> set[str]:
    places = [column for column in trials.columns if column.startswith("cell.")]
    return {cell_id for column in places for cell_id in trials[column].dropna()}


def forget(
    storage: str, wanted: str, agreed: Callable[[ForgottenTrials], bool], say: Callable[[str], None] = print
) -> ForgottenTrials | None:
    """Forget trials for good, unless it is not `agreed` to; None where it was not, or where there is none.

    Refused while a run, `sweeps guide` or `sweeps compact` is at work there. One part of tombstones names every row
    that goes, so that all go at once; rows that a later run makes of the same configurations count. The tables are
    folded again at the end.
    """
    store = Store(storage, RETRY_SECONDS)
    choose_forgotten(storage, wanted)  # what is wrong is said before anything is written, the lock included
    with RunLock(store, "forget", say=say):
        chosen = choose_forgotten(storage, wanted)
        if chosen.trials.empty or not agreed(chosen):
            return None
        cell_ids = list(chosen.cells["cell_id"])
        ids = {"trials": list(chosen.trials["trial_id"]), **dict.fromkeys(OF_CELLS, cell_ids)}
        rows = [row for table in ids for row in attempt(partial(_tombstones, store, table, ids[table]), storage)]
        attempt(lambda: store.write_part(FORGOTTEN, rows), storage)
        attempt(lambda: RowLog(store, {}).fold(tuple(ids)), storage)
    return chosen


def _tombstones(store: Store, table: str, ids: list[str]) -> list[dict[str, Any]]:
    """Tombstones for every row of these ids in the log, those included that are not chosen by the fold."""
    return [
        {
            "forgotten_id": content_id([table, row_id, tried, str(finished)]),
            "table": table,
            "row_id": row_id,
            "attempt": tried,
            "finished": finished,
        }
        for row_id, tried, finished in store.names_of_rows(table, ids)
    ]
