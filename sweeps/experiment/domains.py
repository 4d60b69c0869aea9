"""What a setting may be: listed values, a range, or a choice with parameters of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from models.component import Component


@dataclass(frozen=True)
class Values:
    """A finite list of values, in order."""

    values: tuple[Any, ...]


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


@dataclass(frozen=True)
class Choice:
    """One named component and the domains of its parameters (defaults filled in)."""

    name: str
    component: Component
    domains: dict[str, Domain]

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the component with these values of its parameters, as configurations have it."""
        return {"name": self.name, **self.component.settled(values)}


class Draws(Protocol):
    """A NumPy generator, or whatever draws like one."""

    def random(self) -> float:
        """Draw a number from 0 to 1, 1 excluded."""

    def integers(self, count: int, /) -> Any:
        """Draw a whole number below `count`."""
