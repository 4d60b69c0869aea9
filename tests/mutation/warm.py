"""Runs pytest in forks of a process that has imported the libraries of others: half of a mutant's time else goes there.

Reads a line of JSON for each run, the arguments of pytest and a file for its output; answers with the number of the
process that runs it, and at its end with its exit status and the seconds of processor that it and its children took.
Nothing of this project is imported before a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from contextlib import suppress

LIBRARIES = (
    "botocore.exceptions",
    "fsspec.implementations.local",
    "h5py",
    "hypothesis.strategies",
    "numpy",
    "optuna",
    "pandas",
    "PIL.Image",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic",
    "pytest",
    "rich.console",
    "scipy.optimize",
    "scipy.stats",
    "torch",
    "typer.testing",
    "yaml",
)


def serve() -> None:
    """Run what is asked for, one after another, until there is no more."""
    sys.path.pop(0)  # this folder
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            run(request["arguments"], request["output"])
        print(process, flush=True)
        _, status, usage = os.wait4(process, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime]), flush=True)


def run(arguments: list[str], output: str) -> None:
    """Become a pytest of its own session, which writes to a file."""
    import pytest

    os.setsid()
    for number, place in (
        (0, os.open(os.devnull, os.O_RDONLY)),
        (1, os.open(output, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)),
    ):
        os.dup2(place, number)
    os.dup2(1, 2)
    status = 3
    try:
        status = int(pytest.main(arguments))
        sys.stdout.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    serve()
