"""The readouts by name: a declaration and one line in `READOUTS` each. Importing this imports no torch."""

from __future__ import annotations

from models.component import Component
from models.registry import Registry

READOUTS: Registry[Component] = Registry(
    "readouts",
    Component,
    {
        "ridge": "models.readouts.declarations.ridge:RIDGE",
        "srp-ridge": "models.readouts.declarations.ridge:SRP_RIDGE",
        "pls": "models.readouts.declarations.pls:COMPONENT",
        "banded-ridge": "models.readouts.declarations.banded:COMPONENT",
        "gaussian": "models.readouts.declarations.gaussian:COMPONENT",
        "factorised": "models.readouts.declarations.factorised:COMPONENT",
        "mlp": "models.readouts.declarations.mlp:COMPONENT",
        "latent": "models.readouts.declarations.latent:COMPONENT",
    },
)
"""Name -> readout."""
