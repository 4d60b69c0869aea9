"""Probes that are drawn, not stored: their settings are all there is to keep."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.stimuli import scenes

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


def _known_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in scenes.KINDS:
            raise InputError("unknown kind of object", value=kind, allowed=scenes.KINDS)
    if len(set(kinds)) < len(kinds):
        raise ValueError("names a kind of object twice")
    return kinds


class RenderedObjects(BaseModel):
    """Drawn objects, each at evenly spaced rotations, elsewhere and on another ground every time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_known_kinds)] = tuple(scenes.KINDS)
    rotations: Annotated[int, Field(ge=2, le=360, strict=True)] = 15
    seed: Seed = 0

    def angles(self) -> list[float]:
        """Degrees counter-clockwise, from 0 to below 360."""
        return [360 * step / self.rotations for step in range(self.rotations)]

    def table(self) -> pd.DataFrame:
        """Columns `object` and `transform` (degrees)."""
        return scenes.view_table(self.kinds, self.angles()).rename(columns={"rotation_deg": "transform"})

    def images(self, geometry: Geometry) -> np.ndarray:
        """Drawn at the size in which they are shown."""
        images, _ = scenes.object_views(self.kinds, self.angles(), geometry.size, self.seed)
        return images


class RenderedCaptions(BaseModel):
    """Drawn scenes of one to three objects, each with a caption that names them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Annotated[int, Field(ge=2, le=100_000, strict=True)] = 240
    seed: Seed = 0

    def table(self) -> pd.DataFrame:
        """Column `caption`."""
        return pd.DataFrame({"caption": scenes.random_captions(self.count, self.seed)})

    def images(self, geometry: Geometry) -> np.ndarray:
        """Drawn at the size in which they are shown."""
        return np.stack([scene.image for scene in scenes.random_scenes(self.count, self.seed, geometry.size)])
