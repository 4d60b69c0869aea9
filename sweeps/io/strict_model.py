"""Sections of the experiment file: strict models, and pydantic's complaints in our words."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeps.errors import InputError
from sweeps.io.key_names import unknown_key

WORDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
BOUNDS = {
    "gt": "above {:g}",
    "ge": "from {:g}",
    "lt": "below {:g}",
    "le": "up to {:g}",
    "min_length": "with at least {} entry",
    "pattern": "of letters, digits, dots, dashes and underscores that begins with a letter or digit",
}

UNKNOWN = ("extra_forbidden", "invalid_key")


class Strict(BaseModel):
    """A section in which unknown keys, wrong types (also `"3"` or `true` for 3) and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def from_validation(error: ValidationError, model: type[BaseModel], file: str | None, prefix: str = "") -> InputError:
    """Describe the first problem of a pydantic error as an InputError: unknown keys before missing ones, and what is
    wrong in a mapping before that it is none of the other things that could stand there."""
    first = min(error.errors(), key=lambda detail: (detail["type"] not in UNKNOWN, _is_other_member(detail)))
    if first["type"] in UNKNOWN:
        keys, owner, _ = _descend(model, first["loc"][:-1])
        fields = next(member.model_fields for member in _members(owner) if _is_model(member))
        return unknown_key(prefix + ".".join([*keys, str(first["loc"][-1])]), fields, file)
    path, kind, bounds = _descend(model, first["loc"])
    key = (prefix + ".".join(path)).rstrip(".") or None
    if first["type"] == "missing":
        return InputError(f"is missing; it must be {allowed(kind, bounds)}", file=file, key=key)
    value = first.get("input", ...)
    if get_origin(kind) is Literal:
        return InputError(f"unknown {path[-1]}", file=file, key=key, value=value, allowed=get_args(kind))
    message = first["msg"].removeprefix("Value error, ")
    problem = message if first["type"] == "value_error" else f"must be {allowed(kind, bounds)}"
    return InputError(problem, file=file, key=key, value=value)


def _is_other_member(detail: Mapping[str, Any]) -> bool:
    """Whether pydantic complains that a mapping is no number or word, as the other members of a union would be."""
    return isinstance(detail.get("input"), dict) and detail["type"] in ("float_type", "literal_error", "string_type")


def allowed(kind: Any, bounds: Sequence[Any] = ()) -> str:
    """Give a phrase that says which values a type with its pydantic bounds allows.

    >>> allowed(float | Literal["auto"])
    'a number or auto'
    >>> from annotated_types import Ge
    >>> allowed(Annotated[int, Ge(1)] | None)
    'an integer from 1'
    """
    members = [member for member in _members(kind) if member is not types.NoneType]
    phrases = [_phrase(member, bounds if index == 0 else ()) for index, member in enumerate(members)]
    return " or ".join(phrases)


def _phrase(kind: Any, bounds: Sequence[Any]) -> str:
    if get_origin(kind) is Annotated:
        kind, *bounds = get_args(kind)
    return _name(kind) + "".join(
        f" {word.format(getattr(bound, name))}"
        for bound in bounds
        for name, word in BOUNDS.items()
        if getattr(bound, name, None) is not None
    )


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(str(word) for word in get_args(kind))
    if get_origin(kind) in (list, tuple):
        return "a list"
    return WORDS.get(kind, "a mapping")


def _descend(model: Any, path: Sequence[int | str]) -> tuple[list[str], Any, Sequence[Any]]:
    """The path without pydantic's names for the members of a union, and the type and bounds found there."""
    kind, bounds = model, cast("Sequence[Any]", ())
    keys: list[str] = []
    for part in path:
        inner = _inside(kind, part)
        if inner is not None:
            kind, bounds = inner
            keys.append(str(part))
    return keys, kind, bounds


def _inside(kind: Any, part: int | str) -> tuple[Any, Sequence[Any]] | None:
    for member in _members(kind):
        if _is_model(member) and part in member.model_fields:
            field = member.model_fields[part]
            return field.annotation, field.metadata
        if get_origin(member) in (list, tuple) and isinstance(part, int):
            return get_args(member)[0], ()
        if get_origin(member) is dict and isinstance(part, str):
            return get_args(member)[1], ()
    return None


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
