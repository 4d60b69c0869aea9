"""Sobol search: distinct configurations that fill the space more evenly than random ones."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.experiment.schema import Search
from sweeps.experiment.space import Space
from sweeps.search.proposer import Listed, SearchMethod
from sweeps.search.random_search import distinct


class SobolDraws:
    """Draws of a scrambled Sobol sequence in place of a random generator: the coordinates of one point, in turn."""

    def __init__(self, dimensions: int, seed: int) -> None:
        from scipy.stats import qmc

        self.engine = qmc.Sobol(dimensions, seed=seed)
        self.point: Iterator[float] = iter(())

    def advance(self) -> None:
        """Go to the next point."""
        self.point = iter(self.engine.random(1)[0].tolist())

    def random(self) -> float:
        """Draw a number from 0 to 1, 1 excluded."""
        return next(self.point)

    def integers(self, count: int) -> int:
        """Draw a whole number below `count`."""
        return min(int(self.random() * count), count - 1)


def sobol(space: Space, search: Search) -> Listed:
    """Propose configurations that fill the space evenly; the grid of a space with no more of them than are wanted."""
    size = space.size()
    if size is not None and size <= (search.trials or 1):
        return Listed(space.grid())
    draws = SobolDraws(space.most_draws(), search.seed)
    return Listed(distinct(space, draws, draws.advance))


METHOD = SearchMethod(version=1, make=sobol)
