"""Processes of this machine, read from /proc: what a test started, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTEN = "0A"


@dataclass(frozen=True)
class Process:
    """A process; `started` tells it from a later one of the same number."""

    pid: int
    parent: int
    started: str
    title: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self in processes()


def processes() -> set[Process]:
    """Every process that is not a zombie."""
    return {found for entry in Path("/proc").iterdir() if entry.name.isdigit() and (found := _read(entry))}


def _read(entry: Path) -> Process | None:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else Process(int(entry.name), int(fields[1]), fields[19], title)


def descendants(pid: int) -> set[Process]:
    """Every process that `pid` started, and that those started."""
    everyone = processes()
    found: set[Process] = set()
    parents = {pid}
    while parents:
        children = {process for process in everyone if process.parent in parents} - found
        found |= children
        parents = {child.pid for child in children}
    return found


def listening(pids: Iterable[int]) -> set[tuple[int, str]]:
    """TCP addresses on which processes listen, with their process: 127.0.0.1 for loopback, * for every interface."""
    return {(pid, address) for pid in pids for address in _listening(Path("/proc", str(pid)))}


def _listening(place: Path) -> Iterator[str]:
    try:
        inodes = {os.readlink(entry)[8:-1] for entry in (place / "fd").iterdir() if _is_socket(entry)}
        lines = [
            line.split() for name in ("tcp", "tcp6") for line in (place / "net" / name).read_text().splitlines()[1:]
        ]
    except (FileNotFoundError, ProcessLookupError):
        return
    for fields in lines:
        if fields[3] == LISTEN and fields[9] in inodes:
            word = bytes.fromhex(fields[1].partition(":")[0])[-4:][::-1]
            yield ".".join(map(str, word)) if any(word) else "*"


def _is_socket(entry: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.readlink(entry).startswith("socket:[")
    return False


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once `condition` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.05)


def command(*arguments: str, code: str | None = None) -> list[str]:
    """`python -m sweeps ...`, or with `code` what the console script does."""
    return [sys.executable, *(["-c", code] if code else ["-m", "sweeps"]), *arguments]


def environment() -> dict[str, str]:
    """This environment without a Ray cluster of its own, with the repository on the import path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}


@contextmanager
def started(
    arguments: list[str], log: Path, cwd: Path = ROOT, home: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs meanwhile and writes to `log`; it and all that it started are ended afterwards.

    `home` is its home folder instead of the user's: an own Ray keeps its token there.
    """
    variables = environment() | ({"HOME": str(home)} if home else {})
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, cwd=cwd, env=variables, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        left = descendants(process.pid)
        process.kill()
        process.wait()
        for each in left:
            if each.alive:
                os.kill(each.pid, 9)
