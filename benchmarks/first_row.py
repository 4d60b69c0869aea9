"""Time to first row: from `sweeps run` to the first part of the cells table, with a warm cache.

    OMP_NUM_THREADS=1 python benchmarks/first_row.py [RUNS] [--experiment NAME] [--cache DIR]

Runs a shipped experiment RUNS times (3) as a user would, each in a fresh storage folder, after one run that fills the
cache. In the cache are features, the simulated recording and its truth, sentence embeddings; `fits` of earlier runs are
removed before every run, so that its cells are fitted. The first line says when and where.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

LOOK = 0.02
"""Seconds between two looks at the storage folder."""

MARKS = {"Ray is up": "experiment.yaml", "first row": "parts/cells/*.parquet", "first trials": "parts/trials/*.parquet"}
"""What lies in the storage folder once a step of the way is done."""


def measure(experiment: str, cache: Path, storage: Path) -> dict[str, float]:
    """Seconds from the call of one run to each of its marks and to its end."""
    shutil.rmtree(cache / "fits", ignore_errors=True)
    command = [sys.executable, "-m", "sweeps", "run", experiment, "--storage", str(storage), "--cache", str(cache)]
    found: dict[str, float] = {}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None:
            for mark, pattern in MARKS.items():
                if mark not in found and any(storage.glob(pattern)):
                    found[mark] = time.perf_counter() - began
            time.sleep(LOOK)
    if run.returncode:
        raise SystemExit(f"the run ended with exit code {run.returncode}")
    return found | {"end": time.perf_counter() - began}


def main() -> None:
    """Fill the cache, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=3)
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--cache", help="a cache to use and keep")
    given = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as held:
        cache = Path(given.cache or f"{held}/cache")
        print("seconds from the call to:", " | ".join(["run", *MARKS, "end"]))
        for run in range(given.runs + 1):
            found = measure(given.experiment, cache, Path(held) / f"run{run}")
            parts = [f"{found[mark]:.1f}" if mark in found else "-" for mark in (*MARKS, "end")]
            print(" | ".join([str(run) if run else "0 (fills the cache)", *parts]), flush=True)


if __name__ == "__main__":
    main()
