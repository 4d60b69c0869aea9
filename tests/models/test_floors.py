"""The floors of `models/`: every import, late ones too, goes to a lower floor or stays in its room."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import models

FLOORS = (
    {"registry", "noise", "inputs"},
    {"component", "modulators"},
    {"objectives", "linear", "spiking_sheet"},
    {"backbones", "readouts"},
    {"twin"},
    {"training"},
    {"latents"},
)
APART = {"guidance", "visual_search", "sentences"}
HOME = Path(models.__path__[0])


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports() -> Iterator[tuple[str, str]]:
    """(room, imported room) of every import of `models` in `models`, wherever in a file it stands."""
    for path in sorted(HOME.rglob("*.py")):
        room = path.relative_to(HOME).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((room, room_of(name)) for name in names if name == "models" or name.startswith("models."))


def test_every_room_has_its_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in HOME.iterdir() if path.name[0] not in "_."}
    assert rooms == set().union(*FLOORS) | APART


def test_no_import_goes_up_or_aside() -> None:
    pairs = {(room, other) for room, other in imports() if room != other}
    assert ("training", "twin") in pairs
    wrong = [
        (room, other) for room, other in sorted(pairs) if room in APART or other in APART or floor(room) <= floor(other)
    ]
    assert not wrong


def test_folders_stay_small() -> None:
    """At most 12 files in a folder, registries of declarations apart, and none above 350 lines."""
    for folder in {path.parent for path in HOME.rglob("*.py")}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 12 or folder.name == "declarations", folder
    assert [path for path in HOME.rglob("*.py") if len(path.read_text().splitlines()) > 350] == []
