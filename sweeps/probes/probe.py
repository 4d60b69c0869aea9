"""What a probe is, whatever it is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sweeps.recordings.images import Geometry


class Source(Protocol):
    """Where a probe's pictures come from."""

    def images(self, geometry: Geometry) -> np.ndarray:
        """All pictures, uint8 (n, size, size, 3)."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Stimuli with known labels, on which a twin is scored.

    `kind` is "objects" or "captions". `table` has a row per picture: `object` and a numeric `transform`
    (for rotations, degrees), or `caption`. `fingerprint` is equal for two probes that show the same.
    """

    name: str
    kind: str
    table: pd.DataFrame
    fingerprint: str
    source: Source

    def __len__(self) -> int:
        return len(self.table)

    def images(self, geometry: Geometry) -> np.ndarray:
        """The pictures at a recording's `size`: uint8 (n, size, size, 3), in the order of the table.

        A probe is always shown whole: `geometry.crop`, which selects what a recording's own pictures
        covered of the visual field, does not apply, or objects would be cut away.
        """
        return self.source.images(Geometry(size=geometry.size))


def content_hash(**parts: Any) -> str:
    """SHA-256 of named values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
