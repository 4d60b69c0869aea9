"""Draw docs/architecture.svg: the rooms of the three packages and what imports what, read from the code.

    python docs/draw_architecture.py           # writes the picture
    python docs/draw_architecture.py --check   # exit code 1 where the picture is not that of the code

A room is a folder, or a file beside folders, of `sweeps`, `models` or `metrics`. An arrow is an import, wherever it
stands in a file, or a text "module:attribute" in a registry. A room stands on the lowest floor that is above all rooms
that it imports; arrows that follow from others are left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("metrics", "models", "sweeps")
PICTURE = ROOT / "docs" / "architecture.svg"
TARGET = re.compile(r"(sweeps|models|metrics)(\.\w+)+:\w+")

Rooms = Mapping[str, set[str]]
"""Rooms that each room imports."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the packages by dotted name; a package is its `__init__.py`."""
    paths = (path for name in PACKAGES for path in sorted((root / name).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, texts: bool = True) -> set[str]:
    """Dotted names that a file imports, functions and classes among them, wherever it does; `texts` as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif texts and isinstance(node, ast.Constant) and TARGET.fullmatch(str(node.value)):
            names.add(str(node.value).replace(":", "."))
    return names


def module_imports(root: Path = ROOT, texts: bool = True) -> dict[str, set[str]]:
    """By module, the modules of the packages that it imports."""
    known = modules(root)
    return {name: {_module(each, known) for each in imported(path, texts)} & set(known) for name, path in known.items()}


def _module(name: str, known: Mapping[str, Path]) -> str:
    """The module that a dotted name is, or lies in."""
    return name if name in known else name.rpartition(".")[0]


def room_of(module: str) -> str:
    """The room of a module: `sweeps.io.files` lies in `sweeps.io`, `models` itself in `models.__init__`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else f"{module}.__init__"


def room_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """By room, the other rooms that it imports."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, targets in module_imports(root).items():
        rooms[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return dict(rooms)


def floors(rooms: Rooms) -> dict[str, int]:
    """The floor of every room: one above the highest that it imports. Raises ValueError for a circle."""
    found: dict[str, int] = {}
    while len(found) < len(rooms):
        ready = [room for room in rooms if room not in found and rooms[room] <= set(found)]
        if not ready:
            raise ValueError(f"rooms that import each other: {sorted(set(rooms) - set(found))}")
        found |= {room: 1 + max((found[target] for target in rooms[room]), default=0) for room in ready}
    return found


def direct(rooms: Rooms) -> list[tuple[str, str]]:
    """Imports that do not follow from others: (room, imported room), sorted."""
    reach: dict[str, set[str]] = {}
    for room in sorted(rooms, key=floors(rooms).__getitem__):
        reach[room] = rooms[room] | {far for target in rooms[room] for far in reach[target]}
    return sorted(
        (room, target)
        for room, targets in rooms.items()
        for target in targets
        if not any(target in reach[other] for other in targets - {target})
    )


COLUMN, ROW, WIDTH, HEIGHT = 132, 74, 120, 34
COLOURS = {"metrics": "#2a7f62", "models": "#3b5ba5", "sweeps": "#a8552b"}


def picture(rooms: Rooms) -> str:
    """The rooms and their direct imports as SVG, the ground floor below."""
    level = floors(rooms)
    places = _places(level)
    columns = 1 + max(x for x, _ in places.values())
    top = max(level.values())
    width, height = columns * COLUMN + 20, top * ROW + 60
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>',
        f'<text x="10" y="20" font-size="13" fill="#333">{_legend()}</text>',
    ]
    lines += [_arrow(places[room], places[target], top) for room, target in direct(rooms)]
    lines += [_box(room, places[room], top) for room in sorted(rooms)]
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> str:
    packages = " ".join(f'<tspan fill="{COLOURS[name]}" font-weight="bold">{name}</tspan>' for name in PACKAGES)
    return f"What imports what: {packages}. Arrows point down, to what a room needs; what follows is left out."


def _places(level: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Column and floor of every room: packages side by side, rooms of a floor beside each other."""
    places: dict[str, tuple[int, int]] = {}
    start = 0
    for package in PACKAGES:
        own = [room for room in sorted(level) if room.split(".")[0] == package]
        taken: dict[int, int] = defaultdict(int)
        for room in own:
            places[room] = (start + taken[level[room]], level[room])
            taken[level[room]] += 1
        start += max(taken.values())
    return places


def _corner(place: tuple[int, int], top: int) -> tuple[int, int]:
    return 10 + place[0] * COLUMN, 40 + (top - place[1]) * ROW


def _arrow(start: tuple[int, int], end: tuple[int, int], top: int) -> str:
    (x1, y1), (x2, y2) = _corner(start, top), _corner(end, top)
    return (
        f'<line x1="{x1 + WIDTH // 2}" y1="{y1 + HEIGHT}" x2="{x2 + WIDTH // 2}" y2="{y2 - 1}" stroke="#999" '
        'stroke-width="1" marker-end="url(#end)"/>'
    )


def _box(room: str, place: tuple[int, int], top: int) -> str:
    x, y = _corner(place, top)
    package, _, name = room.partition(".")
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="white" stroke="{COLOURS[package]}" '
        f'stroke-width="2"/><text x="{x + WIDTH // 2}" y="{y + 22}" font-size="13" text-anchor="middle" '
        f'fill="{COLOURS[package]}">{escape(name)}</text>'
    )


def main(arguments: Iterable[str]) -> int:
    """Write the picture, or check it."""
    text = picture(room_imports())
    if "--check" in arguments:
        return int(not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != text)
    PICTURE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
