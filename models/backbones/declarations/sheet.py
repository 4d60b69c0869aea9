"""The spiking sheet."""

from __future__ import annotations

from models.component import Component, Parameter

COMPONENT = Component(
    target="models.backbones.sheet:SheetBackbone",
    version=1,
    parameters={
        "rule": Parameter("stdp", "str", words=("stdp", "fixed")),
        "layers": Parameter(4, "int", low=1, high=20),
        "bins": Parameter(1, "int", low=1, high=100),
        "side": Parameter(30, "int", low=4, high=100),
        "pixels": Parameter(16, "int", low=2, high=64),
        "in_degree": Parameter(32, "int", low=1, high=1024),
        "out_degree": Parameter(32, "int", low=1, high=1024),
        "wiring_cost": Parameter(0.01, "float", low=0),
        "growth_range": Parameter(3.0, "float", positive=True),
        "excitation": Parameter(1.5, "float", positive=True),
        "inhibition": Parameter(4.0, "float", positive=True),
        "asymmetry": Parameter(1.2, "float", low=0),
        "rate": Parameter(10.0, "float", positive=True),
        "homeostasis": Parameter(0.02, "float", low=0),
        "presentation": Parameter(100.0, "float", positive=True),
        "gap": Parameter(50.0, "float", low=0),
        "step": Parameter(1.0, "float", positive=True, high=10),
        "pictures": Parameter(200, "int", low=1),
        "budget": Parameter(600.0, "float", positive=True),
    },
    blocks="layers",
    learns=True,
    differentiable=False,
    seeded={"rule": ("stdp", "fixed")},
    summary="spike counts of one sheet of neurons that wired itself by STDP, a reference design; depth = hops",
)
