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


class Draws(Protocol):
    """A NumPy generator, or whatever draws like one."""

    def random(self) -> float:
        """Draw a number from 0 to 1, 1 excluded."""

    def integers(self, count: int, /) -> Any:
        """Draw a whole number below `count`."""
