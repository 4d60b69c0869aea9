"""What a setting may be: listed values, a range, or a choice with parameters of its own."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from models.component import Component


@dataclass(frozen=True)
class Values:
    """A finite list of values, in order."""

    values: tuple[Any, ...]

    @cached_property
    def as_set(self) -> frozenset[Any]:
        """The values without their order, to count with."""
        return frozenset(self.values)


@dataclass(frozen=True)
class Range:
    """A continuous (or integer) range, uniform in the value or in its logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def at(self, share: float) -> float | int:
        """Return the value at `share` (0 to 1) of the way from low to high."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(float(f"{value:.12g}"), self.low), self.high)  # 0.01 is 0.01, listed or stepped to
        return round(value) if self.integer else float(value)

    def draw(self, share: float) -> float | int:
        """Return the value for a uniform `share`; every integer of a linear range is as likely as the others."""
        if not self.integer:
            return self.at(share)
        wide = Range(self.low - 0.5, self.high + 0.5, self.log)
        return round(min(max(wide.at(share), self.low), self.high))


Domain = Values | Range

Box = Mapping[str, frozenset[Any]]
"""Resolved components whose parameters have any of these values each: a product of sets. A range is one value."""

MOST_SPLITS = 10_000
"""Pieces into which overlapping boxes are cut to be counted."""


def contains(domain: Domain, value: Any) -> bool:
    """Tell whether a domain holds a value."""
    if isinstance(domain, Values):
        return value in domain.values
    return isinstance(value, (int, float)) and domain.low <= value <= domain.high


@dataclass(frozen=True)
class Choice:
    """One named component and the domains of its parameters (defaults filled in)."""

    name: str
    component: Component
    domains: dict[str, Domain]

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the component with these values of its parameters, as configurations have it."""
        return {"name": self.name, **self.component.settled(values)}

    def values_of(self, resolved: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return values of the parameters' domains that give this resolved component; None where none do."""
        if self.name != resolved["name"]:
            return None
        values = {}
        for key, domain in self.domains.items():
            if contains(domain, resolved.get(key)):
                values[key] = resolved.get(key)
            elif self.component.parameters[key].is_idle(resolved):
                values[key] = domain.values[0] if isinstance(domain, Values) else domain.at(0.0)
            else:
                return None
        return values

    def boxes(self) -> list[Box]:
        """Return boxes that hold every resolved component of this choice, and no others.

        There is one box where no parameter is idle: each set of values that makes others idle has a box of its own.
        """
        parameters = self.component.parameters
        deciding: dict[str, set[Any]] = defaultdict(set)
        for key in self.domains:
            for other, values in parameters[key].idle.items():
                deciding[other].update(values)
        parts = {key: _parted(domain, deciding[key]) for key, domain in self.domains.items()}
        boxes: list[Box] = []
        for row in itertools.product(*parts.values()):
            box = dict(zip(parts, row, strict=True))
            one = {key: next(iter(values)) for key, values in box.items()}
            idle = {key for key in box if parameters[key].is_idle(one)}
            boxes.append({key: frozenset([parameters[key].default]) if key in idle else box[key] for key in box})
        return boxes


def _parted(domain: Domain, deciding: set[Any]) -> list[frozenset[Any]]:
    """Part the values of a domain into each of those that decide something, and all the others."""
    values = domain.as_set if isinstance(domain, Values) else frozenset([domain])
    alone = values & deciding
    others = values - alone if alone else values
    return [*(frozenset([value]) for value in alone), *([others] if others else [])]


def count_points(boxes: Sequence[Box]) -> int:
    """Count the distinct points in boxes of the same parameters, without walking through them.

    Exact, unless boxes overlap in so many ways that they would have to be cut into more than MOST_SPLITS pieces: then
    the points of all boxes are added up, which counts some of them more than once.
    """
    sets = list(dict.fromkeys(tuple(box.values()) for box in boxes))
    try:
        return _count_union(sets, itertools.count())
    except OverflowError:
        return sum(math.prod(map(len, row)) for row in sets)


def _count_union(boxes: list[tuple[frozenset[Any], ...]], pieces: Iterator[int]) -> int:
    """Count the points of a union of distinct boxes: the values of a parameter fall into groups by who has them."""
    if next(pieces) > MOST_SPLITS:
        raise OverflowError
    if len(boxes) == 1:
        return math.prod(map(len, boxes[0]))
    columns = list(zip(*boxes, strict=True))
    shared = [column[0] for column in columns if len(set(column)) == 1]
    unlike = [column for column in columns if len(set(column)) > 1]
    first, *others = sorted(unlike, key=lambda column: sum(map(len, column)))
    owners: dict[Any, list[int]] = defaultdict(list)
    for number, values in enumerate(first):
        for value in values:
            owners[value].append(number)
    groups = Counter(map(tuple, owners.values()))
    parts = {numbers: [tuple(column[number] for column in others) for number in numbers] for numbers in groups}
    counts = (count * _count_union(list(dict.fromkeys(parts[numbers])), pieces) for numbers, count in groups.items())
    return math.prod(map(len, shared)) * sum(counts)


def by_blocks(choice: Choice, boxes: Sequence[Box]) -> dict[int, list[list[Box]]]:
    """Part the boxes of a backbone by its number of blocks: a list for every combination of what decides on it.

    What decides is what the declaration's function reads. Of a continuous range the lowest value counts. Raises
    ValueError where parameters contradict each other.
    """
    keys: list[str] = []
    while True:
        parts: dict[int, list[list[Box]]] = defaultdict(list)
        read = set(keys)
        for row in itertools.product(*(_values_of(boxes, key) for key in keys)):
            there = _having(boxes, dict(zip(keys, row, strict=True)))
            if there:
                parameters = _NotedMapping({"name": choice.name, **{key: _lowest(there[0][key]) for key in there[0]}})
                try:
                    parts[choice.component.block_count(parameters)].append(there)
                except ValueError:
                    if parameters.read <= {"name", *keys}:
                        raise
                read |= parameters.read - {"name"}
        if read == set(keys):
            return dict(parts)
        keys = [key for key in choice.domains if key in read]


class _NotedMapping(Mapping[str, Any]):
    """A mapping that notes what is read of it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.entries = values
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self.entries[key]
        self.read.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _values_of(boxes: Sequence[Box], key: str) -> list[Any]:
    return sorted(frozenset().union(*(box[key] for box in boxes)), key=repr)


def _having(boxes: Sequence[Box], chosen: Mapping[str, Any]) -> list[Box]:
    """The parts of boxes in which these parameters have these values."""
    fixed = {key: frozenset([value]) for key, value in chosen.items()}
    return [{**box, **fixed} for box in boxes if all(value in box[key] for key, value in chosen.items())]


def _lowest(values: frozenset[Any]) -> Any:
    value = next(iter(values))
    return value.low if isinstance(value, Range) else value


class Draws(Protocol):
    """A NumPy generator, or whatever draws like one."""

    def random(self) -> float:
        """Draw a number from 0 to 1, 1 excluded."""

    def integers(self, count: int, /) -> Any:
        """Draw a whole number below `count`."""
