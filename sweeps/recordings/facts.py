"""What the driver knows of a recording without loading its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RecordingFacts:
    """Name, identity and sizes of a recording. `areas` maps each area to its number of units.

    `clips` is the number of clips (0: single pictures), `texts` whether there is something to read, `behaviour`,
    `pupil` and `coordinates` whether these were recorded. `truth` is what is planted in a simulated recording: {area:
    depth of the teacher}.
    """

    name: str
    fingerprint: str
    areas: dict[str, int]
    stimuli: int
    groups: int
    repeats: int
    roles: tuple[str, ...]
    features: tuple[str, ...] = ()
    pictures: bool = True
    clips: int = 0
    texts: bool = False
    behaviour: bool = False
    pupil: bool = False
    coordinates: bool = False
    truth: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
