"""Who writes to a storage place: one run at a time, unless another is asked to work beside it."""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweeps.errors import InputError
from sweeps.storage.objects import Objects, attempt

FOLDER = "running"
BEAT_SECONDS = 10.0
WATCH_SECONDS = 35.0
"""A process of another machine that has not moved its count for so long is taken for dead."""

LOOK_SECONDS = 0.5

CONFLICTS = {"run": {"run", "compact"}, "guide": {"compact"}, "compact": {"run", "guide", "compact"}}
"""Purposes beside which a purpose is not begun."""

NAMES = {"run": "a run", "guide": "`sweeps guide`", "compact": "`sweeps compact`"}


class Claim:
    """That this process works at a storage place, told to others by an object `running/<number>.json`.

    The object is made by a put that fails where there is one already, so that of two processes that begin at the same
    moment one is refused. A process of this machine is known to live by its number and start; of another machine by a
    count in its object that goes on every BEAT_SECONDS, so that no two clocks are compared. What dead ones left is
    removed. With `join` a run is begun beside other runs. Stores without such puts are told of by `say`.
    """

    def __init__(self, store: Objects, purpose: str, join: bool = False, say: Callable[[str], None] = print) -> None:
        self.store, self.purpose, self.join, self.say = store, purpose, join, say
        self.shared = False
        self.over: set[str] = set()
        self.name = ""
        self.folders: list[Path] = []
        self.content: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "purpose": purpose,
            "host": platform.node(),
            "pid": os.getpid(),
            "node": _node(),
            "began": _began(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "beat": 0,
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="sweeps-claim", daemon=True)

    def __enter__(self) -> Claim:
        attempt(self._begin, self.store.uri)
        self._thread.start()
        return self

    def _begin(self) -> None:
        if self.store.local:
            place = Path(self.store.root, FOLDER)
            self.folders = [each for each in (place, *place.parents) if not each.exists()]
        names = self.store.names(FOLDER)
        held = {name: self._read(name) for name in names}
        allowed = {"run"} if self.join else set()
        dead = []
        for name, other in held.items():
            if other is None or not self._lives(name, other):
                dead.append(name)
            elif other["purpose"] in CONFLICTS[self.purpose] - allowed:
                raise self._refused(other)
        self.over = set(dead)
        self.shared = len(names) > len(dead)
        number = 1 + max((int(name[:6]) for name in names if name[:6].isdigit()), default=0)
        while not self._take(f"{number:06d}.json"):
            if not self.join:
                raise self._refused(self._read(f"{number:06d}.json") or {})
            number += 1
        for name in dead:
            self._discard(name)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(Exception):  # what is left behind is taken for dead
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

    def _take(self, name: str) -> bool:
        """Make the object, unless another process was first."""
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
            found = json.loads(content or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) and {"token", "purpose", "beat"} <= found.keys() else None

    def _lives(self, name: str, other: Mapping[str, Any]) -> bool:
        if other.get("ended"):
            return False
        if other.get("node") == self.content["node"] and other["node"]:
            return bool(_began(other["pid"]) == other["began"])
        self.say(f"{_described(other)} was at work here: waiting {WATCH_SECONDS:.0f} s to see whether it still is")
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            now = self._read(name)
            if now is None or now["beat"] != other["beat"]:
                return now is not None
        return False

    def _refused(self, other: Mapping[str, Any]) -> InputError:
        wait = "" if {self.purpose, other.get("purpose")} != {"run"} else ", or work beside it with --join"
        problem = f"{_described(other)} is at work here: wait for its end{wait}"
        return InputError(problem, key="storage", value=self.store.uri)

    def _beat(self) -> None:
        """Go on counting, and see who else is here; a folder is looked at more often, since that costs nothing."""
        due = time.monotonic() + BEAT_SECONDS
        while not self._ended.wait(min(LOOK_SECONDS, BEAT_SECONDS) if self.store.local else BEAT_SECONDS):
            try:
                self.shared = len({*self.store.names(FOLDER)} - self.over) > 1
                if time.monotonic() >= due:
                    self.content["beat"] += 1
                    self.store.put(f"{FOLDER}/{self.name}", json.dumps(self.content).encode())
                    due = time.monotonic() + BEAT_SECONDS
            except Exception as error:  # the store may be away for a while
                logging.getLogger("sweeps").debug("the claim was not renewed: %s", error)


def _described(other: Mapping[str, Any]) -> str:
    what = NAMES.get(str(other.get("purpose")), "another process")
    if "pid" not in other:
        return what
    return f"{what} (process {other['pid']} on {other.get('host')}, since {other.get('since')})"


def _node() -> str:
    """This machine since it was started, and its process numbers; empty where the system does not tell."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _began(pid: int) -> str:
    """When a process of this machine began, in its own count; empty when there is none, or it is a zombie."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""
