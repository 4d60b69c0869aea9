"""Which blocks every area is read from: lists per area, one depth for all areas, or named maps of whole twins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    """A depth as JSON has it."""
    return depth if isinstance(depth, int) else list(depth)


def blocks_of(depth: Any) -> tuple[int, ...]:
    """The blocks of a depth, or of its JSON form, in rising order."""
    return (depth,) if isinstance(depth, int) else tuple(depth)


def depth_text(depth: Any) -> str:
    """`5`, or `3+5+7` for blocks read together."""
    return "+".join(map(str, blocks_of(depth)))


def resolve(entry: Entry, blocks: int) -> Depth:
    """A listed depth for a backbone of that many blocks; several blocks that are one become that one."""
    if entry == LAST:
        return blocks - 1
    if entry == EVERY:
        entry = tuple(range(blocks))
    assert not isinstance(entry, str)
    return entry[0] if isinstance(entry, tuple) and len(entry) == 1 else entry


@dataclass(frozen=True)
class AreaDepths:
    """Listed depths of every area, tied to one depth for all where `shared`."""

    listed: Mapping[str, tuple[Entry, ...]]
    shared: bool = False

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that are read."""
        return tuple(self.listed)

    def values(self, area: str, blocks: int) -> tuple[Depth, ...]:
        """Depths that may be read for an area from a backbone of that many blocks."""
        return _resolved(self.listed[area], blocks)

    def count(self, blocks: int) -> int:
        """Number of depth maps of a grid."""
        counts = [len(self.values(area, blocks)) for area in self.listed]
        return counts[0] if self.shared else math.prod(counts)

    def grid(self, blocks: int, seed: int) -> Iterator[dict[str, Depth]]:
        """Every depth map once."""
        values = [self.values(area, blocks) for area in self.listed]
        rows = ((v,) * len(values) for v in values[0]) if self.shared else itertools.product(*values)
        for row in rows:
            yield dict(zip(self.listed, row, strict=True))

    def draw(self, blocks: int, random: Draws) -> Any:
        """One depth map drawn at random, to be given to `at`."""
        shared = random.random()
        depth = {}
        for area in self.listed:
            values = self.values(area, blocks)
            share = shared if self.shared else random.random()
            depth[area] = values[min(int(share * len(values)), len(values) - 1)]
        return depth

    def at(self, drawn: Any, blocks: int, seed: int) -> dict[str, Depth]:
        """The depth map that was drawn."""
        return dict(drawn)

    def questions(self, blocks: int) -> dict[str, tuple[Depth, ...]]:
        """What a search is asked, by name, with the possible answers."""
        if self.shared:
            return {f"depth@{blocks}": self.values(next(iter(self.listed)), blocks)}
        return {f"depth.{area}@{blocks}": self.values(area, blocks) for area in self.listed}

    def answered(self, answers: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """The depth map that a search's answers stand for."""
        if self.shared:
            return dict.fromkeys(self.listed, answers[f"depth@{blocks}"])
        return {area: answers[f"depth.{area}@{blocks}"] for area in self.listed}

    def encode(self, depth: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """The answers that stand for a depth map; KeyError where there are none."""
        found = {area: resolve(blocks_of(held), blocks) for area, held in depth.items()}
        tied = not self.shared or len(set(found.values())) == 1
        if set(found) != set(self.listed) or not tied:
            raise KeyError("the space does not hold this configuration")
        if any(held not in self.values(area, blocks) for area, held in found.items()):
            raise KeyError("the space does not hold this configuration")
        areas = {f"depth.{area}@{blocks}": held for area, held in found.items()}
        answers: dict[str, Depth] = {f"depth@{blocks}": next(iter(found.values())), **areas}
        return {name: answers[name] for name in self.questions(blocks)}


@dataclass(frozen=True)
class DepthMaps:
    """Named maps, each a depth for every area, or one of MAP_WORDS: readout modes set against each other."""

    areas: tuple[str, ...]
    maps: Mapping[str, Mapping[str, Entry] | str]
    shared: bool = field(default=False, init=False)

    def values(self, area: str, blocks: int) -> tuple[Depth, ...]:
        """Depths that any map may read for an area."""
        if RANDOM in self.maps.values():
            singles: set[Depth] = set(range(blocks))
        else:
            singles = set()
        fixed = {self.resolved(name, blocks, 0)[area] for name, held in self.maps.items() if held != RANDOM}
        return tuple(sorted(singles | fixed, key=blocks_of))

    def resolved(self, name: str, blocks: int, seed: int) -> dict[str, Depth]:
        """A named map for a backbone of that many blocks and a trial's seed."""
        held = self.maps[name]
        if held == RANDOM:
            drawn = np.random.default_rng([seed, 31, *name.encode()]).integers(blocks, size=len(self.areas))
            return {area: int(block) for area, block in zip(self.areas, drawn, strict=True)}
        if held == ANATOMICAL:
            held = ANATOMY[blocks]
        if isinstance(held, str):
            return {area: resolve(held, blocks) for area in self.areas}
        return {area: resolve(held[area], blocks) for area in self.areas}

    def count(self, blocks: int) -> int:
        """Number of maps."""
        return len(self.maps)

    def grid(self, blocks: int, seed: int) -> Iterator[dict[str, Depth]]:
        """Every map, in order."""
        for name in self.maps:
            yield self.resolved(name, blocks, seed)

    def draw(self, blocks: int, random: Draws) -> Any:
        """The name of a map drawn at random."""
        return list(self.maps)[int(random.integers(len(self.maps)))]

    def at(self, drawn: Any, blocks: int, seed: int) -> dict[str, Depth]:
        """The map of a name."""
        return self.resolved(drawn, blocks, seed)

    def questions(self, blocks: int) -> dict[str, tuple[Any, ...]]:
        """What a search is asked: which map."""
        return {"depth.map": tuple(self.maps)}

    def answered(self, answers: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Depth]:
        """The map that was chosen."""
        return self.resolved(answers["depth.map"], blocks, seed)

    def encode(self, depth: Mapping[str, Any], blocks: int, seed: int) -> dict[str, Any]:
        """The name of a map; KeyError where none is like it."""
        name = self.name_of(depth, blocks, seed)
        if name is None or set(depth) != set(self.areas):
            raise KeyError("the space does not hold this configuration")
        return {"depth.map": name}

    def name_of(self, depth: Mapping[str, Any], blocks: int, seed: int) -> str | None:
        """The first map that has these depths (of all areas, or of some), or None."""
        asked = {area: blocks_of(held) for area, held in depth.items()}
        for name in self.maps:
            held = self.resolved(name, blocks, seed)
            if all(area in held and blocks_of(held[area]) == read for area, read in asked.items()):
                return name
        return None


Depths = AreaDepths | DepthMaps


def listed_blocks(entries: Sequence[Entry]) -> int:
    """The deepest block that is listed by number, -1 where there is none."""
    return max((max(blocks_of(entry)) for entry in entries if not isinstance(entry, str)), default=-1)


def _resolved(listed: Sequence[Entry], blocks: int) -> tuple[Depth, ...]:
    found: list[Depth] = []
    for entry in listed:
        found += range(blocks) if entry == ALL else [resolve(entry, blocks)]
    return tuple(dict.fromkeys(found))
