"""The whole path with trivial trials: seconds a trial, memory of the driver, bytes on storage.

    python benchmarks/driver.py [--kind own | joined] [TRIALS ...]

`own`: every trial has a cell of its own, a ridge of two features with its own alpha. `joined`: depth maps of five
areas over the 16 blocks of a small network, so that all trials are joins of 80 cells. Every number of trials has a
process of its own, which is the driver; workers are those of a local Ray. The first line says when and where.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from PIL import Image

STIMULI, AREAS = 240, 5


def write_recording(folder: Path, kind: str) -> None:
    """A unit for every area, with two repeats; two features, or pictures of 32 pixels, for every stimulus."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    features = random.standard_normal((STIMULI, 2))
    names = [f"{index:04d}.png" for index in range(STIMULI)]
    if kind == "own":
        np.savez(folder / "features.npz", pair=features)
    else:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name in names:
                content = BytesIO()
                Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(content, "PNG")
                archive.writestr(name, content.getvalue())
    areas = 1 if kind == "own" else AREAS
    noisy = features[:, :1, None] + random.standard_normal((STIMULI, areas, 2))
    np.save(folder / "responses.npy", noisy.astype(np.float32))
    lines = [f"{name},group{index // 2:04d}" for index, name in enumerate(names)]
    (folder / "stimuli.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    (folder / "units.csv").write_text("\n".join(["unit,area", *(f"{area},A{area}" for area in range(areas))]) + "\n")


def experiment(kind: str, trials: int) -> dict[str, Any]:
    """So many trials, whatever their cells."""
    alphas = {"low": 0.001, "high": 1000.0, "log": True, "steps": trials}
    own = {"backbone": {"features": {"set": "pair"}}, "readout": {"ridge": {"alpha": alphas}}}
    joined = {
        "backbone": {"efficientnet-lite0": {"weights": "random"}},
        "depth": {f"A{area}": "all" for area in range(AREAS)},
        "readout": {"ridge": {"pool": 1}},
    }
    return {
        "name": f"driver-{kind}",
        "recordings": [{"format": "folder", "path": "data", "image": {"size": 32}}],
        "probes": {},
        "space": own if kind == "own" else joined,
        "search": {"method": "grid"} if kind == "own" else {"method": "random", "trials": trials},
        "scores": ["prediction"],
    }


def measure(kind: str, trials: int) -> None:
    """Run one sweep in this process, the driver, and print what it took."""
    import sweeps

    with tempfile.TemporaryDirectory() as held:
        home = Path(held)
        write_recording(home / "data", kind)
        began = time.perf_counter()
        found = sweeps.run(experiment(kind, trials), storage=str(home / "rows"), data=held, cache=str(home / "cache"))
        seconds = time.perf_counter() - began
        assert (found.progress.done, found.finished) == (trials, True), found.progress
        size = sum(path.stat().st_size for path in (home / "rows").rglob("*") if path.is_file())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    loaded = [name for name in ("torch", "transformers") if name in sys.modules]
    print(json.dumps({"seconds": seconds, "memory": memory, "bytes": size, "loaded": loaded}))


def main() -> None:
    """Measure every number of trials in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", type=int, default=[1000, 10000])
    parser.add_argument("--kind", choices=("own", "joined"), default="own")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(given.kind, given.trials[0])
        return
    print(describe_machine())
    print("trials | seconds | ms a trial | driver MB | bytes a trial | of these libraries in the driver")
    for trials in given.trials:
        command = [sys.executable, __file__, "--one", "--kind", given.kind, str(trials)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(
            f"{trials} | {found['seconds']:.1f} | {1000 * found['seconds'] / trials:.2f} | {found['memory']:.0f} | "
            f"{found['bytes'] / trials:.0f} | {', '.join(found['loaded']) or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
