"""Random search: distinct configurations, drawn by the search's seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sweeps.experiment.domains import Draws
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.search.optuna_search import ASK
from sweeps.search.proposer import TRIES, Listed, SearchMethod

SHUFFLED_BELOW = 4
"""Random search shuffles the grid when it has fewer than this many times the wanted trials."""


def random_search(space: Space, search: Search) -> Listed:
    """Propose distinct configurations: drawn one by one from a large space, a shuffled grid of a small one."""
    draws = np.random.default_rng([search.seed, 30])
    size = space.size()
    if size is None or size > SHUFFLED_BELOW * (search.trials or 1):
        return Listed(distinct(space, draws))
    return Listed(_shuffled(space, draws))


def _shuffled(space: Space, draws: np.random.Generator) -> Iterator[Configuration]:
    """The grid in a random order; listed when the first is asked for, not when an experiment is checked."""
    grid = list(space.grid())
    yield from (grid[index] for index in draws.permutation(len(grid)))


def distinct(space: Space, draws: Draws, advance: Callable[[], None] = lambda: None) -> Iterator[Configuration]:
    """Draw configurations without end, or until ten batches in a row bring nothing new; `advance` before each."""
    known: set[str] = set()
    stale = 0
    while stale < TRIES * ASK:
        advance()
        configuration = space.sample(draws)
        text = repr(configuration)
        stale = stale + 1 if text in known else 0
        if stale == 0:
            known.add(text)
            yield configuration


METHOD = SearchMethod(version=1, make=random_search)
