"""Optuna proposes before all scores are there: each proposal is made with those that are."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from sweeps.errors import InputError
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.hashing import canonical
from sweeps.search.history import MOST, History, Scores
from sweeps.search.optuna_space import encode, suggest

ASK, POPULATION = 16, 32
"""Configurations in a batch, by tpe and by nsga2 (a generation): ten batches without anything new end a search."""

AT_ONCE = 4
"""Configurations that are proposed in one go, at most, so that no worker waits long for Optuna."""


class OptunaSearch:
    """An Optuna sampler that proposes and learns at any time, for one objective or several.

    `tpe` is the tree-structured Parzen estimator; running trials count as bad ones, so that it does not propose the
    same again and again. `nsga2` is a genetic search for a front: whatever is proposed before a whole generation is
    finished belongs to that generation. The study holds the best and the newest of the finished trials (see History)
    and is made anew when it holds twice as many, and when an objective is dropped or taken up.

    An objective that is no number, and every objective of a trial that failed, is told as a value below all that were
    seen (see History.below), since Optuna takes no account of trials that it is told as failed, and is drawn to where
    they lie. When another trial comes out lower than that value, the study is made anew with a lower one.

    Proposals depend on the seed and on the order of all calls, on nothing else: one worker repeats itself, with
    several the order in which their trials end decides.
    """

    adaptive = True

    def __init__(self, space: Space, search: Search) -> None:
        self.space = space
        self.search = search
        self.batch = search.batch or (POPULATION if search.method == "nsga2" else ASK)
        self.at_once = search.batch if search.batch and search.method == "tpe" else AT_ONCE
        self.history = History(search.objectives, max(MOST, 4 * self.batch))
        self.pending: dict[str, list[int]] = defaultdict(list)
        self.running: dict[str, Configuration] = {}
        self.study: Any = None
        self.objectives: list[str] = []
        self.bad: dict[str, float] = {}
        self.adopted = 0
        self._finished = 0

    def propose(self, count: int | None = None) -> list[Configuration]:
        """Propose `count` configurations, or a batch; one that Optuna suggests twice comes twice."""
        active = self._active()
        outdated = any(self.history.lowest.get(name, math.inf) <= value for name, value in self.bad.items())
        if self.study is None or active != self.objectives or outdated or self._finished >= 2 * self.history.most:
            self._begin(active)
        return [self._propose() for _ in range(count or self.batch)]

    def _propose(self) -> Configuration:
        trial = self.study.ask()
        configuration = suggest(self.space, trial)
        key = canonical(configuration)
        self.pending[key].append(trial.number)
        self.running[key] = configuration
        return configuration

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """Tell the study the scores, once for each time that it suggested this configuration."""
        self.history.add(configuration, scores)
        values, key = self._values(scores), canonical(configuration)
        self.running.pop(key, None)
        for number in self.pending.pop(key, []):
            self._finished += 1
            self.study.tell(number, values)

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Learn a finished trial of an earlier run; False where it does not lie in the space."""
        try:
            encode(self.space, configuration)
        except KeyError:
            return False
        self.history.add(configuration, scores)
        self.adopted += 1
        return True

    def notices(self) -> list[str]:
        """Say which objectives were dropped, and how many trials were adopted."""
        adopted = f"{self.adopted} finished trials of earlier runs count towards trials: {self.search.trials}"
        dropped = [name for name in self.search.objectives if name not in self._numbered()]
        notices = [f"objective {name} is NaN throughout and was dropped" for name in dropped]
        return [adopted, *notices] if self.adopted else notices

    def _active(self) -> list[str]:
        """Name the objectives that are a number for some trial, or all before a batch has scores."""
        return self._numbered() if self.history.scored >= self.batch else list(self.search.objectives)

    def _numbered(self) -> list[str]:
        """Name the objectives that are a number for some trial, or all before the first scores."""
        if not self.history.scored:
            return list(self.search.objectives)
        if not self.history.numbered:
            raise InputError("every objective is NaN throughout", key="search.objectives", value=self.search.objectives)
        return [name for name in self.search.objectives if name in self.history.numbered]

    def _values(self, scores: Scores | None) -> list[float]:
        """The values that the study is told: a bad one for each that is no number, the same within a study."""
        values = {name: float((scores or {}).get(name, math.nan)) for name in self.objectives}
        for name, value in values.items():
            if not math.isfinite(value):
                values[name] = self.bad.setdefault(name, self.history.below(name))
        return list(values.values())

    def _begin(self, objectives: list[str]) -> None:
        """Begin a new study with the trials of the history, and with those that run."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objectives, self.bad = objectives, {}
        self.history.thin()
        sampler = self._sampler(self.search.seed + self.history.count)
        self.study = optuna.create_study(directions=["maximize"] * len(objectives), sampler=sampler)
        finished = [(configuration, self._values(scores)) for configuration, scores in self.history]
        numbers = [self._add(configuration, values) for configuration, values in finished]
        self._finished = sum(number is not None for number in numbers)
        pending, self.pending = self.pending, defaultdict(list)
        for key, earlier in pending.items():
            again = (self._add(self.running[key], None) for _ in earlier)
            self.pending[key] = [number for number in again if number is not None]

    def _sampler(self, seed: int) -> Any:
        from optuna.samplers import NSGAIISampler, TPESampler

        if self.search.method == "nsga2":
            return NSGAIISampler(seed=seed, population_size=self.batch)
        return TPESampler(seed=seed, constant_liar=True)

    def _add(self, configuration: Configuration, values: list[float] | None) -> int | None:
        """Add a finished trial, or one that runs (None), to the study; return its number there.

        None where it does not fit. For a genetic search all finished trials are one generation, and those that run
        belong to the next.
        """
        from optuna.trial import FixedTrial, TrialState, create_trial

        fixed = FixedTrial(encode(self.space, configuration))
        try:
            suggest(self.space, fixed)
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
