"""A copy of the tracked tree in which one mutant at a time lives, and tests that run there within limits."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from draw import HERE, ROOT, Mutant

TIMES, LEAST_CPU, LEAST_WALL = 5.0, 20.0, 300.0
"""Limits of the tests of a mutant: so many times the seconds of processor, and the seconds, that they take without one,
but at least these. A loop without an end is found by its processor time, however busy the machine is."""

POLL_SECONDS = 0.2

PYTEST = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line")
WHOLE = "not slow and not browser and not cluster"


@dataclass(frozen=True)
class Usage:
    """Seconds of processor and of time."""

    cpu: float
    wall: float

    def limit(self) -> Usage:
        """What the tests may take with a mutant that take this without."""
        return Usage(max(LEAST_CPU, TIMES * self.cpu), max(LEAST_WALL, TIMES * self.wall))

    def exceeds(self, limit: Usage | None) -> bool:
        """Whether it is more than a limit, where there is one."""
        return limit is not None and (self.cpu > limit.cpu or self.wall > limit.wall)


@dataclass(frozen=True)
class Outcome:
    """Whether tests passed, the first line that says why not, and what they took."""

    passed: bool
    reason: str
    usage: Usage


class Workplace:
    """A copy of the tree, and a process that runs tests in it (see warm.py)."""

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
        hashed = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
        subprocess.run([self.python, *hashed, "sweeps", "models", "metrics"], cwd=self.tree, check=True)

    @contextmanager
    def warm(self) -> Iterator[None]:
        """Hold the process that runs tests."""
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1"}
        environment |= {"TMPDIR": str(self.temporary)}
        command = [self.python, str(HERE / "warm.py")]
        with subprocess.Popen(
            command, cwd=self.tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as self.server:
            yield
            assert self.server.stdin
            self.server.stdin.close()

    def run(self, tests: Sequence[str], limit: Usage | None = None) -> Outcome:
        """Run tests in the tree as it is; what takes more than the limit has failed."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        log = self.folder / "output"
        arguments = [*PYTEST, "-m", WHOLE, *tests]
        assert self.server.stdin
        self.server.stdin.write(json.dumps({"arguments": arguments, "output": str(log)}).encode() + b"\n")
        process, began, late = int(self._line()), time.monotonic(), ""
        while not select.select([self.server.stdout], [], [], POLL_SECONDS)[0]:
            usage = Usage(cpu_of(process), time.monotonic() - began)
            if usage.exceeds(limit) and not late:
                late = f"not done after {usage.cpu:.0f} s of processor, {usage.wall:.0f} s in all"
                _kill(process)
        status, cpu = json.loads(self._line())
        _kill(process)  # what it has left
        shutil.rmtree(self.temporary, ignore_errors=True)
        reason = late or _reason(log.read_text(errors="replace"))
        return Outcome(status == 0 and not late, reason, Usage(cpu, time.monotonic() - began))

    def _line(self) -> bytes:
        assert self.server.stdout
        line = self.server.stdout.readline()
        if not line:
            raise SystemExit("the process that runs the tests is gone")
        return line

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


def cpu_of(process: int) -> float:
    """Seconds of processor that a process, and the children that it has waited for, took; 0 where it is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _kill(process: int) -> None:
    """End the session of a process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _reason(output: str) -> str:
    """The line of pytest's output that names the first test that failed."""
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (lines or output.splitlines() or [""])[0][:200]
