"""The probes `objects` and `captions`: drawn views of single objects, and drawn scenes with captions."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.probes.drawn import DrawnProbe
from sweeps.stimuli import scenes

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


def _known_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in scenes.KINDS:
            raise InputError("unknown kind of object", value=kind, allowed=scenes.KINDS)
    if len(set(kinds)) < len(kinds):
        raise ValueError("names a kind of object twice")
    return kinds


class RenderedObjects(DrawnProbe):
    """Drawn objects, each at evenly spaced rotations, elsewhere and on another ground every time."""

    version: ClassVar[int] = scenes.VERSION

    kinds: Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_known_kinds)] = tuple(scenes.KINDS)
    rotations: Annotated[int, Field(ge=2, le=360, strict=True)] = 15
    seed: Seed = 0

    def angles(self) -> list[float]:
        """Return degrees counter-clockwise, from 0 to below 360."""
        return [360 * step / self.rotations for step in range(self.rotations)]

    def table(self) -> pd.DataFrame:
        """Return the columns `object` and `transform` (degrees)."""
        return scenes.view_table(self.kinds, self.angles()).rename(columns={"rotation_deg": "transform"})

    def images(self, geometry: Geometry) -> np.ndarray:
        """Draw the pictures at the size in which they are shown."""
        images, _ = scenes.object_views(self.kinds, self.angles(), geometry.size, self.seed)
        return images


class RenderedCaptions(DrawnProbe):
    """Drawn scenes of one to three objects, each with a caption that names them."""

    version: ClassVar[int] = scenes.VERSION

    count: Annotated[int, Field(ge=2, le=100_000, strict=True)] = 240
    seed: Seed = 0

    def table(self) -> pd.DataFrame:
        """Return the column `caption`."""
        return pd.DataFrame({"caption": scenes.random_captions(self.count, self.seed)})

    def images(self, geometry: Geometry) -> np.ndarray:
        """Draw the pictures at the size in which they are shown."""
        return np.stack([scene.image for scene in scenes.random_scenes(self.count, self.seed, geometry.size)])
