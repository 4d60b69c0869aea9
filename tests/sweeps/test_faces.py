"""What a user meets first: names, their documentation, and their types."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment

import sweeps

FUNCTIONS = ["check", "load", "run", "score", "show"]

SCRIPT = """
import metrics
import sweeps

trials = sweeps.load("results/mine", table="cells")
best = trials["select.prediction"].max()
result = sweeps.run("experiment.yaml", storage="results/mine", cpus=2)
reveal_type(metrics.two_nn)
reveal_type(trials)
reveal_type(result.finished)
"""

WRONG = {
    "sweeps.load(5)": 'Argument 1 to "load" has incompatible type "int"; expected "str"',
    "sweeps.run('a.yaml', cpus='two')": 'Argument "cpus" to "run" has incompatible type "str"; expected "int | None"',
    "sweeps.lead('results')": 'Module has no attribute "lead"',
    "metrics.two_nn([[1.0]], discard='half')": 'Argument "discard" to "two_nn" has incompatible type "str"',
}


def test_the_public_names_and_nothing_else_are_listed() -> None:
    assert dir(sweeps) == sorted(["__version__", *FUNCTIONS])
    text = pydoc.render_doc(sweeps, renderer=pydoc.plaintext)
    listed = text.partition("\nFUNCTIONS\n")[2].partition("\nDATA\n")[0]
    names = [line.split("(")[0].strip() for line in listed.splitlines() if line[:5].strip() and "(" in line]
    assert names == FUNCTIONS
    assert "annotations" not in text
    assert "TYPE_CHECKING" not in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented_and_there_is_an_example(name: str) -> None:
    function = getattr(sweeps, name)
    text = inspect.getdoc(function) or ""
    entries = [line.partition(":")[0] for line in text.splitlines() if ":" in line and not line.startswith(" ")]
    documented = {word.strip() for entry in entries for word in entry.split(",")}
    assert set(inspect.signature(function).parameters) <= documented
    assert f">>> {name}(" in text or f"= {name}(" in text


def mypy(script: Path) -> str:
    """What mypy says of a script of a user; with the settings and the cache of `make check`."""
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    line = [sys.executable, "-m", "mypy", *settings, str(script)]
    variables = environment() | {"MYPYPATH": str(ROOT)}
    return subprocess.run(line, env=variables, cwd=script.parent, capture_output=True, text=True, check=False).stdout


def test_a_type_checker_sees_real_types(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    wrong = "\n".join(WRONG)
    script.write_text(SCRIPT + wrong + "\n")
    notes = [line for line in mypy(script).splitlines() if line.startswith("script.py")]
    first = SCRIPT.count("\n") + 1
    by_line = {int(line.split(":")[1]): line for line in notes}
    for number, (call, problem) in enumerate(WRONG.items(), first):
        assert problem in by_line.get(number, ""), (call, notes)
    revealed = [by_line[number] for number in range(first - 3, first)]
    assert "def (" in revealed[0]
    assert revealed[0].endswith('-> float"')
    assert "DataFrame" in revealed[1]
    assert "bool" in revealed[2]
    assert len(by_line) == len(WRONG) + 3


def test_all_three_packages_say_that_they_are_typed() -> None:
    assert all((ROOT / name / "py.typed").is_file() for name in ("sweeps", "models", "metrics"))
