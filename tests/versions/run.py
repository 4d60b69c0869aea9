"""Do the bounds of pyproject.toml hold? `make test-versions`: the lowest, the pinned and the newest set of packages.

For every set and every Python that is found, an environment is made in a temporary folder, the quickstart is run in it
and a slice of the suite. torch is the pinned one in all sets, since its floor is what was run (and its newest build for
Linux brings gigabytes of CUDA). Where there is no wheel of it for a Python, everything else is installed there and what
needs no torch is run: imports, `sweeps check`, `sweeps show`, and the tests of the driver's wing.

    python tests/versions/run.py [lowest|pinned|newest ...] [--pythons 3.11,3.12]

uv resolves and installs (`pip install uv`); it asks the package index, and looks into UV_FIND_LINKS or
PIP_FIND_LINKS first.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETS = {"lowest": ["--resolution", "lowest-direct"], "pinned": ["--constraint", "constraints.txt"], "newest": []}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SHOWN = ("ray", "numpy", "pandas", "pyarrow", "optuna", "transformers", "scikit-learn", "pydantic", "s3fs")
"""Packages whose versions stand in the table."""

SLICE = (
    "tests/metrics",
    "tests/models/linear",
    "tests/models/readouts",
    "tests/sweeps/commands",
    "tests/sweeps/execution",
    "tests/sweeps/experiment",
    "tests/sweeps/io",
    "tests/sweeps/planning",
    "tests/sweeps/search",
    "tests/sweeps/storage",
    "tests/sweeps/test_faces.py",
)
WITHOUT_TORCH = ("tests/sweeps/io", "tests/sweeps/search", "tests/sweeps/storage", "tests/sweeps/test_errors.py")
TORCH = re.compile(r"^(torch|triton|nvidia-|cuda-)")
ROWS = "tests/fixtures/rows-of-396caad/quickstart"
UV = (sys.executable, "-m", "uv")
LINKS = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
LONGEST = 1800.0
"""Seconds that a step may take."""


@dataclass
class Result:
    """What became of a set on a Python; `failed` is the first step that failed, and empty where none did."""

    name: str
    python: str
    torch: bool
    versions: dict[str, str]
    failed: str
    seconds: float

    def row(self) -> list[str]:
        """Its row of the table."""
        outcome = self.failed or ("passed" if self.torch else "passed, without torch")
        chosen = [self.versions.get(name, "") for name in SHOWN]
        return [self.python, self.name, outcome, *chosen, f"{self.seconds:.0f} s"]


class StepFailed(Exception):
    """A step of a set that did not succeed."""


class Environment:
    """A virtual environment of one set, in a folder of its own."""

    def __init__(self, folder: Path, name: str, python: str) -> None:
        self.folder, self.name, self.python = folder, name, python
        self.log = folder / "log"
        self.binaries = folder / "venv" / "bin"
        self.torch = False

    def install(self) -> dict[str, str]:
        """Resolve and install the set; the versions that were chosen."""
        pinned = next(line for line in _lines(ROOT / "constraints.txt") if line.startswith("torch=="))
        (self.folder / "torch").write_text(f"{pinned}\n")
        chosen = self.folder / "requirements.txt"
        wanted = ["pyproject.toml", "--extra", "test", *SETS[self.name], "--constraint", str(self.folder / "torch")]
        places = ["--find-links", LINKS] if LINKS else []
        shape = ["--no-header", "--no-annotate", "--python-version", self.python, "-o", str(chosen)]
        self.step("resolve", *UV, "pip", "compile", *wanted, *places, *shape)
        self.step("make the environment", *UV, "venv", "--python", self.python, str(self.folder / "venv"))
        local = ["--no-index", "--find-links", LINKS] if LINKS else ["--offline"]
        self.torch = any(self.succeeds(*self._pip(*way), pinned) for way in (local, ["--torch-backend", "cpu"]))
        lines = [line for line in _lines(chosen) if not TORCH.match(line)]
        chosen.write_text("\n".join([*lines, ""]))
        self.step("install", *self._pip(), "-r", str(chosen))
        return dict(line.partition(" ")[0].split("==") for line in lines if "==" in line)

    def check(self) -> None:
        """Run the quickstart and a slice of the suite; without torch, what needs none."""
        python = str(self.binaries / "python")
        places = ["--storage", str(self.folder / "rows"), "--cache", str(self.folder / "cache")]
        if self.torch:
            self.step("quickstart", python, "-m", "sweeps", "run", "quickstart", *places)
        else:
            self.step("check", python, "-m", "sweeps", "check", "quickstart", *places)
            self.step("show", python, "-m", "sweeps", "show", str(ROOT / ROWS))
        tests = SLICE if self.torch else WITHOUT_TORCH
        self.step("tests", python, "-m", "pytest", "-p", "no:cacheprovider", *tests)

    def _pip(self, *options: str) -> list[str]:
        return [*UV, "pip", "install", "--python", str(self.binaries / "python"), "--no-deps", *options]

    def succeeds(self, *line: str) -> bool:
        """Run a command in the repository, and tell whether it succeeded; what it prints goes to the log."""
        own = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(line)}\n".encode())
            log.flush()
            return subprocess.run(line, cwd=ROOT, env=own, stdout=log, stderr=log, timeout=LONGEST).returncode == 0

    def step(self, name: str, *line: str) -> None:
        """Run a command that must succeed."""
        if not self.succeeds(*line):
            raise StepFailed(name)


def tried(place: Path, name: str, python: str) -> Result:
    """Try one set on one Python; of one that fails the end of its log is printed."""
    folder = place / f"{name}-{python}"
    folder.mkdir()
    environment, began, failed = Environment(folder, name, python), time.monotonic(), ""
    versions: dict[str, str] = {}
    try:
        versions = environment.install()
        environment.check()
    except (StepFailed, subprocess.TimeoutExpired) as error:
        failed = f"FAILED: {error}"
        print("\n".join(_lines(environment.log)[-40:]), flush=True)
    shutil.rmtree(folder / "venv", ignore_errors=True)
    return Result(name, python, environment.torch, versions, failed, time.monotonic() - began)


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


def interpreters(wanted: Sequence[str]) -> list[str]:
    """The Pythons among those that uv finds here; none is downloaded."""
    line = [*UV, "python", "find", "--no-python-downloads", "--no-project"]
    return [python for python in wanted if subprocess.run([*line, python], capture_output=True).returncode == 0]


def main(arguments: list[str]) -> int:
    """Try the sets, print a table, and give the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"of {', '.join(SETS)} (default: all)")
    parser.add_argument("--pythons", default=",".join(PYTHONS), help="versions of Python, with commas between")
    options = parser.parse_args(arguments)
    if unknown := set(options.sets) - SETS.keys():
        parser.error(f"no such set: {', '.join(sorted(unknown))}")
    results = []
    with tempfile.TemporaryDirectory(prefix="cortex-sweeps-versions-") as place:
        for python in interpreters(options.pythons.split(",")):
            for name in options.sets:
                results.append(tried(Path(place), name, python))
                print(" | ".join(results[-1].row()), flush=True)
    print("", " | ".join(["Python", "set", "outcome", *SHOWN, "time"]), sep="\n")
    for result in results:
        print(" | ".join(result.row()))
    return int(not results or any(result.failed for result in results))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
