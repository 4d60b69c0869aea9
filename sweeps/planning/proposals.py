"""Which trials come next: the search proposes configurations, and learns what came of them."""

from __future__ import annotations

from sweeps.experiment.cells import Cell, Planner
from sweeps.experiment.space import Configuration
from sweeps.planning.trial_rows import OpenTrial, TrialRows
from sweeps.search.proposer import TRIES, Proposer
from sweeps.storage.columns import configuration_of, is_installed

KNOWN_PER_CONFIGURATION = 8
"""Finished trials for every configuration that is proposed at once for each running pack."""


class Proposals:
    """Asks a search for up to `wanted` trials (None: all that it has), those of earlier runs included.

    `exhausted` when nothing more is to be proposed. `stale` counts the batches in a row that brought nothing new.
    """

    def __init__(self, proposer: Proposer, planner: Planner, trials: TrialRows, wanted: int | None) -> None:
        self.proposer, self.planner, self.trials, self.wanted = proposer, planner, trials, wanted
        self.finished, self.progress = trials.finished.trials, trials.progress
        self.exhausted = False
        self.stale = 0
        self._nothing_new = 0
        self._stale_since: int | None = None
        self._uncounted = set(self.finished)
        if proposer.adaptive:
            self._adopt()

    def _adopt(self) -> None:
        """Let an adaptive search begin where the rows of earlier runs end."""
        for trial_id, trial in self.finished.items():
            configuration = configuration_of({"config": trial.config})
            if not is_installed(configuration):
                continue
            cells = self.planner.cells(configuration)
            if self.planner.trial_id(cells) == trial_id and self.proposer.adopt(configuration, trial.objectives):
                self._count_known(trial_id)

    def _count_known(self, trial_id: str) -> bool:
        """Count a trial of an earlier run, once; whether it was not counted yet."""
        counts = trial_id in self._uncounted
        if counts:
            self._uncounted.discard(trial_id)
            self.progress.count_known(self.finished[trial_id])
        return counts

    def propose(self, running: int) -> list[Cell]:
        """Ask the search once, while so many packs run; the cells that are to be fitted for its trials."""
        batch = self.proposer.propose(self._portion(running))
        cells: list[Cell] = []
        news = 0
        for configuration in batch:
            if self._enough():
                break
            news += self._take(configuration, cells)
        enough = self._enough()
        ended = self._is_stale(news, len(batch)) if self.proposer.adaptive else len(batch) < self.proposer.batch
        self.exhausted = not batch or enough or ended
        self.progress.cells += len(cells)
        return cells

    def _enough(self) -> bool:
        return self.wanted is not None and self.progress.trials >= self.wanted

    def _portion(self, running: int) -> int:
        """Configurations to ask of an adaptive search: more with more known, one by one near the end.

        While a trial more or less in what is known matters, and so that no worker ends long after the others.
        """
        workers = running + 1
        left = (self.wanted or 0) - self.progress.trials
        known = self.progress.ended // (KNOWN_PER_CONFIGURATION * workers)
        return max(1, min(self.proposer.at_once, known, left // (2 * workers)))

    def _take(self, configuration: Configuration, fresh: list[Cell]) -> bool:
        """Take up a proposed configuration, and add its cells to the `fresh` ones; whether it is new to this run."""
        cells = self.planner.cells(configuration)
        trial_id = self.planner.trial_id(cells)
        finished = self.finished.get(trial_id)
        if finished is not None:
            self.proposer.tell(configuration, finished.objectives)
            return self._count_known(trial_id)
        if trial_id in self.trials.open:
            return False
        self.progress.trials += 1
        trial, missing = self.trials.add(trial_id, configuration, cells)
        fresh.extend(missing)
        if not trial.missing:
            self.close(trial)
        return True

    def close(self, trial: OpenTrial) -> None:
        """Join a trial whose cells are all finished, and tell the search."""
        finished = self.trials.close(trial)
        self.proposer.tell(trial.configuration, finished.objectives)

    def _is_stale(self, news: int, size: int) -> bool:
        """Count batches without anything new; whether that were enough of them, and no trial is open to learn from."""
        self._nothing_new = 0 if news else self._nothing_new + size
        self.stale, begun = divmod(self._nothing_new, self.proposer.batch)
        self._stale_since = self.progress.ended if self.stale and begun < size else None
        return self.stale >= TRIES and not self.trials.open

    def waits_for_trials(self) -> bool:
        """Tell whether the last batch brought nothing new, and no trial has ended since."""
        return self._stale_since == self.progress.ended
