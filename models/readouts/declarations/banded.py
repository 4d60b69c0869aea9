"""Banded ridge regression."""

from __future__ import annotations

from models.component import Component, Parameter
from models.readouts.declarations.shared import ALPHA, LINEAR

COMPONENT = Component(
    target="models.linear.banded:fit_banded",
    version=1,
    fitted_by="banded",
    parameters={
        "alpha": ALPHA,
        "iterations": Parameter(20, "int", low=1),
        "folds": Parameter("each", "int", words=("each",), low=2),
        "search_seed": Parameter(0, "int", low=0),
        **LINEAR,
        "refit": Parameter(True, "bool"),
    },
    summary="ridge with a penalty of its own for every block, or feature set, that a cell reads",
)
