"""Damages of JSON and YAML files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from damages.files import rewrite

OUTSIDE = ("../../outside.npy", "/etc/hostname", "..", "../secret")
"""Places that are not in the recording."""

LAUGHS = "\n".join(
    ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    + [f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]" for one, two in zip("abcdefghi", "bcdefghij", strict=True)]
)
"""YAML of a few lines that stands for 9 ** 10 values."""

MERGES = "\n".join(
    ["a: &a {key: ha}"]
    + [
        f"{two}: &{two} {{<<: [{', '.join([f'*{one}'] * 9)}]}}"
        for one, two in zip("abcdefghi", "bcdefghij", strict=True)
    ]
)
"""YAML whose merged keys are copied 9 ** 10 times while it is read; one value is left of them."""

ODD: list[Any] = [None, [], {}, -1, 0, 2**70, 1e308, 1e-308, float("nan"), float("inf"), "", "text", "0", True, [[1]]]
"""Values that stand where others should."""

YAML_ODD = [
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "!!python/name:os.system",
    "*missing",
    "&a [*a]",
    "0x" + "f" * 4000,
    "!!binary '%'",
    "!!float ''",
    "{[1]: 2}",
    "2001-99-99",
    "!!set {a}",
    "{<<: 1}",
]
"""YAML that its reader stumbles over, or reads as what nobody expects."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nested value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def manifest_odd(path: Path, random: Random) -> None:
    """Another value in some place of a JSON or YAML file, or one less."""
    held = yaml.safe_load(path.read_text())
    place = random.choice(list(places(held)) or [()])
    marker = "@place@"
    changed = replaced(held, place, marker, random.random() < 0.2)
    if path.suffix == ".json":
        odd = random.choice([*(json.dumps(value) for value in (*ODD, *OUTSIDE)), "9" * 5000, "[" * 20000, "1e999"])
        rewrite(path, json.dumps(changed).replace(json.dumps(marker), odd, 1).encode())
    else:
        odd = random.choice([*(json.dumps(value) for value in (*ODD, *OUTSIDE)), *YAML_ODD, "*j"])
        content = yaml.safe_dump(changed, sort_keys=False).replace(f"'{marker}'", odd, 1)
        rewrite(path, (f"{LAUGHS}\n{content}" if odd == "*j" else content).encode())


def replaced(held: Any, place: tuple[Any, ...], value: Any, drop: bool) -> Any:
    """The value with another in a place, or without what is there."""
    if not place:
        return value
    first, *rest = place
    if drop and not rest and isinstance(held, dict):
        return {key: each for key, each in held.items() if key != first}
    if isinstance(held, dict):
        return {key: replaced(each, tuple(rest), value, drop) if key == first else each for key, each in held.items()}
    return [replaced(each, tuple(rest), value, drop) if key == first else each for key, each in enumerate(held)]


def manifest_whole(path: Path, random: Random) -> None:
    short = [b"[]", b"null", b"1", b"{", b"\xff\xfe{", b"[" * 50000, b"{a: ["]
    rewrite(path, random.choice([*short, LAUGHS.encode(), MERGES.encode()]))
