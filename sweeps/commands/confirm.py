"""Opening a sweep's confirm set, once: the best twin is fitted as for its report, and predicts what nobody has seen."""

from __future__ import annotations

import getpass
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from sweeps.commands.rescore import plan_scores
from sweeps.errors import InputError
from sweeps.experiment.cells import Cell
from sweeps.hashing import content_id
from sweeps.io.guards.private_folder import check_cache
from sweeps.planning.plan import Plan
from sweeps.storage.columns import confirmation_row
from sweeps.storage.current_rows import experiment_of
from sweeps.storage.objects import attempt
from sweeps.storage.provenance import commit, provenance
from sweeps.storage.store import Store

if TYPE_CHECKING:
    from sweeps.execution.cell_runner import CellRunner

TABLE = "confirmations"
FOLDER = "openings"
"""Objects that say who opened the confirm set, when and with which trial: each written once, before it is predicted."""

SCORES = ("prediction", "interval")


@dataclass(frozen=True)
class Opening:
    """One opening of the confirm set: its number, from 1, and its entry in the log."""

    opened: int
    entry: Mapping[str, Any]


def confirm(
    storage: str,
    trial: str | None = None,
    again: bool = False,
    data: str | None = None,
    cache: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    shared_cache: bool = False,
) -> pd.DataFrame:
    """Score a trial of the sweep at `storage` on its confirm set; the new rows of the table `confirmations`.

    The trial is the best by the first objective, on select, or the one with this id (or beginning of it). It is fitted
    as for its report predictions; nothing of the confirm set takes part. The opening is logged first: a second one is
    refused, unless `again`, and its rows then say `opened: 2`. One that ended before its rows were written goes on for
    the same trial. Runs in this process, on its GPU if there is one. Raises InputError for a sweep without a confirm
    set, and for bad input.
    """
    kept = experiment_of(storage).split.confirm
    if not kept:
        problem = "this sweep keeps no confirm set: write `split: {confirm: 0.1}` in its experiment before it is run"
        raise InputError(problem, file=f"{storage}/experiment.yaml", key="split.confirm", value=kept)
    plan, choice = plan_scores(storage, SCORES, trial or "best:1", data, cache, shared_cache)
    check_cache(plan.cache, shared_cache)
    assert plan.chosen is not None, "plan_scores chooses trials"
    trial_id, cells = choice.trials["trial_id"].iloc[0], plan.planner.cells(plan.chosen[0])
    store = Store(storage)
    opening = _opened(store, plan, trial_id, again)
    say(f"confirm set opened for trial {trial_id}: opening {opening.opened}")
    rows = _rows(plan, cells, opening)
    attempt(lambda: store.write_part(TABLE, rows), storage)
    return pd.DataFrame(rows)


def _opened(store: Store, plan: Plan, trial_id: str, again: bool) -> Opening:
    """Log an opening, or go on with one whose rows were not written; InputError for a second one that is not asked for.

    Two processes cannot both log the same number (see Objects.create).
    """
    names = attempt(lambda: store.names(FOLDER), store.uri)
    entries = [json.loads(attempt(partial(store.get, f"{FOLDER}/{name}"), store.uri) or b"{}") for name in names]
    rows = attempt(lambda: store.read_table(TABLE), store.uri)
    written = set() if rows is None else set(rows["opened"].to_pylist())
    if entries and len(entries) not in written and entries[-1].get("trial_id") == trial_id:
        return Opening(len(entries), entries[-1])
    if entries and not again:
        raise _refused(store, entries)
    entry = {
        "opened": len(entries) + 1,
        "trial_id": trial_id,
        "user": _user(),
        "host": platform.node(),
        "commit": commit(),
        "split": plan.planner.split,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    name = f"{FOLDER}/{entry['opened']:06d}.json"
    if not attempt(lambda: store.create(name, json.dumps(entry, sort_keys=True).encode()), store.uri):
        raise InputError("another process has opened the confirm set just now", key="storage", value=store.uri)
    return Opening(len(entries) + 1, entry)


def _refused(store: Store, entries: list[dict[str, Any]]) -> InputError:
    last = entries[-1]
    by = f"by {last.get('user')} on {last.get('host')} at {last.get('time')} with trial {last.get('trial_id')}"
    problem = f"the confirm set was opened already, {by}: what is chosen after a look at it is not confirmed by it"
    label = f"`--again` opens it once more, and the rows then say opened: {len(entries) + 1}"
    return InputError(f"{problem}; {label}", key="storage", value=store.uri)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


def _rows(plan: Plan, cells: list[Cell], opening: Opening) -> list[dict[str, Any]]:
    """Fit the cells of the trial, and make a row of `confirmations` for each."""
    from sweeps.execution.cell_runner import CellRunner
    from sweeps.features.worker_data import ConfirmData
    from sweeps.fitting.fit_cells import fit_cells

    runner = CellRunner(ConfirmData(plan.context()))
    jobs: dict[str, list[Cell]] = {}
    for cell in cells:
        jobs.setdefault(cell.together(), []).append(cell)
    rows = []
    for job in jobs.values():
        fits = fit_cells(runner.worker, job)
        rows += [
            _row(plan, runner, cell, runner.score(cell, fit, SCORES), opening)
            for cell, fit in zip(job, fits, strict=True)
        ]
    return rows


def _row(plan: Plan, runner: CellRunner, cell: Cell, scores: Mapping[str, float], opening: Opening) -> dict[str, Any]:
    recording = runner.worker.recording(cell.recording)
    [fold] = runner.worker.folds(recording, cell.seed)
    place = {
        "confirmation_id": content_id([opening.opened, cell.cell_id]),
        "opened": opening.opened,
        "trial_id": opening.entry["trial_id"],
        "user": opening.entry["user"],
        "data_fingerprint": recording.fingerprint,
        "split": plan.planner.split_text(cell.recording),
        "stimuli": len(fold.report),
        "groups": len(set(recording.groups[fold.report].tolist())),
    }
    origin = provenance(commit(), str(runner.worker.device))
    return confirmation_row(cell, place, origin, scores)
