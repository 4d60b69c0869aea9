"""`make mutants`: mutants of what must not go wrong, each against the tests that are nearest to it.

Every mutant is written into a copy of the tracked tree, so that guards on the code's digest and the installed package
see one tree; the tests of its module run first, then those of its room. Two at a time; a test that takes four times as
long as without a mutant has failed. Ends with 0 where at least 97 of 100 were killed; those in equivalent.toml, which
no test can kill, are not among the 100.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from draw import ROOT, Draw, Mutant, draw, room_named
from rooms import ROOMS

WANTED = 0.97
LEAST_SECONDS, TIMES = 60.0, 4.0
"""Time limit of the tests of a mutant: at least this, and so many times what they take without one."""

PYTEST = ("-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line")
WHOLE = "not slow and not browser and not cluster"


class Workplace:
    """A copy of the tracked tree, in which one mutant at a time lives."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, python
        self.tree, self.temporary = folder / "tree", folder / "tmp"

    def fill(self) -> None:
        """Copy what git knows or would add, and compile it, with hashes of the sources: no time stamp is believed."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        compiled = [
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "checked-hash",
            "sweeps",
            "models",
            "metrics",
            "tests",
        ]
        subprocess.run([self.python, *compiled], cwd=self.tree, check=True)

    def passes(self, tests: Sequence[str], seconds: float) -> tuple[bool, str]:
        """Whether tests pass within a time, and the first line that says why not."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [self.python, *PYTEST, "-m", WHOLE, *tests],
            cwd=self.tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False, f"not done after {seconds:.0f} s"
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)
        return process.returncode == 0, _reason(output)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Hold a mutant in the tree."""
        place, source = self.tree / mutant.module, mutant.source()
        before = place.read_bytes()
        assert source is not None
        try:
            place.write_text(source)
            yield
        finally:
            place.write_bytes(before)


def _reason(output: str) -> str:
    """The line of pytest's output that names the first test that failed."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (lines or output.splitlines() or [""])[0][:200]


class Run:
    """Tries mutants, so many at a time, and prints what becomes of each."""

    def __init__(self, python: str, workers: int, count: int) -> None:
        self.python, self.workers, self.count, self.ended = python, workers, count, 0
        self.free: queue.Queue[Workplace] = queue.Queue()
        self.seconds: dict[tuple[str, ...], float] = {}

    @contextmanager
    def workplaces(self) -> Iterator[None]:
        """Make the copies; they go at the end."""
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            first = Workplace(Path(folder, "0"), self.python)
            first.fill()
            for number in range(1, self.workers):
                shutil.copytree(first.tree, Path(folder, str(number), "tree"))
            for number in range(self.workers):
                self.free.put(Workplace(Path(folder, str(number)), self.python))
            yield

    def all(self, mutants: Sequence[Mutant]) -> list[dict[str, Any]]:
        """Try mutants, after the tests of each have passed without one."""
        needed = list(dict.fromkeys(tests for mutant in mutants for tests in _tests(mutant)))
        with ThreadPoolExecutor(self.workers) as pool:
            for tests, problem in zip(needed, pool.map(self._measure, needed), strict=True):
                if problem:
                    raise SystemExit(f"without any mutant {' '.join(tests)} fails: {problem}")
            return list(pool.map(self._tried, mutants))

    def _measure(self, tests: tuple[str, ...]) -> str:
        """Time tests without a mutant; says what fails."""
        workplace, began = self.free.get(), time.monotonic()
        try:
            passed, reason = workplace.passes(tests, 1800.0)
        finally:
            self.free.put(workplace)
        self.seconds[tests] = time.monotonic() - began
        print(f"{self.seconds[tests]:7.1f} s without a mutant: {' '.join(tests)}", flush=True)
        return "" if passed else reason

    def _tried(self, mutant: Mutant) -> dict[str, Any]:
        workplace, began = self.free.get(), time.monotonic()
        killed_by = reason = ""
        try:
            with workplace.mutated(mutant):
                for name, tests in zip(("nearest", "wider"), _tests(mutant), strict=False):
                    passed, reason = workplace.passes(tests, max(LEAST_SECONDS, TIMES * self.seconds[tests]))
                    if not passed:
                        killed_by = name
                        break
        finally:
            self.free.put(workplace)
        self.ended += 1
        word, where = killed_by or "SURVIVED", f"{mutant.module}:{mutant.line}"
        change = f"{mutant.before}  ->  {mutant.after}"
        seconds = time.monotonic() - began
        print(f"[{self.ended:3}/{self.count}] {word:8} {seconds:5.1f} s  {where}  {change}", flush=True)
        return {
            **vars(mutant),
            "key": mutant.key,
            "killed_by": killed_by,
            "reason": reason,
            "seconds": round(seconds, 1),
        }


def _tests(mutant: Mutant) -> list[tuple[str, ...]]:
    """Tests of a mutant's module, then those of its room."""
    room = room_named(mutant.room)
    nearest = room.modules[mutant.module]
    wider = tuple(test for test in room.wider if test not in nearest)
    return [tests for tests in (nearest, wider) if tests]


def table(drawn: Draw, results: Sequence[dict[str, Any]]) -> str:
    """What became of the mutants of every room."""
    lines = [f"{'room':12} {'places':>7} {'tried':>6} {'killed':>7} {'by nearest':>11} {'equivalent':>11}"]
    for name in [*(room.name for room in ROOMS), "all"]:
        own = [result for result in results if name in ("all", result["room"])]
        killed = Counter(result["killed_by"] for result in own)
        met = sum(name in ("all", mutant.room) for mutant in drawn.equivalent)
        places = sum(drawn.places.values()) if name == "all" else drawn.places[name]
        dead = len(own) - killed[""]
        lines.append(f"{name:12} {places:7} {len(own):6} {dead:7} {killed['nearest']:11} {met:11}")
    return "\n".join(lines)


def main() -> int:
    """Draw, try, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="has the project's test tools")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.json")
    parser.add_argument("--room", nargs="*", help="of these rooms alone")
    parser.add_argument("--again", action="store_true", help="only what the last run left alive or did not try")
    parser.add_argument("--list", action="store_true", help="print the draw and end")
    options = parser.parse_args()
    drawn = draw(options.count)
    print(
        f"{drawn.mutations} mutations at {sum(drawn.places.values())} places; {len(drawn.mutants)} are drawn",
        flush=True,
    )
    wanted = [mutant for mutant in drawn.mutants if not options.room or mutant.room in options.room]
    if options.list:
        print("\n".join(f"{mutant.room:10} {mutant.line:4} {mutant.key}" for mutant in wanted))
        return 0
    earlier = json.loads(options.out.read_text())["mutants"] if options.again and options.out.is_file() else []
    dead = {result["key"]: result for result in earlier if result["killed_by"]}
    todo = [mutant for mutant in wanted if mutant.key not in dead]
    run = Run(options.python, options.workers, len(todo))
    with run.workplaces():
        tried = {result["key"]: result for result in run.all(todo)}
    results = [tried.get(mutant.key) or dead[mutant.key] for mutant in wanted]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    unrelated = [result for result in earlier if result["key"] not in {mutant.key for mutant in wanted}]
    met = [mutant.key for mutant in drawn.equivalent]
    options.out.write_text(json.dumps({"mutants": [*results, *unrelated], "equivalent": met}, indent=1))
    print(table(drawn, results))
    killed = sum(bool(result["killed_by"]) for result in results)
    for result in results:
        if not result["killed_by"]:
            print(f"survived: {result['module']}:{result['line']} in {result['function'] or 'the module'}")
            print(f"    {result['before']}\n    {result['after']}")
    print(f"{killed} of {len(results)} killed; {len(drawn.equivalent)} that no test can kill were passed over")
    return 0 if killed >= WANTED * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
