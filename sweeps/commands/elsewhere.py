"""The answer of a sweep, printed by a process of its own, for one whose `models` or `metrics` are other packages."""

from __future__ import annotations

import os
import subprocess
import sys

from sweeps.errors import InputError
from sweeps.io.import_guard import home


def show_elsewhere(storage: str, best: int) -> None:
    """Run `sweeps show` with the project's home first on the import path; InputError with what it complains of."""
    line = [sys.executable, "-P", "-m", "sweeps", "show", storage, "--best", str(best)]
    path = os.pathsep.join([str(home()), *filter(None, [os.environ.get("PYTHONPATH")])])
    answer = subprocess.run(line, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    print(answer.stdout, end="")
    if answer.returncode:
        raise InputError(answer.stderr.strip().removeprefix("error: ") or "the answer cannot be shown")
