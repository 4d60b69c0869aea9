"""`make mutants`: mutants of what must not go wrong, each against the tests that are nearest to it.

Every mutant is written into a copy of the tracked tree, so that guards on the code's digest and the installed package
see one tree; the tests of its module run first, then those of its room. Two at a time; tests that take five times as
much as without a mutant have failed. Ends with 0 where at least 97 of 100 were killed; those in equivalent.toml, which
no test can kill, are not among the 100.
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from draw import ROOT, Draw, Mutant, draw, room_named
from rooms import ROOMS
from workplace import Usage, Workplace

WANTED = 0.97


class Run:
    """Tries mutants, so many at a time, and prints what becomes of each."""

    def __init__(self, python: str, workers: int, count: int) -> None:
        self.python, self.workers, self.count, self.ended = python, workers, count, 0
        self.free: queue.Queue[Workplace] = queue.Queue()
        self.usage: dict[tuple[str, ...], Usage] = {}
        self.measuring: defaultdict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def workplaces(self) -> Iterator[None]:
        """Make the copies; they go at the end."""
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            first = Workplace(Path(folder, "0"), self.python)
            first.fill()
            for number in range(1, self.workers):
                shutil.copytree(first.tree, Path(folder, str(number), "tree"))
            with ExitStack() as stack:
                for number in range(self.workers):
                    workplace = Workplace(Path(folder, str(number)), self.python)
                    stack.enter_context(workplace.warm())
                    self.free.put(workplace)
                yield

    def each(self, mutants: Sequence[Mutant]) -> Iterator[dict[str, Any]]:
        """Try mutants; what became of each, as it is known."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            for future in as_completed([pool.submit(self._tried, mutant) for mutant in mutants]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _limit(self, workplace: Workplace, tests: tuple[str, ...]) -> Usage:
        """The limit of tests, from what they take without a mutant; SystemExit where they fail without any."""
        with self.measuring[tests]:
            if tests not in self.usage:
                outcome = workplace.run(tests)
                cpu, wall = outcome.usage.cpu, outcome.usage.wall
                print(f"{cpu:6.1f} s of processor, {wall:6.1f} s as it is: {' '.join(tests)}", flush=True)
                if not outcome.passed:
                    raise SystemExit(f"without any mutant {' '.join(tests)} fails: {outcome.reason}")
                self.usage[tests] = outcome.usage
        return self.usage[tests].limit()

    def _tried(self, mutant: Mutant) -> dict[str, Any]:
        workplace, began = self.free.get(), time.monotonic()
        killed_by = reason = ""
        try:
            for name, tests in zip(("nearest", "wider"), _tests(mutant), strict=False):
                limit = self._limit(workplace, tests)
                with workplace.mutated(mutant):
                    outcome = workplace.run(tests, limit)
                if not outcome.passed:
                    killed_by, reason = name, outcome.reason
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
    earlier = json.loads(options.out.read_text()) if options.again and options.out.is_file() else []
    record = {result["key"]: result for result in earlier}
    todo = [mutant for mutant in wanted if not record.get(mutant.key, {}).get("killed_by")]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(str(Path(options.python).absolute()), options.workers, len(todo))
    with run.workplaces():
        for result in run.each(todo):
            record[result["key"]] = result
            options.out.write_text(json.dumps(list(record.values()), indent=1))
    results = [record[mutant.key] for mutant in wanted]
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
