"""NSGA-II of Optuna: a genetic search for a front of several objectives."""

from __future__ import annotations

from sweeps.search.optuna_search import OptunaSearch
from sweeps.search.proposer import SearchMethod

METHOD = SearchMethod(version=1, make=OptunaSearch)
