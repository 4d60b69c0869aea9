"""What a probe is, whatever it is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from models.inputs.geometry import MID_GREY, Geometry


class Source(Protocol):
    """Where a probe's pictures come from."""

    def images(self, geometry: Geometry) -> np.ndarray:
        """All pictures, uint8 (n, size, size, 3)."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Stimuli with known labels, on which a twin is scored.

    `kind` is a name of PROBES. `table` has a row per picture, for objects with `object` and a numeric `transform`
    (for rotations, degrees), for captions with `caption`. `fingerprint` is equal for two probes that show the same.
    """

    name: str
    kind: str
    table: pd.DataFrame
    fingerprint: str
    source: Source

    def __len__(self) -> int:
        return len(self.table)

    def images(self, geometry: Geometry) -> np.ndarray:
        """Return the pictures at a recording's size: uint8 (n, rows, columns, 3), in the order of the table.

        A probe is always shown whole: `geometry.crop`, which selects what a recording's own pictures
        covered of the visual field, does not apply, or objects would be cut away. Where a recording's pictures are
        not square, those of the probe lie in the middle of a mid-grey field.
        """
        rows, columns = geometry.shape
        side = min(rows, columns)
        pictures = self.source.images(Geometry(size=side))
        if rows == columns:
            return pictures
        top, left = (rows - side) // 2, (columns - side) // 2
        field = np.full((len(pictures), rows, columns, 3), MID_GREY, np.uint8)
        field[:, top : top + side, left : left + side] = pictures
        return field


def content_hash(**parts: Any) -> str:
    """Return the SHA-256 of named values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
