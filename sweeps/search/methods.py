"""The search methods by name: a new one is one new file, which declares itself, and one line in METHODS."""

from __future__ import annotations

from models.registry import Registry, UndeclaredName, UnknownName
from sweeps.errors import InputError
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Space
from sweeps.search.proposer import Proposer, SearchMethod

METHODS: Registry[SearchMethod] = Registry(
    "search",
    SearchMethod,
    {
        "grid": "sweeps.search.grid:METHOD",
        "random": "sweeps.search.random_search:METHOD",
        "sobol": "sweeps.search.sobol:METHOD",
        "tpe": "sweeps.search.tpe:METHOD",
        "nsga2": "sweeps.search.nsga2:METHOD",
    },
)
"""Name -> method."""


def make_proposer(space: Space, search: Search) -> Proposer:
    """Make the proposer of a section `search`; InputError for what the method cannot do, as a grid over a range."""
    return find_method(search).make(space, search)


def find_method(search: Search) -> SearchMethod:
    """The method of a section `search`; InputError for an unknown one, or `trials` where they mean nothing or lack."""
    try:
        method = METHODS[search.method]
    except UndeclaredName:
        raise InputError("unknown method", key="search.method", value=search.method, allowed=METHODS) from None
    except UnknownName as error:
        raise InputError(str(error), key="search.method", value=search.method) from None
    if method.exhaustive and search.trials is not None:
        problem = f"`trials` has no meaning with method {search.method}, which tries every point"
        raise InputError(problem, key="search.trials", value=search.trials)
    if not method.exhaustive and search.trials is None:
        raise InputError(f"`trials` is needed with method {search.method}", key="search.trials")
    return method
