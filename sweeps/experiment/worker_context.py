"""What all packs of a sweep share, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Context:
    """Everything that all packs of a sweep share, as plain data.

    `depths` are the blocks of each backbone that the sweep may read: features of all of them are computed in
    one pass. `score_keys` identify every score by name. `fingerprints` are the driver's, which every
    node must see too. `halving` are the settings of successive halving, `rungs` is the actor that it asks.
    """

    sweep: str
    storage: str
    recordings: list[dict[str, Any]]
    fingerprints: dict[str, str]
    probes: dict[str, Any]
    base: str
    split: dict[str, Any]
    scores: list[str]
    score_keys: dict[str, str]
    depths: dict[str, list[int]]
    cache: str
    cache_gb: float
    fits_gb: float
    digest: str
    commit: str = ""
    halving: dict[str, Any] = field(default_factory=dict)
    rungs: str = ""
