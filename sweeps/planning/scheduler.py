"""The state of a running sweep: trials wait for cells, cells lie in packs, packs come back as rows.

Nothing here knows Ray: whatever runs packs asks `next_pack`, hands over the parts that a pack has written by `absorb`,
and says `done` when it has ended or `failed` when its process is gone.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metrics.inference.area_order import area_ranks
from sweeps.errors import InputError
from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import NOTHING_EARLIER
from sweeps.experiment.schema import settings_text
from sweeps.planning.failures import MOST_LOSSES, ProcessFailure
from sweeps.planning.finished_rows import FinishedRows, WantedRows
from sweeps.planning.packs import Pack, form_packs, jobs_of
from sweeps.planning.proposals import Proposals
from sweeps.planning.run_progress import RunProgress
from sweeps.planning.trial_rows import RowOrigin, TrialRows
from sweeps.search.proposer import Proposer
from sweeps.storage.columns import Outcome, cell_row
from sweeps.storage.provenance import commit, joined_errors, joined_plugins, provenance
from sweeps.storage.row_log import RowLog

if TYPE_CHECKING:
    from sweeps.planning.plan import Plan

POLL_OTHERS_SECONDS = 1.0
"""How often a run looks for the rows of others that work beside it."""

ABSORB_TRIES, ABSORB_PAUSE = 5, 1.0
"""How often a part is looked for, and the seconds between: a shared folder may show it late."""

TURN_SECONDS = 0.1
"""Longest time in the optimizer between two polls of the workers."""

MANY = 10**6
"""Cells still to come, while more are: packs are as large as they get."""


class Scheduler:
    """Decides which pack runs next, and takes up what packs give; every finished row is durable before it counts.

    A cell is `unpacked` once a trial needs it, then lies in a pack of the `queue`, then in one of the `running` ones by
    token, and at last is a row. What its environment kept from that for too long is `unfinished`, with the reason: no
    row, and the next run tries it again. `shared` tells whether other runs work beside this one in the same storage.
    """

    def __init__(
        self,
        plan: Plan,
        proposer: Proposer,
        row_log: RowLog,
        retry_failed: bool = False,
        shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self.experiment, self.planner, self.row_log, self.shared = plan.experiment, plan.planner, row_log, shared
        self.finished_rows = FinishedRows(row_log, _wanted_rows(plan, retry_failed), proposer.adaptive)
        self.progress = RunProgress()
        self.origin = RowOrigin(_provenance(plan))
        self.trials = TrialRows(row_log, self.finished_rows, self.progress, self.origin)
        self.proposals = Proposals(proposer, self.planner, self.trials, plan.experiment.search.trials)
        self.pack_size: Callable[[int], int] = lambda cells: cells
        self.unpacked: list[Cell] = []
        self.queue: deque[Pack] = deque()
        self.running: dict[str, Pack] = {}
        self.unfinished: list[tuple[Pack, str]] = []
        self._polled_at = -math.inf

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.proposals.exhausted and not self.queue and not self.unpacked and not self.running

    # -- packs to run -------------------------------------------------------------------------------

    def next_pack(self) -> tuple[str, Pack] | None:
        """Give the next pack to run and its token, or None when there is none now (see `finished`)."""
        while True:
            self.propose()
            if self.unpacked:
                self._form_packs()
            pack = self._without_others() if self.shared() else self._take_queued()
            if pack is None:
                return None
            if pack.cells:
                token = uuid.uuid4().hex
                self.running[token] = pack
                return token, pack

    def propose(self) -> None:
        """Ask for trials until there is something to run or nothing left.

        An adaptive search is asked for little at a time, by what is known then: no pack waits for others to end. While
        packs run it is given up for now after TURN_SECONDS, so that the workers are polled, and after a batch of
        nothing new, until some trial has ended.
        """
        start = time.monotonic()
        while not (self._startable() or self.unpacked or self.proposals.exhausted or self._has_to_wait(start)):
            self._propose()

    def _propose(self) -> None:
        self.unpacked.extend(self.proposals.propose(len(self.running)))

    def _has_to_wait(self, start: float) -> bool:
        if any(map(self._last_try, self.running.values())):
            return True
        late = time.monotonic() - start > TURN_SECONDS
        adaptive = self.proposals.proposer.adaptive
        return adaptive and bool(self.running) and (late or self.proposals.waits_for_trials())

    def _form_packs(self) -> None:
        size = self.pack_size if self.proposals.exhausted else lambda _: self.pack_size(MANY)
        by_attempt: dict[int, list[Cell]] = defaultdict(list)
        for job in jobs_of(self.unpacked):
            by_attempt[max(self.finished_rows.attempts.get(cell.cell_id, 0) for cell in job)].extend(job)
        for attempt, cells in sorted(by_attempt.items()):
            packs = form_packs(cells, size, attempt)
            self.queue.extend(replace(pack, earlier=self.finished_rows.earlier(pack.cells)) for pack in packs)
        self.unpacked = []

    def _take_queued(self) -> Pack | None:
        """Take the first pack of the queue that may begin."""
        pack = self._startable()
        if pack is not None:
            self.queue.remove(pack)
        return pack

    def _startable(self) -> Pack | None:
        """Find the first pack that may begin: one suspect pack runs at a time.

        Where memory is short, Ray ends processes that may not be the cause. Suspect packs beside one another would fail
        together until all of them are failed. What would be failed the next time runs beside nothing at all, which
        means late.
        """
        running = self.running.values()
        if any(map(self._last_try, running)):
            return None
        suspect = any(pack.suspect for pack in running)
        for pack in self.queue:
            if not (suspect and pack.suspect) and not (running and self._last_try(pack)):
                return pack
        return None

    def _last_try(self, pack: Pack) -> bool:
        """Tell whether a suspect pack is failed when its process fails once more."""
        most = self.experiment.compute.max_failures
        return pack.suspect and pack.failures >= most and len(jobs_of(pack.cells)) == 1

    def _without_others(self) -> Pack | None:
        """Take a pack without what other runs have fitted meanwhile that are at work in the same storage.

        Packs are taken in an order of this run's own, lest two of them fit the same at the same time.
        """
        self.queue.rotate(random.randrange(max(1, len(self.queue))))
        pack = self._take_queued()
        if time.monotonic() > self._polled_at + POLL_OTHERS_SECONDS:
            self._record(self.row_log.catch_up("cells"))
            self._polled_at = time.monotonic()
        return pack and replace(pack, cells=self._unfinished(pack))

    def _unfinished(self, pack: Pack) -> tuple[Cell, ...]:
        return tuple(cell for cell in pack.cells if cell.cell_id not in self.finished_rows.cells)

    # -- what packs give ----------------------------------------------------------------------------

    def absorb(self, part: str, handed: Iterable[tuple[str, str, bytes]] = ()) -> None:
        """Take up a part of the cells table that a worker has written; InputError where it is not there to be read.

        Parts (table, name, bytes) that it has `handed` over, since it could not write them itself, are written first.
        """
        for table, name, content in handed:
            rows = self.row_log.take_over(table, name, content)
            self._record(rows if table == "cells" else [])
        if part:
            self._record(self._read(part))

    def _read(self, part: str) -> list[dict[str, Any]]:
        for tries_left in reversed(range(ABSORB_TRIES)):
            try:
                return self.row_log.absorb("cells", part)
            except FileNotFoundError:
                if not tries_left:
                    problem = "a worker has written rows there, but they are not there for the driver: this folder is "
                    problem += "not shared by the nodes; use one that is, or an object store"
                    raise InputError(problem, key="storage", value=self.row_log.store.uri) from None
                time.sleep(ABSORB_PAUSE)
        return []

    def _record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        cells = self.finished_rows.cells
        for row in rows:
            cell_id = row["cell_id"]
            if cell_id in cells and cells[cell_id]["status"] == "done":
                continue
            self.finished_rows.add_cell(row)
            self.progress.count_cell(row["status"])
            for trial in self.trials.completed_by(cell_id):
                self.proposals.close(trial)
        self.flush_if_due()

    def done(self, token: str) -> None:
        """End a pack; cells that it did not deliver are packed again."""
        pack = self.running.pop(token)
        left = self._unfinished(pack)
        if left:
            self.queue.append(replace(pack, cells=left))

    def returned(self, token: str, why: str) -> None:
        """End a pack that a store, a disk or a mount has kept from its cells: they are tried again, and nothing counts.

        It is parted, so that cells that can be fitted do not wait behind one that cannot. One that finished no cell for
        `compute.storage_patience_minutes` is left unfinished.
        """
        pack, now = self.running.pop(token), time.monotonic()
        left = self._unfinished(pack)
        if not left:
            return
        since = pack.since if pack.since is not None and len(left) == len(pack.cells) else now
        rest = replace(pack, cells=left, since=since)
        minutes = self.experiment.compute.storage_patience_minutes
        if now - since > 60 * minutes:
            self.unfinished.append((rest, f"{why} (for {minutes:g} minutes: compute.storage_patience_minutes)"))
        else:
            self.queue.extend(rest.parted())

    def _lost(self, pack: Pack, failure: ProcessFailure) -> None:
        """Run a pack again whose process its environment has ended, MOST_LOSSES times in a row at most."""
        pack = replace(pack, losses=pack.losses + 1)
        if pack.losses <= MOST_LOSSES:
            self.queue.appendleft(pack)
            return
        why = f"{pack.losses} times in a row its process ended before a cell was done: {failure.value}"
        advice = "take nodes that are not taken back so soon, or make its fits shorter"
        self.unfinished.append((pack, f"{why}; {advice}"))

    def failed(self, token: str, error: str, failure: ProcessFailure = ProcessFailure.PROCESS) -> None:
        """End a pack whose process is gone. Its finished rows count; the rest is tried again.

        What its environment did (see `ProcessFailure.counts`) has no cause in a cell: the rest is packed as it was; so
        it is where the pack had finished cells before. Otherwise it is tried once more whole, then halved until the
        failing cell is alone, which after `max_failures` further tries is failed. What was overdue would take as long
        again: it is halved at once, and failed once alone. What failed when memory was short is tried again beside none
        of its kind, and is failed only where nothing ran beside it. What earlier runs tried does not count.
        """
        pack = self.running.pop(token)
        self._record(self.row_log.catch_up("cells"))
        left = self._unfinished(pack)
        if not left:
            return
        progress = len(left) < len(pack.cells)
        losses = 0 if progress else pack.losses
        rest = replace(pack, cells=left, losses=losses, suspect=pack.suspect or failure is ProcessFailure.MEMORY)
        again = replace(rest, attempt=pack.attempt + 1, failures=pack.failures + 1)
        alone, overdue = len(jobs_of(left)) == 1, failure is ProcessFailure.OVERDUE
        if not failure.counts:
            self._lost(rest, failure)
        elif progress and not overdue:
            self.queue.appendleft(rest)
        elif alone and failure is ProcessFailure.MEMORY and not self._last_try(pack):
            self.queue.appendleft(again)
        elif alone and (overdue or again.failures > self.experiment.compute.max_failures):
            self._fail(again, error)
        elif alone or (again.failures == 1 and not overdue):
            self.queue.appendleft(again)
        else:
            self.queue.extendleft(reversed(rest.halves()))

    def _fail(self, pack: Pack, error: str) -> None:
        """Write rows for cells whose process fails again and again."""
        rows = [self._failed_row(pack, cell, error) for cell in pack.cells]
        self.row_log.write("cells", rows)
        self._record(rows)

    def _failed_row(self, pack: Pack, cell: Cell, error: str) -> dict[str, Any]:
        """A `failed` row; a `done` one that only lacks the wanted scores where the cell was done before."""
        earlier, wanted = pack.earlier.get(cell.cell_id, NOTHING_EARLIER), self.finished_rows.wanted
        values: dict[str, Any] = {"data_fingerprint": self.planner.fingerprint(cell.recording)}
        split = self.planner.split_text(cell.recording)
        if not earlier.done:
            outcome = Outcome("failed", error, pack.attempt, split)
            return cell_row(cell, outcome, self.origin.now(), values)
        keys = wanted.keys | {wanted.score_keys[name] for name in earlier.names} | {*earlier.foreign_keys}
        outcome = Outcome("done", joined_errors(earlier.error, error), pack.attempt, split, keys)
        values |= {"seconds": earlier.seconds, **earlier.facts, **earlier.numbers}
        return cell_row(cell, outcome, self.origin.now(), values)

    def flush_if_due(self) -> None:
        """Write finished trials when there are many, or when the last ones have waited."""
        if self.trials.flush_if_due():
            self.row_log.fold_if_due()


def _provenance(plan: Plan) -> dict[str, Any]:
    plugins = joined_plugins(*map(str, plan.plugins))
    return {**provenance(commit(), None), "peak_memory_mb": None, "plugins": plugins}


def _wanted_rows(plan: Plan, retry_failed: bool) -> WantedRows:
    experiment = plan.experiment
    return WantedRows(
        plan.score_keys,
        tuple(experiment.scores),
        tuple(experiment.search.objectives),
        settings_text(experiment.search.halving),
        retry_failed,
        {observable: area_ranks(order) for observable, order in experiment.order.items()},
    )
