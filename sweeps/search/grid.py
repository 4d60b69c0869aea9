"""Grid search: every point of the space, in order."""

from __future__ import annotations

from sweeps.errors import InputError
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Space
from sweeps.search.proposer import Listed, SearchMethod


def grid(space: Space, search: Search) -> Listed:
    """Propose every point; InputError for a range without `steps`."""
    key = space.continuous()
    if key:
        raise InputError("a grid needs `steps` for every range", key=f"{key}.steps")
    return Listed(space.grid())


METHOD = SearchMethod(version=1, make=grid, exhaustive=True)
