"""Which configuration next: grid, random, Sobol, or Optuna."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sweeps.errors import InputError
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.search.history import Scores
from sweeps.search.optuna_search import ASK, OptunaSearch
from sweeps.search.sobol import SobolDraws

ALL_AT_ONCE = 5000
"""Configurations proposed at a time by methods that do not learn."""

SHUFFLED_BELOW = 4
"""Random search shuffles the grid when it has fewer than this many times the wanted trials."""

TRIES = 10
"""Batches without anything new after which a search ends."""


class Proposer(Protocol):
    """Proposes configurations and learns their scores. `adaptive` ones ask by what is known at the time.

    Adaptive searches are asked `at_once` configurations at most, and end when ten batches of `batch` brought nothing
    new; the others are asked for as many as they like to give.
    """

    adaptive: bool
    at_once: int
    batch: int

    def propose(self, count: int | None = None) -> list[Configuration]:
        """The next configurations, `count` of an adaptive search; empty when there is nothing left to propose."""

    def tell(self, configuration: Configuration, scores: Scores | None) -> None:
        """The select scores of a configuration, or None when it failed."""

    def adopt(self, configuration: Configuration, scores: Scores | None) -> bool:
        """Learn a finished trial of an earlier run; whether it counts as one of this search's."""

    def notices(self) -> list[str]:
        """What the user should know about the search so far."""


class Listed:
    """Grid and random search: a fixed sequence of configurations."""

    adaptive = False
    at_once = batch = ALL_AT_ONCE

    def __init__(self, configurations: Iterator[Configuration]) -> None:
        self.configurations = configurations

    def propose(self, count: int | None = None) -> list[Configuration]:
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
    return OptunaSearch(space, search)


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
