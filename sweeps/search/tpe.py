"""The tree-structured Parzen estimator of Optuna."""

from __future__ import annotations

from sweeps.search.optuna_search import OptunaSearch
from sweeps.search.proposer import SearchMethod

METHOD = SearchMethod(version=1, make=OptunaSearch)
