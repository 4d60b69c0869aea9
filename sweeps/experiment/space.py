"""The search space: choices, ranges and fixed values, with parameters under the choice that owns them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.backbones import BACKBONES
from models.component import Component
from sweeps.experiment.depths import Depth, Depths, depth_text, plain
from sweeps.experiment.domains import Choice, Domain, Draws, Range, Values

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
        """Number of blocks of a resolved backbone."""
        return BACKBONES[backbone["name"]].block_count(backbone)

    @property
    def areas(self) -> tuple[str, ...]:
        """Areas that are read."""
        return self.depths.areas

    def depth_values(self, area: str, backbone: Mapping[str, Any]) -> tuple[Depth, ...]:
        """Depths that may be read for `area` from a resolved backbone."""
        return self.depths.values(area, self.blocks(backbone))

    def size(self) -> int | None:
        """Number of grid points, or None when some range is continuous."""
        if self.continuous():
            return None
        return sum(
            self.depth_count(backbone) * len(self.seeds) * sum(1 for _ in points(self.readouts_for(backbone)))
            for backbone in points(self.backbones)
        )

    def readouts_for(self, backbone: Mapping[str, Any]) -> tuple[Choice, ...]:
        """The readouts that fit a backbone, without the parameters that mean nothing with it.

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
        """The key of the first continuous range, if there is one."""
        for family, choices in (("backbone", self.backbones), ("readout", self.readouts)):
            for choice in choices:
                for key, domain in choice.domains.items():
                    if isinstance(domain, Range):
                        return f"space.{family}.{choice.name}.{key}"
        return None

    def depth_count(self, backbone: Mapping[str, Any]) -> int:
        """Number of depth maps that a grid tries with a resolved backbone."""
        return self.depths.count(self.blocks(backbone))

    def grid(self) -> Iterator[Configuration]:
        """Every configuration once, backbones outermost, depths innermost."""
        for backbone in points(self.backbones):
            readouts = list(points(self.readouts_for(backbone)))
            for readout, seed in itertools.product(readouts, self.seeds):
                for depth in self.depths.grid(self.blocks(backbone), seed):
                    yield _configuration(backbone, depth, readout, seed)

    def most_draws(self) -> int:
        """How many numbers `sample` draws at most."""
        parameters = [max(len(choice.domains) for choice in held) for held in (self.backbones, self.readouts)]
        return 4 + len(self.areas) + sum(parameters)

    def sample(self, random: Draws) -> Configuration:
        """One configuration drawn at random: choices uniformly, ranges as they say."""
        backbone = _draw_choice(self.backbones, random)
        blocks = self.blocks(backbone)
        drawn = self.depths.draw(blocks, random)
        readout = _draw_choice(self.readouts_for(backbone), random)
        seed = _draw(Values(self.seeds), random)
        return _configuration(backbone, self.depths.at(drawn, blocks, seed), readout, seed)

    def suggest(self, trial: Any) -> Configuration:
        """One configuration asked from an Optuna trial (define by run)."""
        backbone = _suggest_choice(trial, "backbone", self.backbones)
        blocks = self.blocks(backbone)
        asked = self.depths.questions(blocks)
        answers = {name: _suggest(trial, name, Values(values)) for name, values in asked.items()}
        readout = _suggest_choice(trial, f"readout@{backbone['name']}", self.readouts_for(backbone))
        seed = _suggest(trial, "seed", Values(self.seeds))
        return _configuration(backbone, self.depths.answered(answers, blocks, seed), readout, seed)

    def encode(self, configuration: Configuration) -> dict[str, Any]:
        """The Optuna parameters under which `suggest` would give this configuration.

        Raises KeyError when the space does not hold it (an experiment whose space was edited).
        """
        backbone, readout, seed = (configuration[key] for key in ("backbone", "readout", "seed"))
        if seed not in self.seeds:
            raise KeyError("the space does not hold this configuration")
        params = _encode_choice("backbone", self.backbones, backbone)
        params |= _encode_choice(f"readout@{backbone['name']}", self.readouts_for(backbone), readout)
        blocks = self.blocks(backbone)
        answers, asked = self.depths.encode(configuration["depth"], blocks, seed), self.depths.questions(blocks)
        params |= {name: _label(answers[name], values) for name, values in asked.items()}
        return params | {"seed": seed}


def _configuration(
    backbone: Mapping[str, Any], depth: Mapping[str, Depth], readout: Mapping[str, Any], seed: int
) -> Configuration:
    held = {area: plain(each) for area, each in depth.items()}
    return {"backbone": dict(backbone), "depth": held, "readout": dict(readout), "seed": seed}


def _domains_with(choice: Choice, backbone: Component) -> dict[str, Domain]:
    """The domains of a readout's parameters with a backbone: one value of what is for readouts trained together."""
    held = choice.component.parameters
    alone = {key for key, parameter in held.items() if parameter.joint and not backbone.trained}
    return {
        key: Values((held[key].default,)) if key in alone else domain
        for key, domain in choice.domains.items()
        if key not in backbone.idle
    }


def points(choices: Sequence[Choice]) -> Iterator[dict[str, Any]]:
    """Every resolved component of some choices without continuous ranges, once even where choices overlap."""
    seen = set()
    for choice in choices:
        lists = [domain.values for domain in choice.domains.values() if isinstance(domain, Values)]
        for row in itertools.product(*lists):
            found = _resolved(choice, dict(zip(choice.domains, row, strict=True)))
            key = tuple(found.values())
            if key not in seen:
                seen.add(key)
                yield found


def _resolved(choice: Choice, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": choice.name, **choice.component.settled(values)}


def _draw(domain: Domain, random: Draws) -> Any:
    if isinstance(domain, Range):
        return domain.draw(random.random())
    return domain.values[int(random.integers(len(domain.values)))]


def _draw_choice(choices: Sequence[Choice], random: Draws) -> dict[str, Any]:
    choice = choices[int(random.integers(len(choices)))]
    return _resolved(choice, {key: _draw(domain, random) for key, domain in choice.domains.items()})


def _suggest(trial: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Range):
        if domain.integer:
            return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    values = domain.values
    if len(values) == 1:
        return values[0]
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values) and _contiguous(values):
        return trial.suggest_int(name, values[0], values[-1])
    labels = [_label(value, values) for value in values]
    return values[labels.index(trial.suggest_categorical(name, labels))]


def _label(value: Any, values: Sequence[Any]) -> Any:
    """How a value is told to Optuna, which knows no tuples: depths as text where one of them is of several blocks."""
    return depth_text(value) if any(isinstance(each, tuple) for each in values) else value


def _contiguous(values: Sequence[int]) -> bool:
    return list(values) == list(range(values[0], values[0] + len(values)))


def _suggest_choice(trial: Any, family: str, choices: Sequence[Choice]) -> dict[str, Any]:
    labels = tuple(f"{index}:{choice.name}" for index, choice in enumerate(choices))
    picked = labels[0] if len(labels) == 1 else trial.suggest_categorical(family, labels)
    choice = choices[labels.index(picked)]
    asked = {key: _suggest(trial, f"{family}.{picked}.{key}", domain) for key, domain in choice.domains.items()}
    return _resolved(choice, asked)


def _encode_choice(family: str, choices: Sequence[Choice], resolved: Mapping[str, Any]) -> dict[str, Any]:
    for index, choice in enumerate(choices):
        told = {key: _told(choice, key, resolved) for key in choice.domains} if choice.name == resolved["name"] else {}
        if choice.name == resolved["name"] and None not in told.values():
            label = f"{index}:{choice.name}"
            return {family: label} | {f"{family}.{label}.{key}": value for key, value in told.items()}
    raise KeyError("the space does not hold this configuration")


def _told(choice: Choice, key: str, resolved: Mapping[str, Any]) -> Any:
    """A value of a parameter's domain that gives this component; None where there is none."""
    domain, value = choice.domains[key], resolved.get(key)
    if _holds(domain, value):
        return value
    if not choice.component.parameters[key].is_idle(resolved):
        return None
    return domain.values[0] if isinstance(domain, Values) else domain.at(0.0)


def _holds(domain: Domain, value: Any) -> bool:
    if isinstance(domain, Values):
        return value in domain.values
    return isinstance(value, (int, float)) and domain.low <= value <= domain.high
