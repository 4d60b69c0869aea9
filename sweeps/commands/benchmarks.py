"""What `sweeps bench` does: list the scripts of the folder benchmarks/, and run one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeps.errors import InputError
from sweeps.io.import_guard import home


def list_benchmarks(root: Path | None = None) -> dict[str, tuple[Path, str]]:
    """Find script and purpose (the first line of its docstring) of every benchmark, by name.

    `root` is the checkout, by default that of this package. Raises InputError where there is none: benchmarks belong
    to the repository and are not installed.
    """
    root = root or home()
    place = root / "benchmarks"
    if not (place.is_dir() and (root / "pyproject.toml").is_file()):
        raise InputError(
            "benchmarks belong to the cortex-sweeps repository and are not installed with the package; in a checkout "
            "of it: pip install -e . && sweeps bench",
            file=str(place),
        )
    texts = {path: path.read_text() for path in sorted(place.glob("*.py"))}
    return {path.stem: (path, _purpose(text)) for path, text in texts.items() if "__main__" in text}


def _purpose(text: str) -> str:
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def run_benchmark(name: str, arguments: Sequence[str]) -> int:
    """Run a benchmark with this interpreter and this code; its exit code. Raises InputError for an unknown name."""
    scripts = list_benchmarks()
    if name not in scripts:
        raise InputError("no such benchmark", key="benchmark", value=name, allowed=scripts)
    path = os.pathsep.join([str(home()), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(scripts[name][0]), *arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False).returncode
