"""Feature sets of a recording: no code and no images, one row per stimulus under the name that `set` gives."""

from __future__ import annotations

from models.component import Component, Parameter

COMPONENT = Component(
    target="",
    version=1,
    parameters={"set": Parameter(None, "str")},
    blocks=1,
    sees="features",
    readouts=("ridge", "srp-ridge", "pls", "banded-ridge"),
    idle=("pool",),
    summary="a feature set that comes with the recording; `set`, its name, must be given",
)
