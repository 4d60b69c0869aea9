"""YAML that others wrote: read as plain values, refused where it is no YAML, or expands to more than anyone writes."""

from __future__ import annotations

from typing import Any

import yaml

from sweeps.errors import InputError, shortened

MOST_VALUES = 10**6
"""Values that a file may expand to."""


def read_yaml(content: str | bytes, file: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Read what a YAML text holds; InputError says why it is none."""
    try:
        reader = loader(content)
        node = reader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
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


def _count(node: yaml.Node, counts: dict[yaml.Node, int]) -> int:
    """Count the values that a node stands for, with aliases and merged keys each time; too many if it holds itself.

    Counted before anything is made of them, since a merged key is copied into its mapping while that is made.
    """
    if node not in counts:
        counts[node] = MOST_VALUES + 1  # while it is being counted
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        flat = [inner for pair in parts for inner in pair] if isinstance(node, yaml.MappingNode) else parts
        counts[node] = 1 + sum(_count(inner, counts) for inner in flat)
    return counts[node]


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}"
