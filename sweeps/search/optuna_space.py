"""The search space in Optuna's words: parameters suggested by a trial, and those that stand for a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.experiment.depths import depth_text
from sweeps.experiment.domains import Choice, Domain, Range, Values
from sweeps.experiment.space import Configuration, Space, make_configuration

MISSING = "the space does not hold this configuration"


def suggest(space: Space, trial: Any) -> Configuration:
    """Take one configuration from an Optuna trial (define by run)."""
    backbone = _suggest_choice(trial, "backbone", space.backbones)
    blocks = space.blocks(backbone)
    chosen = {name: _suggest(trial, name, Values(values)) for name, values in space.depths.parameters(blocks).items()}
    readout = _suggest_choice(trial, f"readout@{backbone['name']}", space.readouts_for(backbone))
    seed = _suggest(trial, "seed", Values(space.seeds))
    return make_configuration(backbone, space.depths.at(chosen, blocks, seed), readout, seed)


def encode(space: Space, configuration: Configuration) -> dict[str, Any]:
    """Return the Optuna parameters under which `suggest` would give this configuration.

    Raises KeyError when the space does not hold it (an experiment whose space was edited).
    """
    backbone, readout, seed = (configuration[key] for key in ("backbone", "readout", "seed"))
    if seed not in space.seeds:
        raise KeyError(MISSING)
    params = _encode_choice("backbone", space.backbones, backbone)
    params |= _encode_choice(f"readout@{backbone['name']}", space.readouts_for(backbone), readout)
    blocks = space.blocks(backbone)
    depths = space.depths.encode(configuration["depth"], blocks, seed)
    params |= {name: _label(depths[name], values) for name, values in space.depths.parameters(blocks).items()}
    return params | {"seed": seed}


def _suggest(trial: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Range):
        if domain.integer:
            return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.log)
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    values = domain.values
    if len(values) == 1:
        return values[0]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values) and _contiguous(values):
        return trial.suggest_int(name, values[0], values[-1])
    labels = [_label(value, values) for value in values]
    return values[labels.index(trial.suggest_categorical(name, labels))]


def _label(value: Any, values: Sequence[Any]) -> Any:
    """Return a value as Optuna takes it, which knows no tuples: depths as text where one is of several blocks."""
    return depth_text(value) if any(isinstance(other, tuple) for other in values) else value


def _contiguous(values: Sequence[int]) -> bool:
    return list(values) == list(range(values[0], values[0] + len(values)))


def _suggest_choice(trial: Any, family: str, choices: Sequence[Choice]) -> dict[str, Any]:
    labels = tuple(f"{index}:{choice.name}" for index, choice in enumerate(choices))
    label = labels[0] if len(labels) == 1 else trial.suggest_categorical(family, labels)
    choice = choices[labels.index(label)]
    values = {key: _suggest(trial, f"{family}.{label}.{key}", domain) for key, domain in choice.domains.items()}
    return choice.resolved(values)


def _encode_choice(family: str, choices: Sequence[Choice], resolved: Mapping[str, Any]) -> dict[str, Any]:
    for index, choice in enumerate(choices):
        values = choice.values_of(resolved)
        if values is not None:
            label = f"{index}:{choice.name}"
            return {family: label} | {f"{family}.{label}.{key}": value for key, value in values.items()}
    raise KeyError(MISSING)
