"""Who writes to a storage place: one run at a time, unless another is asked to work beside it."""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweeps import interrupts
from sweeps.errors import InputError, escaped
from sweeps.storage.objects import Objects, attempt

FOLDER = "running"
HEARTBEAT_SECONDS = 10.0
STALL_SECONDS = 35.0
"""A process of another machine is presumed dead when its heartbeat stalls this long."""

POLL_SECONDS = 0.5

RELEASE_SECONDS = 15.0
"""How long a store that is away is waited for to remove a lock; what is left behind is presumed dead."""

CONFLICTS = {
    "run": {"run", "compact", "forget"},
    "guide": {"compact", "forget"},
    "compact": {"run", "guide", "compact", "forget"},
    "forget": {"run", "guide", "compact", "forget"},
}
"""Purposes beside which a purpose is not begun."""

NAMES = {"run": "a run", "guide": "`sweeps guide`", "compact": "`sweeps compact`", "forget": "`sweeps forget`"}


class RunLock:
    """A lock on a storage place: an object `running/<number>.json` tells others that this process is at work there.

    The object is made by a put that fails where there is one already, so that of two processes that begin at the same
    moment one is refused. A process of this machine is known to live by its number and start; one of another machine
    by its heartbeat, a count in its object that rises every HEARTBEAT_SECONDS, so that no two clocks are compared. What
    dead ones left is removed. With `join` a run is begun beside other runs. `say` is told where a store has no
    conditional puts.
    """

    def __init__(self, store: Objects, purpose: str, join: bool = False, say: Callable[[str], None] = print) -> None:
        self.store, self.purpose, self.join, self.say = store, purpose, join, say
        self.impatient = Objects(store.uri)  # a heartbeat that is late is worth nothing
        self.shared = False
        self.stale: set[str] = set()
        self.name = ""
        self.folders: list[Path] = []
        self.content: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "purpose": purpose,
            "host": platform.node(),
            "pid": os.getpid(),
            "node": _node(),
            "began": _start_of(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "beat": 0,
        }
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name="sweeps-heartbeat", daemon=True)

    def __enter__(self) -> RunLock:
        try:
            attempt(self._acquire, self.store.uri)
            self._thread.start()
        except KeyboardInterrupt:  # the process may live on, as a notebook does
            self._release()
            raise
        return self

    def _acquire(self) -> None:
        if self.store.local:
            place = Path(self.store.root, FOLDER)
            self.folders = [folder for folder in (place, *place.parents) if not folder.exists()]
        names = self.store.names(FOLDER)
        dead = self._dead_among(names)
        self.stale = set(dead)
        self.shared = len(names) > len(dead)
        number = 1 + max((int(name[:6]) for name in names if name[:6].isdigit()), default=0)
        while not self._create(f"{number:06d}.json"):
            if not self.join:
                raise self._refused(self._read(f"{number:06d}.json") or {})
            number += 1
        for name in dead:
            self._discard(name)

    def _dead_among(self, names: Sequence[str]) -> list[str]:
        """Find the objects of dead processes; InputError for a live one beside which this purpose is not begun."""
        others = {name: self._read(name) for name in names}
        allowed = {"run"} if self.join else set()
        dead = []
        for name, other in others.items():
            if other is None or not self._is_alive(name, other):
                dead.append(name)
            elif other["purpose"] in CONFLICTS[self.purpose] - allowed:
                raise self._refused(other)
        return dead

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        self._release()

    def _release(self) -> None:
        self.store.retry_seconds = min(self.store.retry_seconds, RELEASE_SECONDS)
        with suppress(Exception, interrupts.Interrupted):  # what is left behind is presumed dead
            if self.name:
                self._discard(self.name)
        with suppress(OSError):  # a run that was refused leaves nothing behind, not even folders
            for folder in self.folders:
                folder.rmdir()

    def _discard(self, name: str) -> None:
        """Remove an object, or say in it that it has ended, where nothing may be removed."""
        try:
            self.store.remove([f"{FOLDER}/{name}"])
        except InputError:
            self.store.put(f"{FOLDER}/{name}", json.dumps({**self.content, "ended": True}).encode())

    def _create(self, name: str) -> bool:
        """Write the object, unless another process was first."""
        path, content = f"{FOLDER}/{name}", json.dumps(self.content).encode()
        if not self.store.create(path, content) and (self._read(name) or {}).get("token") != self.content["token"]:
            return False
        self.name = name
        if not self.store.local and self.store.create(path, content):
            self.say("this object store knows no conditional puts: runs that begin within a second are not told apart")
        return True

    def _read(self, name: str) -> dict[str, Any] | None:
        content = self.store.get(f"{FOLDER}/{name}")
        try:
            lock = json.loads(content or b"null")
        except ValueError:
            return None
        return lock if isinstance(lock, dict) and {"token", "purpose", "beat"} <= lock.keys() else None

    def _is_alive(self, name: str, other: Mapping[str, Any]) -> bool:
        if other.get("ended"):
            return False
        if other.get("node") == self.content["node"] and other["node"]:
            return bool(_start_of(other["pid"]) == other["began"])
        self.say(f"{_described(other)} was at work here: waiting {STALL_SECONDS:.0f} s to see whether it still is")
        until = time.monotonic() + STALL_SECONDS
        while time.monotonic() < until:
            interrupts.pause(POLL_SECONDS)
            now = self._read(name)
            if now is None or now["beat"] != other["beat"]:
                return now is not None
        return False

    def _refused(self, other: Mapping[str, Any]) -> InputError:
        wait = "" if {self.purpose, other.get("purpose")} != {"run"} else ", or work beside it with --join"
        problem = f"{_described(other)} is at work here: wait for its end{wait}"
        return InputError(problem, key="storage", value=self.store.uri)

    def _send_heartbeats(self) -> None:
        """Send heartbeats, and look who else is here; a folder is read more often, since that costs nothing."""
        due = time.monotonic() + HEARTBEAT_SECONDS
        while not self._released.wait(min(POLL_SECONDS, HEARTBEAT_SECONDS) if self.store.local else HEARTBEAT_SECONDS):
            try:
                self.shared = len({*self.impatient.names(FOLDER)} - self.stale) > 1
                if time.monotonic() >= due:
                    self.content["beat"] += 1
                    self.impatient.put(f"{FOLDER}/{self.name}", json.dumps(self.content).encode())
                    due = time.monotonic() + HEARTBEAT_SECONDS
            except Exception as error:  # the store may be away for a while
                logging.getLogger("sweeps").debug("the heartbeat of the run lock was not written: %s", error)


def _described(other: Mapping[str, Any]) -> str:
    what = NAMES.get(str(other.get("purpose")), "another process")
    if "pid" not in other:
        return what
    return escaped(f"{what} (process {other['pid']} on {other.get('host')}, since {other.get('since')})")


def _node() -> str:
    """This machine since it was started, and its process numbers; empty where the system does not tell."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _start_of(pid: int) -> str:
    """When a process of this machine began, in the kernel's count; empty when there is none, or it is a zombie."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
