"""No arrow runs upward, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def imports(path: Path) -> set[str]:
    """Top-level names of every import of a file, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


def files(room: str) -> list[Path]:
    """Every Python file of a room."""
    found = sorted((ROOT / room).rglob("*.py"))
    assert found
    return found


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


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("metrics", {"models", "sweeps", "ray", "transformers", "optuna"}),
        ("models", {"metrics", "sweeps", "ray", "optuna"}),
    ],
)
def test_no_arrow_runs_upward(room: str, forbidden: set[str]) -> None:
    for path in files(room):
        assert not imports(path) & forbidden, path


def test_three_files_alone_know_ray() -> None:
    assert [path.name for path in files("sweeps") if "ray" in imports(path)] == ["cluster.py", "meters.py", "tune.py"]


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
