"""YAML that others wrote: read as plain values, refused where it is none or stands for more than anyone writes."""

from __future__ import annotations

from typing import Any

import yaml

from sweeps.errors import InputError, shortened

MOST_VALUES = 10**6
"""Values that a file may stand for."""


def read_yaml(content: str | bytes, file: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What a YAML text holds; InputError says why it is none."""
    try:
        reader = loader(content)
        node = reader.get_single_node()
        if node is None:
            return None
        if _stands_for(node, {}) > MOST_VALUES:
            raise InputError(f"holds itself, or more than {MOST_VALUES} values", file=file)
        return reader.construct_document(node)
    except InputError:
        raise
    except yaml.YAMLError as error:
        raise InputError(f"is not YAML: {_problem(error)}", file=file) from None
    except RecursionError:
        raise InputError("is nested too deep", file=file) from None
    except Exception as error:  # PyYAML lets through what numbers, dates and tags raise that are none
        raise InputError(f"is not YAML: {type(error).__name__}: {shortened(str(error))}", file=file) from None


def _stands_for(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Values that a node stands for, aliases and merged keys counted wherever they stand; too many if it holds itself.

    Counted before anything is made of them, since a merged key is copied into its mapping while that is made.
    """
    if node not in known:
        known[node] = MOST_VALUES + 1  # while it is being counted
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        flat = [each for pair in parts for each in pair] if isinstance(node, yaml.MappingNode) else parts
        known[node] = 1 + sum(_stands_for(each, known) for each in flat)
    return known[node]


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"
