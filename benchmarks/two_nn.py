"""What TwoNN costs: ``two_nn`` against scikit-dimension's, on points of ten true dimensions in 1,024 units.

One run prints, with its date, machine and commit, for each number of stimuli, in float32:
1. wall and processor seconds of both, the best of a few runs taken in turn, and their ratios;
2. both estimates, which differ by scikit-dimension's float32 distances;
3. the memory that the call adds to the input's, each in a process of its own (on Linux);
4. last, at the largest number: GRIDE at seven scales up to the 128th neighbour, and the same estimate with 20
   stimuli copied exactly, beside the number of copies each side merges or drops.

    python benchmarks/two_nn.py --stimuli 1000 4000 10000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe_machine

from metrics import count_duplicates, gride, two_nn

UNITS, DIMENSION, COPIES = 1024, 10, 20
Estimator = Callable[[np.ndarray], float]


def theirs(responses: np.ndarray) -> float:
    """scikit-dimension's TwoNN, with the same linear fit and share of ratios."""
    import skdim  # imported late: it compiles on import, which would count as memory of ours

    return float(skdim.id.TwoNN().fit(responses).dimension_)


def their_scales(responses: np.ndarray) -> float:
    """The first of scikit-dimension's GRIDE scales, of seven."""
    import skdim

    return float(skdim.id.GRIDE(multiscale=True, range_max=128).fit(responses).dimension_scales_[0])


SIDES: dict[str, Estimator] = {"ours": two_nn, "scikit-dimension": theirs}
SCALES: dict[str, Estimator] = {"ours": lambda responses: gride(responses)[1], "scikit-dimension": their_scales}


def points(stimuli: int) -> np.ndarray:
    """Gaussian points of ten dimensions, mixed into many units, float32, fixed seed."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((stimuli, DIMENSION), dtype=np.float32)
    return latent @ rng.standard_normal((DIMENSION, UNITS), dtype=np.float32)


def timed(sides: dict[str, Estimator], responses: np.ndarray, runs: int) -> dict[str, tuple[float, float, float]]:
    """Least wall and processor seconds over runs in turn, and the estimate, of every side."""
    best = dict.fromkeys(sides, (np.inf, np.inf, np.nan))
    for _ in range(runs):
        for name, estimate in sides.items():
            wall, processor = time.perf_counter(), time.process_time()
            value = estimate(responses)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            best[name] = (min(best[name][0], wall), min(best[name][1], processor), value)
    return best


def show(best: dict[str, tuple[float, float, float]], added: dict[str, str]) -> None:
    """Print one line a side, and the ratios."""
    for name, (wall, processor, value) in best.items():
        print(f"  {name:>16}: {wall:7.3f} s wall, {processor:7.3f} s processor, {value:.5f}{added.get(name, '')}")
    (wall, processor, _), (other_wall, other_processor, _) = best.values()
    print(f"  {'as long':>16}: {other_wall / wall:6.2f} x wall, {other_processor / processor:6.2f} x processor")


def peak() -> int:
    """Largest memory of this process so far, in bytes; read from Linux, whose getrusage would count the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure_memory(name: str, stimuli: int) -> None:
    """Print the bytes that one call adds; a small call first loads what it needs."""
    SIDES[name](points(200))
    responses = points(stimuli)
    before = peak()
    SIDES[name](responses)
    print(peak() - before)


def memory(name: str, stimuli: int) -> str:
    """``measure_memory`` in a process of its own, in words; none where the system does not tell."""
    if not Path("/proc/self/status").exists():
        return ""
    asked = [sys.executable, __file__, "--memory", name, "--stimuli", str(stimuli)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return f", adds {int(answer) / 2**20:.0f} MiB"


def copies(responses: np.ndarray) -> None:
    """Print both estimates with exact copies among the stimuli."""
    copied = np.concatenate([responses, responses[:COPIES]])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        values = [estimate(copied) for estimate in SIDES.values()]
    print(f"  with {COPIES} copies: ours {values[0]:.5f}, {count_duplicates(copied)} merged")
    words = "; ".join(str(warning.message) for warning in told) or "no warning"
    print(f"                  scikit-dimension {values[1]:.5f}: {words}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stimuli", type=int, nargs="+", default=[1000, 4000, 10_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", choices=SIDES, help="only print the bytes that this side adds")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    if asked.memory:
        return measure_memory(asked.memory, asked.stimuli[0])
    print(f"{describe_machine()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print(f"{UNITS} units, {DIMENSION} true dimensions, float32; best of {asked.runs} runs taken in turn")
    for side in SIDES.values():
        side(points(200))
    for stimuli in asked.stimuli:
        print(f"TwoNN, {stimuli} stimuli")
        show(timed(SIDES, points(stimuli), asked.runs), {name: memory(name, stimuli) for name in SIDES})
    print(f"GRIDE, k = 1 to 64, {stimuli} stimuli (the estimate at k = 1)")
    show(timed(SCALES, points(stimuli), 1), {})
    print(f"TwoNN, {stimuli} stimuli")
    copies(points(stimuli))
    return None


if __name__ == "__main__":
    main()
