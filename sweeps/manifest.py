"""YAML that others wrote: read as plain values, refused where it is none or stands for more than anyone writes."""

from __future__ import annotations

from typing import Any

import yaml

from sweeps.errors import InputError

MOST_VALUES = 10**6
"""Values that a file may stand for."""


def read_yaml(content: str | bytes, file: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What a YAML text holds; InputError says why it is none."""
    try:
        held = yaml.load(content, loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"is not YAML: {_problem(error)}", file=file) from None
    except RecursionError:
        raise InputError("is nested too deep", file=file) from None
    except Exception as error:  # PyYAML lets through what numbers, dates and tags raise that are none
        raise InputError(f"is not YAML: {type(error).__name__}: {error}", file=file) from None
    refuse_endless(held, file)
    return held


def refuse_endless(held: Any, file: str) -> None:
    """Refuse values that hold themselves, or of which aliases make more than any file needs."""
    stack, count = [held], 0
    while stack and count <= MOST_VALUES:
        value, count = stack.pop(), count + 1
        stack.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ())
    if stack:
        raise InputError(f"holds itself, or more than {MOST_VALUES} values", file=file)


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"
