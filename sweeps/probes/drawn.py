"""Probes that are drawn, not stored: what every kind has in common. Their settings are all there is to keep."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from models.inputs.geometry import Geometry


class DrawnProbe(BaseModel):
    """Settings of one kind of probe under `probes: {KIND: {rendered: {...}}}`, which draw it.

    `version` is raised when the same settings give other pictures or another table; it enters the fingerprint.
    `shown_to_twins`: whether every twin is shown the probe in its recording's geometry; others are for scores that
    show them in their own way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: ClassVar[int] = 1
    shown_to_twins: ClassVar[bool] = True

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """Return the labels, one row per picture."""

    @abstractmethod
    def images(self, geometry: Geometry) -> np.ndarray:
        """Draw all pictures at the size of a geometry, uint8 (n, size, size, 3), in the order of the table."""
