"""Reading the `space` section of an experiment file; every problem names key, value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from models.backbones import BACKBONES
from models.component import Component, Parameter
from models.readouts import READOUTS
from models.registry import Registry, UndeclaredName, UnknownName
from sweeps.errors import InputError
from sweeps.experiment.domains import Choice, Domain, Range, Values
from sweeps.experiment.parse_depths import check_depths, read_depths
from sweeps.experiment.space import Space
from sweeps.io.key_names import unknown_key
from sweeps.io.pointers import refuse_pointers_at

FAMILIES: dict[str, Registry[Component]] = {"backbone": BACKBONES, "readout": READOUTS}

MOST_STEPS = 100_000
"""Values that a range may be cut into."""

MODEL_FILES = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of the files of a network in a folder."""


def read_space(raw: Mapping[str, Any], areas: Sequence[str]) -> Space:
    """Read the `space` section, checked against the recorded `areas`.

    Raises InputError naming the key, the value and what is allowed.
    """
    unknown = set(raw) - {"backbone", "depth", "readout", "seed"}
    if unknown:
        key = next(name for name in raw if name in unknown)
        raise unknown_key(f"space.{key}", ("backbone", "depth", "readout", "seed"))
    backbones = _read_choices("backbone", raw.get("backbone"))
    readouts = _read_choices("readout", raw.get("readout"))
    depths = read_depths(raw.get("depth", {"shared": "all"}), areas)
    space = Space(backbones, readouts, depths, _read_seeds(raw.get("seed", 0)))
    check_depths(space)
    _check_ignored(space)
    _check_contents(space)
    for choice in backbones:
        if not space.readouts_for({"name": choice.name}):
            raise InputError(
                f"none of these fits the backbone {choice.name}",
                key="space.readout",
                value=[readout.name for readout in readouts],
                allowed=choice.component.readouts,
            )
    return space


def read_stored_space(raw: Mapping[str, Any], areas: Sequence[str]) -> tuple[Space, set[str]]:
    """Read the `space` of an experiment that has run, beside the names of components that are not installed here.

    Nothing is asked of recordings, networks or files, which need not be here.
    """
    choices: dict[str, tuple[Choice, ...]] = {}
    missing: set[str] = set()
    for family, registry in FAMILIES.items():
        entries = _entries(raw.get(family))
        installed = [entry for entry in entries if registry.installed(_name(entry)) is not None]
        missing |= {_name(entry) for entry in entries if entry not in installed}
        choices[family] = tuple(_read_choice(family, entry) for entry in installed)
    depths = read_depths(raw.get("depth", {"shared": "all"}), areas)
    return Space(choices["backbone"], choices["readout"], depths, _read_seeds(raw.get("seed", 0))), missing


def _entries(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else [raw]


def _name(entry: Any) -> str:
    """The name of a choice as it is listed."""
    return str(next(iter(entry))) if isinstance(entry, dict) else str(entry)


def _check_contents(space: Space) -> None:
    """Refuse places where no network or no weights lie."""
    for choice in space.backbones:
        key = choice.component.content[0] if choice.component.content else ""
        first = {name: getattr(domain, "values", (None,))[0] for name, domain in choice.domains.items()}
        for value in getattr(choice.domains.get(key), "values", ()):
            if isinstance(value, str) and value not in choice.component.parameters[key].words:
                refuse_pointers_at(value, MODEL_FILES)
            try:
                choice.component.identity({**first, key: value})
            except ValueError as error:
                raise InputError(str(error), key=f"space.backbone.{choice.name}.{key}") from None


def _check_ignored(space: Space) -> None:
    """Refuse settings of a backbone of which one of its readouts takes no account: they would be tried in vain."""
    for backbone in space.backbones:
        for readout in space.readouts_for({"name": backbone.name}):
            for key in readout.component.ignores:
                domain, default = backbone.domains.get(key), backbone.component.parameters.get(key)
                if isinstance(domain, Values) and default and domain.values != (default.default,):
                    raise InputError(
                        f"the readout {readout.name} takes no account of it",
                        key=f"space.backbone.{backbone.name}.{key}",
                        value=list(domain.values),
                        allowed=[default.default],
                    )


def _read_choices(family: str, raw: Any) -> tuple[Choice, ...]:
    entries = _entries(raw)
    if raw is None or not entries:
        raise InputError("at least one is needed", key=f"space.{family}", allowed=FAMILIES[family])
    return tuple(_read_choice(family, entry) for entry in entries)


def _read_choice(family: str, entry: Any) -> Choice:
    if isinstance(entry, str):
        name, settings = entry, cast("dict[str, Any]", {})
    elif isinstance(entry, dict) and len(entry) == 1:
        name, settings = next(iter(entry.items()))
    else:
        raise InputError("must be a name or {name: {parameter: ...}}", key=f"space.{family}", value=entry)
    component = _component(family, name)
    if not isinstance(settings, dict):
        raise InputError("must be {parameter: value}", key=f"space.{family}.{name}", value=settings)
    for key in settings:
        if key not in component.parameters:
            raise unknown_key(f"space.{family}.{name}.{key}", component.parameters)
    domains = {
        key: _read_domain(f"space.{family}.{name}.{key}", settings.get(key, parameter.default), parameter)
        for key, parameter in component.parameters.items()
    }
    return Choice(str(name), component, domains)


def _component(family: str, name: Any) -> Component:
    """Look up a component; InputError lists what there is, or says what is wrong with a plug-in."""
    problem = f"unknown {family}"
    try:
        if isinstance(name, str):
            return FAMILIES[family][name]
    except UnknownName as error:
        problem = problem if isinstance(error, UndeclaredName) else error.problem
    raise InputError(problem, key=f"space.{family}", value=name, allowed=FAMILIES[family])


def _read_domain(key: str, raw: Any, parameter: Parameter) -> Domain:
    if isinstance(raw, dict):
        return _read_range(key, raw, parameter)
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        raise InputError("at least one value is needed", key=key, value=raw)
    return Values(tuple(dict.fromkeys(_read_value(key, value, parameter) for value in values)))


def _read_value(key: str, value: Any, parameter: Parameter) -> Any:
    if isinstance(parameter.words, Registry) and isinstance(value, str):
        _check_plugin(key, value, parameter.words)
    if not parameter.accepts(value):
        raise InputError(f"must be {parameter.allowed()}", key=key, value=value)
    return float(value) if parameter.kind == "float" and not isinstance(value, str) else value


def _check_plugin(key: str, name: str, registry: Registry[Any]) -> None:
    """Load what a setting names, such as a loss; InputError says what is wrong with a plug-in."""
    try:
        registry[name]
    except UnknownName as error:
        if not isinstance(error, UndeclaredName):  # which is answered with what is allowed
            raise InputError(error.problem, key=key, value=name) from None


def _read_range(key: str, raw: Mapping[str, Any], parameter: Parameter) -> Domain:
    for name in raw:
        if name not in ("low", "high", "log", "steps"):
            raise unknown_key(f"{key}.{name}", ("low", "high", "log", "steps"))
    if parameter.kind not in ("float", "int") or parameter.odd:
        raise InputError(f"takes no range, only {parameter.allowed()} or a list", key=key, value=dict(raw))
    for name in ("low", "high"):
        if isinstance(raw.get(name), str) or not parameter.accepts(raw.get(name)):
            raise InputError(f"must be {parameter.allowed()}", key=f"{key}.{name}", value=raw.get(name))
    low, high, log, steps = raw["low"], raw["high"], raw.get("log", False), raw.get("steps")
    if not low < high:
        raise InputError(f"low must be below high ({high})", key=f"{key}.low", value=low)
    if not isinstance(log, bool):
        raise InputError("must be true or false", key=f"{key}.log", value=log)
    if log and low <= 0:
        raise InputError("a logarithmic range needs low above 0", key=f"{key}.low", value=low)
    count = Parameter(2, "int", low=2, high=MOST_STEPS)
    if steps is not None and not count.accepts(steps):
        raise InputError(f"must be {count.allowed()}", key=f"{key}.steps", value=steps)
    span = Range(low, high, log, parameter.kind == "int")
    if steps is None:
        return span
    return Values(tuple(dict.fromkeys(span.at(step / (steps - 1)) for step in range(steps))))


def _read_seeds(raw: Any) -> tuple[int, ...]:
    seeds = raw if isinstance(raw, list) else [raw]
    parameter = Parameter(0, "int", low=0)
    if not seeds:
        raise InputError("at least one seed is needed", key="space.seed", value=raw)
    return tuple(dict.fromkeys(_read_value("space.seed", seed, parameter) for seed in seeds))
