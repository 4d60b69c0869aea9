"""Channel lists written as text, such as 16-32-64, without importing torch: a list in YAML means "try each"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHANNELS = r"[1-9]\d*(-[1-9]\d*)*"
"""Pattern of a channel list: whole numbers above 0 with dashes between them, one for each block."""

SHARED = 6
"""Blocks before the fork of a core with two streams."""


def parse_channels(text: str) -> tuple[int, ...]:
    """(16, 32, 64) of the text 16-32-64.

    >>> parse_channels("16-32-64")
    (16, 32, 64)
    """
    return tuple(int(part) for part in str(text).split("-"))


def factorised_depths(parameters: Mapping[str, Any]) -> int:
    """How many blocks a `factorised3d` core has: one per number, and with two streams those after the sixth twice.

    Raises ValueError for two streams with six blocks or fewer, where nothing is left to fork.

    >>> factorised_depths({"channels": "4-4-4-4-4-4-8-8", "two_streams": True})
    10
    """
    blocks = len(parse_channels(parameters["channels"]))
    if not parameters["two_streams"]:
        return blocks
    if blocks <= SHARED:
        raise ValueError(
            f"two_streams forks after block {SHARED}: channels must name more than {SHARED} blocks, "
            f"not {blocks} ({parameters['channels']})"
        )
    return 2 * blocks - SHARED


def frames_back(parameters: Mapping[str, Any]) -> int:
    """Over how many frames, its own among them, the deepest block of a `factorised3d` core looks back.

    >>> frames_back({"channels": "4-4-4", "temporal_first": 11, "temporal_then": 5})
    19
    """
    later = len(parse_channels(parameters["channels"])) - 1
    return int(parameters["temporal_first"]) + later * (int(parameters["temporal_then"]) - 1)
