"""The state of a running sweep: trials wait for cells, cells lie in packs, packs come back as rows.

Nothing here knows Ray: whatever runs packs asks `next_pack`, and says `done` with the parts that a pack has
written or `died` when its process is gone.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sweeps.experiment.cells import Cell, Planner, components_of
from sweeps.experiment.depths import depth_text
from sweeps.experiment.schema import Experiment, settings_text
from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical
from sweeps.planning.failures import Death
from sweeps.planning.finished_rows import Finished
from sweeps.planning.packs import Pack, form_packs, jobs_of
from sweeps.planning.resume import Known
from sweeps.planning.trial_scores import join_costs, join_scores
from sweeps.search.proposer import TRIES, Proposer
from sweeps.storage.columns import SCHEMA_VERSION, cell_configuration, configuration_of
from sweeps.storage.row_log import Ledger

FLUSH_ROWS = 500
FLUSH_SECONDS = 5.0

HEAR_SECONDS = 1.0
"""How often a run looks for the rows of others that work beside it."""

TURN_SECONDS = 0.1
"""For how long the running packs are not heard while an adaptive search is asked."""

KNOWN_PER_ASKED = 8
"""Finished trials for every configuration that is asked at once for each running pack."""

MANY = 10**6
"""Cells still to come, while more are: packs are as large as they get."""


@dataclass
class Progress:
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


@dataclass
class OpenTrial:
    """A trial that waits for cells."""

    trial_id: str
    configuration: Configuration
    cells: list[Cell]
    missing: set[str]
    attempt: int


class Sweep:
    """Proposes, plans, joins and keeps count; every finished row is durable before it counts."""

    def __init__(
        self,
        experiment: Experiment,
        planner: Planner,
        proposer: Proposer,
        ledger: Ledger,
        score_keys: Mapping[str, str],
        common: Mapping[str, Any],
        retry_failed: bool = False,
        shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self.shared = shared
        self.heard_at = -math.inf
        self.experiment = experiment
        self.planner = planner
        self.proposer = proposer
        self.ledger = ledger
        self.known = Known(
            ledger,
            score_keys,
            experiment.scores,
            experiment.search.objectives,
            retry_failed,
            proposer.adaptive,
            settings_text(experiment.search.halving),
        )
        self.cells, self.trials, self.attempts = self.known.cells, self.known.trials, self.known.attempts
        self.common = dict(common)
        self.pack_size: Callable[[int], int] = lambda cells: cells
        self.unpacked: list[Cell] = []
        self.progress = Progress()
        self.queue: deque[Pack] = deque()
        self.running: dict[str, Pack] = {}
        self.open: dict[str, OpenTrial] = {}
        self.waiting: dict[str, list[str]] = defaultdict(list)
        self.rows: list[dict[str, Any]] = []
        self.flushed_at = time.monotonic()
        self.uncounted = set(self.trials)
        self.nothing_new = self.stale = 0
        self.stale_since: int | None = None
        self.exhausted = False
        if self.proposer.adaptive:
            self._adopt()

    def _adopt(self) -> None:
        """Let an adaptive search begin where the rows of earlier runs end."""
        for trial_id, known in self.trials.items():
            configuration = configuration_of({"config": known.config})
            cells = self.planner.cells(configuration)
            if self.planner.trial_id(cells) == trial_id and self.proposer.adopt(configuration, known.objectives):
                self._count_known(trial_id, known)

    def _count_known(self, trial_id: str, known: Finished) -> None:
        self.uncounted.discard(trial_id)
        self.progress.trials += 1
        self.progress.known += 1
        self.progress.known_failed += known.objectives is None
        self._note_best(known)

    # -- asking -------------------------------------------------------------------------------------

    def next_pack(self) -> tuple[str, Pack] | None:
        """The next pack to run and its token, or None when there is none now (see `finished`)."""
        while True:
            self.plan()
            if self.unpacked:
                self._form_packs()
            pack = self._without_others() if self.shared() else self._take_queued()
            if pack is None:
                return None
            if pack.cells:
                token = uuid.uuid4().hex
                self.running[token] = pack
                return token, pack

    def _take_queued(self) -> Pack | None:
        """The first pack of the queue that may begin."""
        pack = self._startable()
        if pack is not None:
            self.queue.remove(pack)
        return pack

    def _startable(self) -> Pack | None:
        """Where memory is short, Ray ends processes that may not be guilty: one suspect pack runs at a time.

        Beside one another, they would die together until all of them have failed. What would fail by its next death
        runs beside nothing at all, which means late.
        """
        running = self.running.values()
        if any(map(self._last_try, running)):
            return None
        watched = any(pack.suspect for pack in running)
        for pack in self.queue:
            if not (watched and pack.suspect) and not (running and self._last_try(pack)):
                return pack
        return None

    def _last_try(self, pack: Pack) -> bool:
        """Whether the next death of a suspect pack fails it."""
        most = self.experiment.compute.max_failures
        return pack.suspect and pack.deaths >= most and len(jobs_of(pack.cells)) == 1

    def _without_others(self) -> Pack | None:
        """A pack without what other runs have fitted meanwhile that are at work in the same storage.

        Packs are taken in an order of this run's own, lest two of them fit the same at the same time.
        """
        self.queue.rotate(random.randrange(max(1, len(self.queue))))
        pack = self._take_queued()
        if time.monotonic() > self.heard_at + HEAR_SECONDS:
            self._record(self.ledger.catch_up("cells"))
            self.heard_at = time.monotonic()
        return pack and replace(pack, cells=tuple(cell for cell in pack.cells if cell.cell_id not in self.cells))

    def plan(self) -> None:
        """Propose until there is something to run or nothing left.

        An adaptive search is asked for little at a time, by what is known then: no pack waits for others to end. While
        packs run it is given up for now after TURN_SECONDS, so that their reports are heard, and after a batch of
        nothing new, until some trial has ended.
        """
        start = time.monotonic()
        while not (self._startable() or self.unpacked or self.exhausted or self._has_to_wait(start)):
            self._propose()

    def _has_to_wait(self, start: float) -> bool:
        if any(map(self._last_try, self.running.values())):
            return True
        late = time.monotonic() - start > TURN_SECONDS
        return self.proposer.adaptive and bool(self.running) and (late or self.stale_since == self._ended)

    @property
    def _ended(self) -> int:
        """Trials that have ended, earlier runs included."""
        return self.progress.done + self.progress.failed + self.progress.known

    def _portion(self) -> int:
        """Configurations to ask of an adaptive search: more with more known, one by one near the end.

        While a trial more or less in what is known matters, and so that no worker ends long after the others.
        """
        workers = len(self.running) + 1
        left = (self.experiment.search.trials or 0) - self.progress.trials
        return max(1, min(self.proposer.at_once, self._ended // (KNOWN_PER_ASKED * workers), left // (2 * workers)))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.exhausted and not self.queue and not self.unpacked and not self.running

    def _propose(self) -> None:
        wanted = self.experiment.search.trials
        batch = self.proposer.propose(self._portion())
        fresh: dict[str, Cell] = {}
        news = 0
        for configuration in batch:
            if wanted is not None and self.progress.trials >= wanted:
                break
            news += self._take(configuration, fresh)
        enough = wanted is not None and self.progress.trials >= wanted
        ended = self._stale(news, len(batch)) if self.proposer.adaptive else len(batch) < self.proposer.batch
        self.exhausted = not batch or enough or ended
        self.progress.cells += len(fresh)
        self.unpacked.extend(fresh.values())

    def _stale(self, news: int, asked: int) -> bool:
        """Count batches without anything new; whether that were enough of them, and no trial is open to learn from."""
        self.nothing_new = 0 if news else self.nothing_new + asked
        self.stale, begun = divmod(self.nothing_new, self.proposer.batch)
        self.stale_since = self._ended if self.stale and begun < asked else None
        return self.stale >= TRIES and not self.open

    def _take(self, configuration: Configuration, fresh: dict[str, Cell]) -> bool:
        """Take up a proposed configuration; whether it is new to this run."""
        cells = self.planner.cells(configuration)
        trial_id = self.planner.trial_id(cells)
        known = self.trials.get(trial_id)
        if known is not None:
            self.proposer.tell(configuration, known.objectives)
            counted = trial_id in self.uncounted
            if counted:
                self._count_known(trial_id, known)
            return counted
        if trial_id in self.open:
            return False
        self.progress.trials += 1
        missing = {cell.cell_id for cell in cells if cell.cell_id not in self.cells}
        if missing and cells[0].twin:  # trained together: none of its cells can be fitted without the others
            missing = {cell.cell_id for cell in cells}
            self.known.reopen(missing)
        trial = OpenTrial(trial_id, configuration, cells, missing, self.attempts.get(trial_id, 0))
        self.open[trial_id] = trial
        for cell in cells:
            if cell.cell_id in missing:
                if cell.cell_id not in self.waiting:
                    fresh[cell.cell_id] = cell
                self.waiting[cell.cell_id].append(trial_id)
        if not missing:
            self._close(trial)
        return True

    def _form_packs(self) -> None:
        size = self.pack_size if self.exhausted else lambda _: self.pack_size(MANY)
        by_attempt: dict[int, list[Cell]] = defaultdict(list)
        for job in jobs_of(self.unpacked):
            by_attempt[max(self.attempts.get(cell.cell_id, 0) for cell in job)].extend(job)
        for attempt, cells in sorted(by_attempt.items()):
            packs = form_packs(cells, size, attempt)
            self.queue.extend(replace(pack, earlier=self.known.earlier(pack.cells)) for pack in packs)
        self.unpacked = []

    # -- hearing back -------------------------------------------------------------------------------

    def absorb(self, part: str) -> None:
        """Take up a part of the cells table that a worker has written."""
        self._record(self.ledger.absorb("cells", part))

    def _record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            cell_id = row["cell_id"]
            if cell_id in self.cells and self.cells[cell_id]["status"] == "done":
                continue
            self.cells[cell_id] = self.known.slim(row)
            self.progress.cells_done += row["status"] != "failed"
            self.progress.cells_failed += row["status"] == "failed"
            for trial_id in self.waiting.pop(cell_id, []):
                trial = self.open[trial_id]
                trial.missing.discard(cell_id)
                if not trial.missing:
                    self._close(trial)
        self.flush_if_due()

    def done(self, token: str) -> None:
        """A pack has come to its end; cells that it did not deliver are packed again."""
        pack = self.running.pop(token)
        left = [cell for cell in pack.cells if cell.cell_id not in self.cells]
        if left:
            self.queue.append(replace(pack, cells=tuple(left)))

    def died(self, token: str, error: str, death: Death = Death.PROCESS) -> None:
        """The process of a pack is gone. Its finished rows count; the rest is tried again.

        The loss of a node is nobody's fault: the rest is packed as it was. Otherwise it is tried once more
        whole, then halved until the guilty cell is alone, which after `max_failures` further tries is failed.
        What was overdue would take as long again: it is halved at once, and failed once alone. What died when memory
        was short is tried again beside none of its kind, and fails only where nothing ran beside it. What earlier runs
        tried does not count.
        """
        pack = self.running.pop(token)
        self._record(self.ledger.catch_up("cells"))
        left = tuple(cell for cell in pack.cells if cell.cell_id not in self.cells)
        if not left:
            return
        rest = replace(pack, cells=left, suspect=pack.suspect or death is Death.MEMORY)
        again = replace(rest, attempt=pack.attempt + 1, deaths=pack.deaths + 1)
        alone, overdue = len(jobs_of(left)) == 1, death is Death.OVERDUE
        if death is Death.NODE:
            self.queue.appendleft(rest)
        elif alone and death is Death.MEMORY and not self._last_try(pack):
            self.queue.appendleft(again)
        elif alone and (overdue or again.deaths > self.experiment.compute.max_failures):
            self._fail(again, error)
        elif alone or (again.deaths == 1 and not overdue):
            self.queue.appendleft(again)
        else:
            self.queue.extendleft(reversed(rest.halves()))

    def _fail(self, pack: Pack, error: str) -> None:
        """Rows for cells that keep killing their process; a cell that was done before only lacks its new scores."""
        rows = [
            {
                **self.common,
                "cell_id": cell.cell_id,
                "status": "failed",
                "error": error,
                "recording": cell.recording,
                "area": cell.area,
                "depth": cell.depth,
                "blocks": depth_text(cell.blocks),
                **cell_configuration(cell.configuration()),
                "score_keys": "",
                "split": canonical(self.planner.split),
                "components": components_of(cell.backbone, cell.readout),
                "data_fingerprint": self.planner.fingerprint(cell.recording),
                "attempt": pack.attempt,
                "schema_version": SCHEMA_VERSION,
                "finished": datetime.now(UTC),
                **self.known.as_done(pack.earlier.get(cell.cell_id), error),
            }
            for cell in pack.cells
        ]
        self.ledger.write("cells", rows)
        self._record(rows)

    def _close(self, trial: OpenTrial) -> None:
        del self.open[trial.trial_id]
        row = self._trial_row(trial)
        failed = row["status"] == "failed"
        self.progress.failed += failed
        self.progress.done += not failed
        self.progress.pruned += row["status"] == "pruned"
        finished = self.trials[trial.trial_id] = self.known.finished(row)
        self.proposer.tell(trial.configuration, finished.objectives)
        self._note_best(finished)
        self.rows.append(row)

    def _trial_row(self, trial: OpenTrial) -> dict[str, Any]:
        held = [self.cells[cell.cell_id] for cell in trial.cells]
        worst = next((word for word in ("failed", "pruned") if any(row["status"] == word for row in held)), "done")
        errors = [(cell, row["error"]) for cell, row in zip(trial.cells, held, strict=True) if row["error"]]
        names = self.known.names(row["score_keys"] or "" for row in held)
        row: dict[str, Any] = {
            **self.common,
            "trial_id": trial.trial_id,
            "status": worst,
            "halving": self.known.halving if worst == "pruned" else None,
            "error": "; ".join(f"{cell.recording}/{cell.area}: {error}" for cell, error in errors) or None,
            **cell_configuration(trial.configuration),
            **{f"cell.{cell.recording}.{cell.area}": cell.cell_id for cell in trial.cells},
            "score_keys": " ".join(sorted(self.known.score_keys[name] for name in names)),
            "split": canonical(self.planner.split),
            "components": components_of(trial.configuration["backbone"], trial.configuration["readout"]),
            "attempt": trial.attempt,
            "schema_version": SCHEMA_VERSION,
            "finished": datetime.now(UTC),
            **join_costs(held),
        }
        return row if worst == "failed" else row | join_scores(held, names)

    def _note_best(self, finished: Finished) -> None:
        for objective, value in (finished.objectives or {}).items():
            if not finished.pruned and not math.isnan(value):
                self.progress.best[objective] = max(value, self.progress.best.get(objective, -math.inf))

    def flush_if_due(self) -> None:
        """Write finished trials when there are many, or when the last ones have waited."""
        if len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.flushed_at > FLUSH_SECONDS:
            self.flush()
            self.ledger.fold_if_due()

    def flush(self) -> None:
        """Write finished trials."""
        self.ledger.write("trials", self.rows)
        self.rows = []
        self.flushed_at = time.monotonic()
