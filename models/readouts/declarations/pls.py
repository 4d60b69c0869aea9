"""Partial least squares."""

from __future__ import annotations

from models.component import Component, Parameter
from models.readouts.declarations.shared import LINEAR

COMPONENT = Component(
    target="models.linear.pls:fit_pls",
    version=1,
    fitted_by="pls",
    parameters={"components": Parameter(25, "int", low=1), **LINEAR, "refit": Parameter(True, "bool")},
    summary="partial least squares of all units of an area together, without scaling",
)
