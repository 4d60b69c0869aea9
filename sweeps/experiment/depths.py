"""Which blocks every area is read from: lists per area, one depth for all areas, or named maps of whole twins."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.experiment.domains import Draws

Depth = int | tuple[int, ...]
"""One block, or several that are read together (in rising order)."""

ALL, LAST, EVERY, ANATOMICAL, RANDOM = "all", "last", "every", "anatomical", "random"
WORDS = (ALL, LAST, EVERY)
"""Stand in a list for each block alone, for the last one, and for all read together, of whatever backbone it is."""

MAP_WORDS = (LAST, EVERY, ANATOMICAL, RANDOM)
"""Whole maps by one word: every area at the last block; every area from all blocks together; the map of Luconi et
al. 2025; and a map drawn by the trial's seed, every area by itself: the null of all maps."""

ANATOMY: dict[int, dict[str, int]] = {
    8: {"V1": 5, "LM": 6, "RL": 6, "AL": 7},
    9: {"V1": 5, "LM": 6, "RL": 7, "AL": 8},
    10: {"V1": 5, "LM": 6, "RL": 8, "AL": 9},
}
"""Blocks (from 0) of mouse visual areas in cores of eight and of nine blocks, and in those of eight with two streams,
whose second stream is blocks 8 and 9 (Luconi et al. 2025)."""

Entry = int | tuple[int, ...] | str
"""A depth as it is listed: a block, several together, or one of WORDS."""


def plain(depth: Depth) -> int | list[int]:
    """Return a depth as JSON has it."""
    return depth if isinstance(depth, int) else list(depth)


def blocks_of(depth: Any) -> tuple[int, ...]:
    """Return the blocks of a depth, or of its JSON form, in rising order."""
    return (depth,) if isinstance(depth, int) else tuple(depth)


def depth_text(depth: Any) -> str:
    """Write a depth as text: `5`, or `3+5+7` for blocks read together."""
    return "+".join(map(str, blocks_of(depth)))


def resolve(entry: Entry, blocks: int) -> Depth:
    """Resolve a listed depth for a backbone of that many blocks; several blocks that are one become that one."""
    if entry == LAST:
        return blocks - 1
    if entry == EVERY:
        entry = tuple(range(blocks))
    assert not isinstance(entry, str)
    return entry[0] if isinstance(entry, tuple) and len(entry) == 1 else entry


class _DepthParameters(ABC):
    """Depth maps as a search sees them: named parameters, of which every choice of values stands for one map."""

    @abstractmethod
    def parameters(self, blocks: int) -> dict[str, tuple[Any, ...]]:
        """Name the parameters for a backbone of that many blocks, with their values."""

    @abstractmethod
    def at(self, chosen: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """Return the depth map that chosen values of the parameters stand for, in a trial of that seed."""

    @abstractmethod
    def draw(self, blocks: int, random: Draws) -> dict[str, Any]:
        """Draw a value of every parameter at random."""

    @abstractmethod
    def values(self, area: str, blocks: int) -> tuple[Depth, ...]:
        """Return the depths that may be read for an area from a backbone of that many blocks."""

    @abstractmethod
    def encode(self, depth: Mapping[str, Any], blocks: int, seed: int) -> Mapping[str, Any]:
        """Return the values that stand for a depth map; KeyError where there are none."""

    def holds(self, depth: Mapping[str, Any], blocks: int, seed: int, part: bool = False) -> bool:
        """Tell whether a depth map is among these; of a `part` of one, whether every area may be read there."""
        try:
            if not part:
                return bool(self.encode(depth, blocks, seed))
            return all(resolve(blocks_of(read), blocks) in self.values(area, blocks) for area, read in depth.items())
        except KeyError:
            return False

    def count(self, blocks: int) -> int:
        """Count the depth maps of a grid."""
        return math.prod(len(values) for values in self.parameters(blocks).values())

    def grid(self, blocks: int, seed: int) -> Iterator[dict[str, Depth]]:
        """Yield every depth map once, in order."""
        parameters = self.parameters(blocks)
        for row in itertools.product(*parameters.values()):
            yield self.at(dict(zip(parameters, row, strict=True)), blocks, seed)


@dataclass(frozen=True)
class AreaDepths(_DepthParameters):
    """Listed depths of every area, tied to one depth for all where `shared`."""

    listed: Mapping[str, tuple[Entry, ...]]
    shared: bool = False

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that are read."""
        return tuple(self.listed)

    def values(self, area: str, blocks: int) -> tuple[Depth, ...]:
        """Return the depths that may be read for an area from a backbone of that many blocks."""
        return _resolved(self.listed[area], blocks)

    def parameters(self, blocks: int) -> dict[str, tuple[Depth, ...]]:
        """Name one parameter for all areas, or one for each."""
        if self.shared:
            return {f"depth@{blocks}": self.values(self.areas[0], blocks)}
        return {f"depth.{area}@{blocks}": self.values(area, blocks) for area in self.listed}

    def at(self, chosen: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """Return the depth map that the chosen depths stand for."""
        if self.shared:
            return dict.fromkeys(self.listed, chosen[f"depth@{blocks}"])
        return {area: chosen[f"depth.{area}@{blocks}"] for area in self.listed}

    def draw(self, blocks: int, random: Draws) -> dict[str, Depth]:
        """Draw every parameter uniformly; the first number drawn is used where areas are tied, else passed over."""
        first, parameters = random.random(), self.parameters(blocks)
        shares = [first] if self.shared else [random.random() for _ in parameters]
        return {
            name: values[min(int(share * len(values)), len(values) - 1)]
            for share, (name, values) in zip(shares, parameters.items(), strict=True)
        }

    def encode(self, depth: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """Return the values that stand for a depth map; KeyError where there are none."""
        depths = {area: resolve(blocks_of(read), blocks) for area, read in depth.items()}
        tied = not self.shared or len(set(depths.values())) == 1
        if set(depths) != set(self.listed) or not tied:
            raise KeyError("the space does not hold this configuration")
        if any(read not in self.values(area, blocks) for area, read in depths.items()):
            raise KeyError("the space does not hold this configuration")
        if self.shared:
            return {f"depth@{blocks}": depths[self.areas[0]]}
        return {f"depth.{area}@{blocks}": depths[area] for area in self.listed}


@dataclass(frozen=True)
class DepthMaps(_DepthParameters):
    """Named maps, each a depth for every area, or one of MAP_WORDS: readout modes set against each other."""

    areas: tuple[str, ...]
    maps: Mapping[str, Mapping[str, Entry] | str]

    def values(self, area: str, blocks: int) -> tuple[Depth, ...]:
        """Return the depths that any map may read for an area."""
        singles: set[Depth] = set(range(blocks)) if RANDOM in self.maps.values() else set()
        fixed = {_of_map(entries, area, blocks) for entries in self.maps.values() if entries != RANDOM}
        return tuple(sorted(singles | fixed, key=blocks_of))

    def resolved(self, name: str, blocks: int, seed: int) -> dict[str, Depth]:
        """Resolve a named map for a backbone of that many blocks and a trial's seed."""
        entries = self.maps[name]
        if entries == RANDOM:
            drawn = np.random.default_rng([seed, 31, *name.encode()]).integers(blocks, size=len(self.areas))
            return {area: int(block) for area, block in zip(self.areas, drawn, strict=True)}
        return {area: _of_map(entries, area, blocks) for area in self.areas}

    def parameters(self, blocks: int) -> dict[str, tuple[str, ...]]:
        """Name one parameter: which map."""
        return {"depth.map": tuple(self.maps)}

    def at(self, chosen: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """Return the chosen map."""
        return self.resolved(chosen["depth.map"], blocks, seed)

    def draw(self, blocks: int, random: Draws) -> dict[str, str]:
        """Draw the name of a map."""
        return {"depth.map": list(self.maps)[int(random.integers(len(self.maps)))]}

    def encode(self, depth: Mapping[str, Any], blocks: int, seed: int) -> dict[str, str]:
        """Return the name of a map; KeyError where none is like it."""
        name = self.name_of(depth, blocks, seed)
        if name is None or set(depth) != set(self.areas):
            raise KeyError("the space does not hold this configuration")
        return {"depth.map": name}

    def name_of(self, depth: Mapping[str, Any], blocks: int, seed: int) -> str | None:
        """Name the first map that has these depths (of all areas, or of some), or None."""
        wanted = {area: blocks_of(read) for area, read in depth.items()}
        for name in self.maps:
            depths = self.resolved(name, blocks, seed)
            if all(area in depths and blocks_of(depths[area]) == read for area, read in wanted.items()):
                return name
        return None


Depths = AreaDepths | DepthMaps


def listed_blocks(entries: Sequence[Entry]) -> int:
    """Return the deepest block that is listed by number, -1 where there is none."""
    return max((max(blocks_of(entry)) for entry in entries if not isinstance(entry, str)), default=-1)


def _of_map(entries: Mapping[str, Entry] | str, area: str, blocks: int) -> Depth:
    """The depth of an area in a map that is not drawn."""
    if entries == ANATOMICAL:
        entries = ANATOMY[blocks]
    return resolve(entries if isinstance(entries, str) else entries[area], blocks)


def _resolved(listed: Sequence[Entry], blocks: int) -> tuple[Depth, ...]:
    depths: list[Depth] = []
    for entry in listed:
        depths += range(blocks) if entry == ALL else [resolve(entry, blocks)]
    return tuple(dict.fromkeys(depths))
