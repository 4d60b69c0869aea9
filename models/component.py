"""What a backbone, a readout, a loss or a regularizer declares about itself, without importing torch."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.registry import Registry, UnknownName

KINDS = ("float", "int", "bool", "str")
"""Kinds of parameters."""

SEES = ("images", "clips", "texts", "features")
"""What a backbone may be shown."""

FITTED_BY = ("", "ridge", "pls", "banded", "gradient", "latent")
"""How a readout may be fitted; empty for backbones."""

STILL_FRAMES = 24
"""Frames for which a core of clips is shown a still picture at least."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component: its default and what is allowed.

    `kind` is one of `float`, `int`, `bool`, `str`. `words` are literal values that are allowed besides
    numbers ("auto"), or, for `str`, the only values allowed (empty: any text); a registry allows its names, those of
    plug-ins among them. `low` and `high` are inclusive bounds; `positive` asks for a value above zero, `odd` for an odd
    one; `pattern` is a regular expression that a text must match, described by `form`. `later` marks a parameter that
    was added after its component was first released: its default does not enter identities, so finished work keeps its
    ids. `idle` names other parameters of the component and their values with which this one means nothing; it then has
    its default, so that configurations which mean the same are the same. `joint` marks one that means nothing to a
    readout fitted alone.
    """

    default: Any
    kind: str = "float"
    words: Collection[str] = ()
    low: float | None = None
    high: float | None = None
    positive: bool = False
    odd: bool = False
    pattern: str = ""
    form: str = ""
    later: bool = False
    idle: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    joint: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")

    def is_idle(self, parameters: Mapping[str, Any]) -> bool:
        """Tell whether it means nothing beside these values of the others."""
        return any(parameters.get(other) in values for other, values in self.idle.items())

    def allowed(self) -> str:
        """Describe in a phrase which values are allowed."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "str":
            return " | ".join([*self.words, *([self.form] if self.form else [])]) or "a text"
        text = "an odd integer" if self.odd else "an integer" if self.kind == "int" else "a number"
        text += " above 0" if self.positive else ""
        text += f" from {self.low:g}" if self.low is not None else ""
        text += f" up to {self.high:g}" if self.high is not None else ""
        return f"{text}, or {' | '.join(self.words)}" if self.words else text

    def accepts(self, value: Any) -> bool:
        """Tell whether `value` is one of the allowed values."""
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "str":
            return isinstance(value, str) and self._reads(value)
        if isinstance(value, str):
            return value in self.words
        kinds = (int,) if self.kind == "int" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self._within(value)

    def _reads(self, value: str) -> bool:
        if isinstance(self.words, Registry):
            return self._is_declared(value)
        if value in self.words or not (self.words or self.pattern):
            return True
        return bool(self.pattern and re.fullmatch(self.pattern, value))

    def _is_declared(self, name: str) -> bool:
        """Tell whether somebody declares a name; a dotted path is imported for it."""
        assert isinstance(self.words, Registry)
        try:
            self.words[name]
        except UnknownName:
            return False
        return True

    def _within(self, value: float) -> bool:
        largest = sys.float_info.max if self.kind == "float" else 2**53  # also refuses NaN and infinity
        if not abs(value) <= largest or (self.positive and value <= 0) or (self.odd and value % 2 == 0):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def column(self) -> str:
        """Type of its column in the tables: numbers that may also be a word are stored as text."""
        return "str" if self.kind != "str" and self.words else self.kind


@dataclass(frozen=True)
class Component:
    """A named building block: where its code is (`module:attribute`), its VERSION and its parameters.

    Raise `version` when, and only when, the numbers that it produces change: finished work that used
    the component is then done again. `blocks` is the number of depths of a backbone, or the name of
    the parameter that holds it, or `module:function` that tells it from the parameters without importing torch.
    `sees` is what it is shown: images, clips, texts, or the features that a recording brings.
    `trained` backbones (cores) are fitted together with their readouts.
    `seeded` says for which parameter values the seed changes what a frozen backbone computes.
    `readouts` names the readouts that a backbone works with (empty: any), `idle` those readout parameters that mean
    nothing with it: they are left out of a configuration. `fitted_by` says how a readout is fitted: "ridge" in closed
    form from kernels, "gradient" by descent, or another closed form by its own function. `learns` marks a frozen
    backbone that adapts to pictures of its own before it is used: what it learned is kept in the node's cache.
    `content` names a parameter that is a place, and the function (`module:function` of the parameters) that tells
    what lies there: identities hold that instead of the place. `frames_back` is the function that tells over how many
    frames a core of clips looks back. `differentiable`: gradients reach the pictures that a backbone is shown.
    `together`: a readout can read several blocks. `ignores` names parameters of a backbone of which a readout takes
    no account: with them it is refused.
    """

    target: str
    version: int
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    blocks: int | str = 0
    sees: str = "images"
    trained: bool = False
    learns: bool = False
    fitted_by: str = ""
    seeded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readouts: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    content: tuple[str, str] | None = None
    frames_back: str = ""
    differentiable: bool = True
    together: bool = True
    ignores: tuple[str, ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        if self.sees not in SEES or self.fitted_by not in FITTED_BY:
            raise ValueError(
                f"sees must be one of {', '.join(SEES)} and fitted_by one of {', '.join(FITTED_BY[1:])}, or left out; "
                f"got {self.sees!r} and {self.fitted_by!r}"
            )

    def load(self) -> Any:
        """Import and return what `target` names."""
        return _named(self.target)

    def block_count(self, parameters: Mapping[str, Any]) -> int:
        """Count the depths that this backbone has with these parameters."""
        if isinstance(self.blocks, int):
            return self.blocks
        return int(_named(self.blocks)(parameters) if ":" in self.blocks else parameters[self.blocks])

    def still_frames(self, parameters: Mapping[str, Any]) -> int:
        """Count the frames for which a core of clips is shown a still picture: until its response stays the same."""
        return max(STILL_FRAMES, int(_named(self.frames_back)(parameters)) if self.frames_back else 0)

    def settled(self, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Give every parameter that means nothing beside the others its default."""
        known = self.parameters
        idle = {key for key in resolved if key in known and known[key].is_idle(resolved)}
        return {key: known[key].default if key in idle else value for key, value in resolved.items()}

    def completed(self, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Add the defaults of later parameters to a resolved component of an earlier version."""
        late = self._late_defaults()
        return {**resolved, **{key: value for key, value in late.items() if key not in resolved}}

    def identity(self, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Give what of a resolved component enters identities: its name, parameters and VERSION.

        A parameter that names a plug-in adds the version that the plug-in states, as `<parameter>@`.
        """
        late = self._late_defaults()
        stated = {key: value for key, value in resolved.items() if key not in late or value != late[key]}
        place = (
            {self.content[0]: _named(self.content[1])(resolved)}
            if self.content and self.names_a_place(resolved)
            else {}
        )
        return {**stated, **place, **self._plugin_versions(stated), "version": self.version}

    def _late_defaults(self) -> dict[str, Any]:
        return {key: parameter.default for key, parameter in self.parameters.items() if parameter.later}

    def _plugin_versions(self, resolved: Mapping[str, Any]) -> dict[str, int]:
        versions = {}
        for key, parameter in self.parameters.items():
            registry = parameter.words
            if isinstance(registry, Registry) and key in resolved and resolved[key] not in registry.builtin:
                versions[f"{key}@"] = int(registry[resolved[key]].version)
        return versions

    def is_usable(self, resolved: Mapping[str, Any]) -> bool:
        """Tell whether every plug-in that a resolved component names, such as a loss, is known here."""
        registries = {key: each.words for key, each in self.parameters.items() if isinstance(each.words, Registry)}
        return all(resolved[key] in words for key, words in registries.items() if key in resolved)

    def names_a_place(self, resolved: Mapping[str, Any]) -> bool:
        """Tell whether the parameter that `content` names is a place, not one of its words."""
        key = self.content[0] if self.content else ""
        return key in resolved and resolved[key] not in self.parameters[key].words

    def depends_on_seed(self, parameters: Mapping[str, Any]) -> bool:
        """Tell whether its numbers change with the seed, given its parameters."""
        return self.trained or any(parameters.get(key) in values for key, values in self.seeded.items())

    def seed_in_use(self, parameters: Mapping[str, Any], seed: int) -> int:
        """Return the seed where the numbers change with it, else -1: equal for what may be shared between seeds."""
        return seed if self.depends_on_seed(parameters) else -1


def _named(target: str) -> Any:
    """Import the attribute of a module that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
