"""Optuna, asked ahead of the scores: what is known by then decides what is asked."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from sweeps.errors import InputError
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.hashing import canonical
from sweeps.search.history import SEEN, Memory, Scores

ASK, POPULATION = 16, 32
"""Configurations in a batch, by tpe and by nsga2 (a generation): what ten of without anything new end a search."""

AT_ONCE = 4
"""Configurations that are asked in one go, at most, so that no worker waits long for Optuna."""


class Adaptive:
    """An Optuna sampler that is asked and told at any time, for one objective or several.

    `tpe` is the tree-structured Parzen estimator; trials that run count as bad ones, so that it does not ask for the
    same again and again. `nsga2` is a genetic search for a front: whatever is asked before a whole generation is
    finished belongs to that generation. The study holds the best and the newest of the finished trials (see Memory)
    and is made anew when it holds twice as many, and when an objective is dropped or taken up.

    What is asked depends on the seed and on the order of all calls, on nothing else: one worker repeats itself, with
    several the order in which their trials end decides.
    """

    adaptive = True

    def __init__(self, space: Space, search: Search) -> None:
        self.space = space
        self.search = search
        self.batch = search.batch or (POPULATION if search.method == "nsga2" else ASK)
        self.at_once = search.batch if search.batch and search.method == "tpe" else AT_ONCE
        self.told = Memory(search.objectives, max(SEEN, 4 * self.batch))
        self.asked: dict[str, list[int]] = defaultdict(list)
        self.running: dict[str, Configuration] = {}
        self.study: Any = None
        self.objectives: list[str] = []
        self.adopted = 0
        self._finished = 0

    def propose(self, count: int | None = None) -> list[Configuration]:
        """Ask `count` configurations, or a batch; one that is asked twice comes twice."""
        active = self._active()
        if self.study is None or active != self.objectives or self._finished >= 2 * self.told.seen:
            self._begin(active)
        return [self._ask() for _ in range(count or self.batch)]

    def _ask(self) -> Configuration:
        trial = self.study.ask()
        configuration = self.space.suggest(trial)
        key = canonical(configuration)
        self.asked[key].append(trial.number)
        self.running[key] = configuration
        return configuration

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """Tell the study, once for each time that it asked this configuration."""
        self.told.add(configuration, scores)
        values, key = self._values(scores), canonical(configuration)
        self.running.pop(key, None)
        for number in self.asked.pop(key, []):
            self._tell(number, values)

    def _tell(self, number: int, values: list[float] | None) -> None:
        from optuna.trial import TrialState

        self._finished += 1
        if values is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, values)

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Take up a trial of an earlier run that lies in the space."""
        try:
            self.space.encode(configuration)
        except KeyError:
            return False
        self.told.add(configuration, scores)
        self.adopted += 1
        return True

    def notices(self) -> list[str]:
        """Objectives that were dropped, and trials that were adopted."""
        adopted = f"{self.adopted} finished trials of earlier runs count towards trials: {self.search.trials}"
        dropped = [name for name in self.search.objectives if name not in self._numbered()]
        notices = [f"objective {name} is NaN throughout and was dropped" for name in dropped]
        return [adopted, *notices] if self.adopted else notices

    def _active(self) -> list[str]:
        """Objectives that are a number for some trial, or all before a batch has scores."""
        return self._numbered() if self.told.scored >= self.batch else list(self.search.objectives)

    def _numbered(self) -> list[str]:
        """Objectives that are a number for some trial, or all before the first scores."""
        if not self.told.scored:
            return list(self.search.objectives)
        if not self.told.numbered:
            raise InputError("every objective is NaN throughout", key="search.objectives", value=self.search.objectives)
        return [name for name in self.search.objectives if name in self.told.numbered]

    def _values(self, scores: Scores | None) -> list[float] | None:
        if scores is None:
            return None
        values = [float(scores.get(name, math.nan)) for name in self.objectives]
        return None if any(map(math.isnan, values)) else values

    def _begin(self, objectives: list[str]) -> None:
        """A new study that knows what is remembered, and what is running."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objectives = objectives
        self.told.thin()
        sampler = self._sampler(self.search.seed + self.told.count)
        self.study = optuna.create_study(directions=["maximize"] * len(objectives), sampler=sampler)
        told = [(configuration, self._values(scores)) for configuration, scores in self.told]
        held = [self._add(configuration, values) for configuration, values in told if values is not None]
        self._finished = sum(number is not None for number in held)
        open_before, self.asked = self.asked, defaultdict(list)
        for key, numbers in open_before.items():
            again = (self._add(self.running[key], None) for _ in numbers)
            self.asked[key] = [number for number in again if number is not None]

    def _sampler(self, seed: int) -> Any:
        from optuna.samplers import NSGAIISampler, TPESampler

        if self.search.method == "nsga2":
            return NSGAIISampler(seed=seed, population_size=self.batch)
        return TPESampler(seed=seed, constant_liar=True)

    def _add(self, configuration: Configuration, values: list[float] | None) -> int | None:
        """Let the study know a finished trial, or one that runs (None); its number there.

        For a genetic search all that are known are one generation, and what runs belongs to the next.
        """
        from optuna.trial import FixedTrial, TrialState, create_trial

        fixed = FixedTrial(self.space.encode(configuration))
        try:
            self.space.suggest(fixed)
        except ValueError:
            return None  # a row of an earlier version of the space
        generation = int(values is None and self._finished >= self.batch)
        genetic = self.search.method == "nsga2"
        trial = create_trial(
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            params={name: fixed.params[name] for name in fixed.distributions},
            distributions=fixed.distributions,
            values=values,
            system_attrs={self.study.sampler._get_generation_key(): generation} if genetic else {},
        )
        number = len(self.study.get_trials(deepcopy=False))
        self.study.add_trial(trial)
        return number
