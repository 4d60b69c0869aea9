"""The search space: choices, ranges and fixed values, with parameters under the choice that owns them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.backbones import BACKBONES
from models.component import Component
from sweeps.experiment.depths import Depth, Depths, plain
from sweeps.experiment.domains import Box, Choice, Domain, Draws, Range, Values, by_blocks, count_points

Configuration = dict[str, Any]
"""A resolved, active configuration: backbone {name, ...}, depth {area: block or list}, readout {name, ...}, seed."""


@dataclass(frozen=True)
class Space:
    """Every configuration that an experiment may try."""

    backbones: tuple[Choice, ...]
    readouts: tuple[Choice, ...]
    depths: Depths
    seeds: tuple[int, ...]

    def blocks(self, backbone: Mapping[str, Any]) -> int:
        """Count the blocks of a resolved backbone."""
        return BACKBONES[backbone["name"]].block_count(backbone)

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that are read."""
        return self.depths.areas

    def depth_values(self, area: str, backbone: Mapping[str, Any]) -> tuple[Depth, ...]:
        """Return the depths that may be read for `area` from a resolved backbone."""
        return self.depths.values(area, self.blocks(backbone))

    def size(self) -> int | None:
        """Count the grid points, by products; None when some range is continuous."""
        if self.continuous():
            return None
        return len(self.seeds) * sum(
            backbones * self.depths.count(blocks) * self.readout_count(name)
            for (name, blocks), backbones in self.backbone_counts().items()
        )

    def backbone_counts(self) -> dict[tuple[str, int], int]:
        """Count the resolved backbones by name and number of blocks; a continuous range counts as one value."""
        counts: dict[tuple[str, int], int] = {}
        for name in dict.fromkeys(choice.name for choice in self.backbones):
            choices = [choice for choice in self.backbones if choice.name == name]
            boxes = [box for choice in choices for box in choice.boxes()]
            for blocks, parts in by_blocks(choices[0], boxes).items():
                counts[name, blocks] = sum(map(count_points, parts))
        return counts

    def readout_count(self, backbone: str) -> int:
        """Count the resolved readouts that fit a backbone."""
        by_name: dict[str, list[Box]] = {}
        for choice in self.readouts_for({"name": backbone}):
            by_name.setdefault(choice.name, []).extend(choice.boxes())
        return sum(map(count_points, by_name.values()))

    def readouts_for(self, backbone: Mapping[str, Any]) -> tuple[Choice, ...]:
        """Return the readouts that fit a backbone, without the parameters that mean nothing with it.

        A core that is trained end to end cannot be read in closed form, and brings its own training settings; latent
        factors are for the cores that name them.
        """
        component = BACKBONES[backbone["name"]]
        return tuple(
            replace(choice, domains=_domains_with(choice, component))
            for choice in self.readouts
            if (choice.name in component.readouts if component.readouts else choice.component.fitted_by != "latent")
        )

    def continuous(self) -> str | None:
        """Return the key of the first continuous range, if there is one."""
        for family, choices in (("backbone", self.backbones), ("readout", self.readouts)):
            for choice in choices:
                for key, domain in choice.domains.items():
                    if isinstance(domain, Range):
                        return f"space.{family}.{choice.name}.{key}"
        return None

    def holds(self, configuration: Configuration, part: bool = False) -> bool:
        """Tell whether a configuration is one of this space's: listed, or within its ranges.

        A `part` of one, such as that of a cell, may have the depths of some areas alone.
        """
        backbone, readout = configuration["backbone"], configuration["readout"]
        if configuration["seed"] not in self.seeds or not _any_holds(self.backbones, backbone):
            return False
        blocks = self.blocks(backbone)
        return _any_holds(self.readouts_for(backbone), readout) and self.depths.holds(
            configuration["depth"], blocks, configuration["seed"], part
        )

    def grid(self) -> Iterator[Configuration]:
        """Yield every configuration once, backbones outermost, depths innermost."""
        for backbone in points(self.backbones):
            readouts = points(self.readouts_for(backbone))
            for readout, seed in ((readout, seed) for readout in readouts for seed in self.seeds):
                for depth in self.depths.grid(self.blocks(backbone), seed):
                    yield make_configuration(backbone, depth, readout, seed)

    def most_draws(self) -> int:
        """Count the numbers that `sample` draws at most."""
        parameters = [max(len(choice.domains) for choice in choices) for choices in (self.backbones, self.readouts)]
        return 4 + len(self.areas) + sum(parameters)

    def sample(self, random: Draws) -> Configuration:
        """Draw one configuration at random: choices uniformly, ranges as they say."""
        backbone = _draw_choice(self.backbones, random)
        blocks = self.blocks(backbone)
        chosen = self.depths.draw(blocks, random)
        readout = _draw_choice(self.readouts_for(backbone), random)
        seed = _draw(Values(self.seeds), random)
        return make_configuration(backbone, self.depths.at(chosen, blocks, seed), readout, seed)


def _any_holds(choices: Sequence[Choice], resolved: Mapping[str, Any]) -> bool:
    """Whether some choice may be this component; what a row does not state of it is taken as it comes."""
    for choice in choices:
        stated = replace(choice, domains={key: domain for key, domain in choice.domains.items() if key in resolved})
        if stated.values_of(_placed(choice, resolved)) is not None:
            return True
    return False


def _placed(choice: Choice, resolved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a network that has gone from its place since stand for the first one that is listed: it may have moved."""
    component = choice.component
    if component.content is None or choice.name != resolved["name"] or not component.names_a_place(resolved):
        return resolved
    key = component.content[0]
    listed = [value for value in getattr(choice.domains[key], "values", ()) if component.names_a_place({key: value})]
    return {**resolved, key: listed[0]} if listed and not Path(resolved[key]).exists() else resolved


def make_configuration(
    backbone: Mapping[str, Any], depth: Mapping[str, Depth], readout: Mapping[str, Any], seed: int
) -> Configuration:
    """Put the parts of a configuration together, depths as JSON has them."""
    depths = {area: plain(blocks) for area, blocks in depth.items()}
    return {"backbone": dict(backbone), "depth": depths, "readout": dict(readout), "seed": seed}


def _domains_with(choice: Choice, backbone: Component) -> dict[str, Domain]:
    """Return the domains of a readout's parameters with a backbone: one value of what is for twins trained jointly."""
    parameters = choice.component.parameters
    alone = {key for key, parameter in parameters.items() if parameter.joint and not backbone.trained}
    return {
        key: Values((parameters[key].default,)) if key in alone else domain
        for key, domain in choice.domains.items()
        if key not in backbone.idle
    }


def points(choices: Sequence[Choice]) -> Iterator[dict[str, Any]]:
    """Yield every resolved component of choices without continuous ranges, once even where choices overlap."""
    keys = set()
    for choice in choices:
        lists = [domain.values for domain in choice.domains.values() if isinstance(domain, Values)]
        for row in itertools.product(*lists):
            component = choice.resolved(dict(zip(choice.domains, row, strict=True)))
            key = tuple(component.values())
            if key not in keys:
                keys.add(key)
                yield component


def _draw(domain: Domain, random: Draws) -> Any:
    if isinstance(domain, Range):
        return domain.draw(random.random())
    return domain.values[int(random.integers(len(domain.values)))]


def _draw_choice(choices: Sequence[Choice], random: Draws) -> dict[str, Any]:
    choice = choices[int(random.integers(len(choices)))]
    return choice.resolved({key: _draw(domain, random) for key, domain in choice.domains.items()})
