"""Draws of a Sobol sequence, which fill a space more evenly than random numbers."""

from __future__ import annotations

from collections.abc import Iterator


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
