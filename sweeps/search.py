"""Which configuration next: grid, random, Sobol, or Optuna asked and told in batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from sweeps.draws import SobolDraws
from sweeps.errors import InputError
from sweeps.experiment import Search
from sweeps.space import Configuration, Space

ALL_AT_ONCE = 5000
"""Configurations proposed at a time by methods that do not learn."""

ASK, POPULATION = 16, 32
"""Configurations asked from Optuna at a time, by tpe and by nsga2; results do not depend on the number of workers."""

SHUFFLED_BELOW = 4
"""Random search shuffles the grid when it has fewer than this many times the wanted trials."""

TRIES = 10
"""Batches without anything new after which a search ends."""

Scores = Mapping[str, float]


class Proposer(Protocol):
    """Proposes configurations and learns their scores. `adaptive` ones wait for the scores of a batch."""

    adaptive: bool

    def propose(self) -> list[Configuration]:
        """The next batch; empty when there is nothing left to propose."""

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """The select scores of a configuration, or None when it failed."""

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Learn a finished trial of an earlier run; whether it counts as one of this search's."""

    def notices(self) -> list[str]:
        """What the user should know about the search so far."""


class Listed:
    """Grid and random search: a fixed sequence of configurations."""

    adaptive = False

    def __init__(self, configurations: Iterator[Configuration]) -> None:
        self.configurations = configurations

    def propose(self) -> list[Configuration]:
        """The next few thousand configurations."""
        return list(itertools.islice(self.configurations, ALL_AT_ONCE))

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """Nothing is learnt."""

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Finished trials count when the sequence comes to them."""
        return False

    def notices(self) -> list[str]:
        """None."""
        return []


class Adaptive:
    """An Optuna sampler that is asked and told in batches, for one objective or several, rebuilt from what is known.

    `tpe` is the tree-structured Parzen estimator, `nsga2` a genetic search for a front, whose generations are the
    batches.
    """

    adaptive = True

    def __init__(self, space: Space, search: Search) -> None:
        self.space = space
        self.search = search
        self.told: list[tuple[Configuration, Scores | None]] = []
        self.asked: list[tuple[Any, Configuration]] = []
        self.study: Any = None
        self.objectives: list[str] = []
        self.adopted = 0
        self.batch = search.batch or (POPULATION if search.method == "nsga2" else ASK)

    def propose(self) -> list[Configuration]:
        """Ask a batch; a configuration that is asked twice comes twice."""
        active = self._active()
        if self.study is None or active != self.objectives:
            self.objectives = active
            self.study = self._study()
        self.asked = []
        for _ in range(self.batch):
            trial = self.study.ask()
            self.asked.append((trial, self.space.suggest(trial)))
        return [configuration for _, configuration in self.asked]

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """Tell the study, once for each time that it asked this configuration."""
        self.told.append((configuration, scores))
        values = self._values(scores)
        for trial, asked in self.asked:
            if asked == configuration:
                self._tell(trial, values)
        self.asked = [pair for pair in self.asked if pair[1] != configuration]

    def _tell(self, trial: Any, values: list[float] | None) -> None:
        from optuna.trial import TrialState

        if values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Take up a trial of an earlier run that lies in the space."""
        try:
            self.space.encode(configuration)
        except KeyError:
            return False
        self.told.append((configuration, scores))
        self.adopted += 1
        return True

    def notices(self) -> list[str]:
        """Objectives that were dropped, and trials that were adopted."""
        adopted = f"{self.adopted} finished trials of earlier runs count towards trials: {self.search.trials}"
        dropped = [name for name in self.search.objectives if name not in self._active()]
        notices = [f"objective {name} is NaN throughout and was dropped" for name in dropped]
        return [adopted, *notices] if self.adopted else notices

    def _active(self) -> list[str]:
        """Objectives that are a number for some trial, or all before the first scores."""
        known = [scores for _, scores in self.told if scores is not None]
        if not known:
            return list(self.search.objectives)
        active = [name for name in self.search.objectives if any(not math.isnan(s.get(name, math.nan)) for s in known)]
        if not active:
            raise InputError("every objective is NaN throughout", key="search.objectives", value=self.search.objectives)
        return active

    def _values(self, scores: Scores | None) -> list[float] | None:
        if scores is None or any(math.isnan(scores.get(name, math.nan)) for name in self.objectives):
            return None
        return [float(scores[name]) for name in self.objectives]

    def _study(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = self.search.seed + len(self.told)
        if self.search.method == "nsga2":
            sampler: Any = optuna.samplers.NSGAIISampler(seed=seed, population_size=self.batch)
        else:
            sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(directions=["maximize"] * len(self.objectives), sampler=sampler)
        known = [(configuration, self._values(scores)) for configuration, scores in self.told]
        told = [(configuration, values) for configuration, values in known if values is not None]
        for index, (configuration, values) in enumerate(told):
            generation = {sampler._get_generation_key(): index // self.batch} if self.search.method == "nsga2" else {}
            self._add(study, configuration, values, generation)
        return study

    def _add(
        self, study: Any, configuration: Configuration, values: list[float], generation: Mapping[str, int]
    ) -> None:
        """Let the study know a finished trial; a genetic search counts them by generations."""
        import optuna

        try:
            fixed = optuna.trial.FixedTrial(self.space.encode(configuration))
            self.space.suggest(fixed)
        except (KeyError, ValueError):
            return  # a row of an earlier version of the space
        params = {name: fixed.params[name] for name in fixed.distributions}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=fixed.distributions, values=values, system_attrs=dict(generation)
            )
        )


def make_proposer(space: Space, search: Search) -> Proposer:
    """The proposer of a search section; InputError for a grid over a continuous range."""
    if search.method == "grid":
        key = space.continuous()
        if key:
            raise InputError("a grid needs `steps` for every range", key=f"{key}.steps")
        return Listed(space.grid())
    if search.method == "random":
        return Listed(_random(space, search, np.random.default_rng([search.seed, 30])))
    if search.method == "sobol":
        return Listed(_sobol(space, search))
    return Adaptive(space, search)


def _random(space: Space, search: Search, random: np.random.Generator) -> Iterator[Configuration]:
    """Distinct configurations: drawn one by one from a large space, a shuffled grid of a small one."""
    size = space.size()
    if size is None or size > SHUFFLED_BELOW * (search.trials or 1):
        return _distinct(space, random)
    grid = list(space.grid())
    return (grid[index] for index in random.permutation(len(grid)))


def _sobol(space: Space, search: Search) -> Iterator[Configuration]:
    """Distinct configurations that fill the space evenly; the grid of a space with no more of them than are wanted."""
    size = space.size()
    if size is not None and size <= (search.trials or 1):
        return space.grid()
    return _distinct(space, SobolDraws(space.most_draws(), search.seed))


def _distinct(space: Space, draws: np.random.Generator | SobolDraws) -> Iterator[Configuration]:
    """Drawn configurations without end, or until ten batches in a row bring nothing new."""
    seen: set[str] = set()
    stale = 0
    while stale < TRIES * ASK:
        if isinstance(draws, SobolDraws):
            draws.advance()
        configuration = space.sample(draws)
        text = repr(configuration)
        stale = stale + 1 if text in seen else 0
        if stale == 0:
            seen.add(text)
            yield configuration
