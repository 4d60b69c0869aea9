"""What a search method is: it proposes configurations, and learns their scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.search.history import Scores

ALL_AT_ONCE = 5000
"""Configurations proposed at a time by methods that do not learn."""

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


@dataclass(frozen=True)
class SearchMethod:
    """How configurations are proposed: `make` gives the proposer of a space and a section `search`.

    `exhaustive` methods try every point of the space and take no `trials`; the others need it. `version` is raised when
    other configurations are proposed for the same seed.
    """

    version: int
    make: Callable[[Space, Search], Proposer]
    exhaustive: bool = False


class Listed:
    """A fixed sequence of configurations, whatever they score: grid, random and Sobol search."""

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
