"""The section `guidance` of an experiment: which areas to drive with synthesised pictures, how, judged by whom."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sweeps.errors import InputError
from sweeps.io.strict_model import Strict

STEPS = {"fourier": 128, "diffusion": 50}
FOURIER = {"step": 0.05, "jitter": 0, "decorrelated": True}
DIFFUSION = {"gamma": 100.0, "unit_norm": True, "attention": 0.75, "blend": True}
"""What the settings of one method are where they are not given; those of the other method mean nothing."""


class GuidanceContrast(Strict):
    """Drive one area and not another: A(target) - weight A(against)."""

    target: str
    against: str
    weight: float = Field(1.0, gt=0)


class Guidance(Strict):
    """Brain-guided synthesis, made by `sweeps guide` after the sweep.

    `areas` are driven one by one, `contrast` besides. `method`: ascent in the space of Fourier coefficients, or a
    diffusion model (`pipeline`: a folder or a hub's name of a diffusers pipeline in safetensors, shown `prompt`).
    `seeds` pictures each, the same seeds for all areas; the best `keep` of them by the guiding twin are compared with
    as many best natural ones. `twins`: best:N by select prediction of the area; the first guides, all others judge. No
    two of them have the same `differ`: by default they read other features (another network, or another depth of it),
    since twins that differ only in their readout's settings would praise each other's pictures. An area that the
    guiding twin predicts worse than `least_prediction` on the report stimuli is refused, and such a judge is left out.
    `contrast_cap` bounds the RMS contrast, for areas that contrast alone drives. The others are those of
    `models.guidance`; `step` is Adam's learning rate.
    """

    areas: list[str] = Field([])
    contrast: GuidanceContrast | None = None
    method: Literal["fourier", "diffusion"] = "fourier"
    pipeline: str | None = None
    prompt: str = ""
    seeds: int = Field(8, ge=1)
    steps: int | None = Field(None, ge=1)
    step: float | None = Field(None, gt=0)
    jitter: int | None = Field(None, ge=0)
    decorrelated: bool | None = None
    gamma: float | None = None
    unit_norm: bool | None = None
    attention: float | None = Field(None, ge=0)
    blend: bool | None = None
    contrast_cap: float | None = Field(None, gt=0, le=0.5)
    twins: str = "best:3"
    differ: Literal["features", "backbone", "depth", "readout", "seed", "any"] = "features"
    keep: float = Field(0.2, gt=0, le=1)
    least_prediction: float = Field(0.1, ge=0, lt=1)

    @field_validator("twins")
    @classmethod
    def _readable_twins(cls, value: str) -> str:
        if not re.fullmatch("best:[1-9][0-9]*", value):
            raise ValueError("must be best:N, N twins of which the first guides and the others judge")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Guidance:
        if not self.areas and self.contrast is None:
            raise ValueError("names nothing to drive: give `areas` or a `contrast`")
        if (self.method == "diffusion") != (self.pipeline is not None):
            raise ValueError("`pipeline` is needed with method diffusion, and has no meaning with any other")
        for name in FOURIER if self.method == "diffusion" else DIFFUSION:
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` has no meaning with method {self.method}")
        return self

    @property
    def twin_count(self) -> int:
        """Number of twins that guide or judge."""
        return int(self.twins.partition(":")[2])

    def resolved(self) -> dict[str, Any]:
        """Return the section with the defaults of its method filled in and without the settings of the other."""
        own, other = (FOURIER, DIFFUSION) if self.method == "fourier" else (DIFFUSION, FOURIER)
        settings = self.model_dump(mode="json", exclude=set(other))
        defaults = {**own, "steps": STEPS[self.method]}
        return settings | {name: value for name, value in defaults.items() if settings[name] is None}

    def named_areas(self) -> list[str]:
        """Return every area that is named."""
        pair = [self.contrast.target, self.contrast.against] if self.contrast else []
        return list(dict.fromkeys([*self.areas, *pair]))


def check_guidance(guidance: Guidance | None, areas: Iterable[str]) -> None:
    """Refuse areas that the sweep does not read. Raises InputError."""
    known = list(areas)
    for area in guidance.named_areas() if guidance else []:
        if area not in known:
            raise InputError("no such area", key="guidance", value=area, allowed=known)
