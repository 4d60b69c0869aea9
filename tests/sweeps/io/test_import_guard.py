"""A lab's own `models/` and `metrics/` beside its notebook: ours are used, or one error names both."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, command, environment

import sweeps
from sweeps.errors import InputError
from sweeps.io.import_guard import check_names, claim_names

CONSOLE = "from sweeps.cli import main; main()"
SCRIPT = "import sys; sys.path[0] = '/usr/bin'; " + CONSOLE
"""What the installed command `sweeps` does: the first place on the import path is its own, not the folder."""


@pytest.fixture
def lab(experiment: dict[str, Any], tmp_path: Path) -> Path:
    """A folder that holds packages called models and metrics, and an experiment."""
    folder = tmp_path / "lab"
    for name in ("models", "metrics"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('this is the lab, not cortex-sweeps')\n")
    space = {**experiment["space"], "depth": {"shared": [0]}, "seed": 0}
    (folder / "small.yaml").write_text(yaml.safe_dump({**experiment, "space": space}))
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(lab: Path) -> Run:
    """Runs a command in the lab's folder."""

    def held(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=lab, env=environment(), capture_output=True, text=True, check=False, timeout=200
        )

    return held


def test_the_command_works_beside_a_labs_own_models(lab: Path, run: Run) -> None:
    places = ["--storage", str(lab / "results"), "--cache", str(lab / "cache"), "--cpus", "1"]
    found = run(command("run", "small.yaml", *places, code=SCRIPT))
    assert found.returncode == 0, found.stdout + found.stderr
    trials = sweeps.load(str(lab / "results"))
    assert trials["status"].tolist() == ["done"], trials["error"].tolist()


@pytest.mark.parametrize(("code", "arguments"), [(CONSOLE, ["check", "small.yaml"]), (None, ["show", "results"])])
def test_the_command_puts_its_own_home_first(arguments: list[str], code: str | None, lab: Path, run: Run) -> None:
    found = run(command(*arguments, code=code))
    assert "this is the lab" not in found.stderr
    if arguments[0] == "check":
        assert found.returncode == 0, found.stderr
        assert "cells" in found.stdout
    else:
        assert (found.returncode, found.stderr) == (2, "error: storage = 'results': no sweep has written here\n")


@pytest.mark.parametrize("call", ["check('small.yaml')", "run('small.yaml')", "score('results', ['rsa'])"])
def test_python_callers_that_fit_or_plan_get_an_error_that_names_both(call: str, lab: Path, run: Run) -> None:
    found = run([sys.executable, "-c", f"import sweeps; sweeps.{call}"])
    last = found.stderr.splitlines()[-1]
    assert last.startswith("sweeps.errors.InputError: import path: the package 'models' would be imported from ")
    assert str(lab) in last
    assert str(ROOT) in last
    assert not (lab / "results").exists()


READING = """
import sys
sys.path.insert(0, "")
import models_of_the_lab
import sweeps
assert len(sweeps.load("results")) == 1
sweeps.show("results", best=1)
assert sys.modules["models"].__file__ == "the lab's"
"""


def test_reading_works_beside_a_labs_own_models(lab: Path, run: Run) -> None:
    """Even where the lab's packages of our names are imported already, and where `metrics` is a file."""
    places = ["--storage", str(lab / "results"), "--cache", str(lab / "cache"), "--cpus", "1"]
    assert run(command("run", "small.yaml", *places)).returncode == 0
    (lab / "models_of_the_lab.py").write_text(
        "import sys, types\nsys.modules['models'] = types.ModuleType('models')\n"
        "sys.modules['models'].__file__ = \"the lab's\"\n"
    )
    (lab / "metrics" / "__init__.py").unlink()
    (lab / "metrics.py").write_text("raise RuntimeError('this is the lab, not cortex-sweeps')\n")
    found = run([sys.executable, "-c", READING])
    assert found.returncode == 0, found.stderr
    assert "select.prediction" in found.stdout


def test_loading_imports_neither_models_nor_metrics(lab: Path, run: Run) -> None:
    code = "import sweeps, sweeps.storage.load, sys; print(sorted({'models', 'metrics', 'torch'} & {*sys.modules}))"
    assert run([sys.executable, "-c", code]).stdout == "[]\n"


def test_a_file_or_a_module_made_by_hand_is_a_stranger_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "metrics.py").write_text("")
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "metrics", raising=False)
        patch.syspath_prepend(tmp_path)
        with pytest.raises(InputError, match=f"'metrics' would be imported from {tmp_path}/metrics.py"):
            check_names()
    monkeypatch.setitem(sys.modules, "metrics", types.ModuleType("metrics"))
    with pytest.raises(InputError, match="'metrics' would be imported from"):
        check_names()


def test_a_folder_without_code_is_no_stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    check_names()


def test_a_worker_claims_the_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digest = check_names()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    strangers = {"models": types.ModuleType("models"), "models.backbones": types.ModuleType("models.backbones")}
    strangers["models"].__path__ = [str(tmp_path / "models")]
    for name in [each for each in sys.modules if each.split(".")[0] == "models"]:
        monkeypatch.delitem(sys.modules, name)
    for name, module in strangers.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(tmp_path)
    claim_names(digest)
    assert sys.path[0] == str(ROOT)
    assert not set(strangers) & set(sys.modules)
    with pytest.raises(InputError, match="this worker runs other code"):
        claim_names("0" * 20)
