"""Two runs on one storage place, and what a dead one leaves there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InputError
from sweeps.storage import run_lock
from sweeps.storage.run_lock import FOLDER, RunLock
from sweeps.storage.store import Store

HOLDER = """
import sys, time
from sweeps.storage.run_lock import RunLock
from sweeps.storage.store import Store
with RunLock(Store(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def holder(store: Store, purpose: str) -> subprocess.Popen[str]:
    """Another process of this machine that is at work; its input is closed to end it."""
    arguments = [sys.executable, "-c", HOLDER, store.uri, purpose]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def from_another_machine(store: Store, name: str = "000001.json", **changed: Any) -> dict[str, Any]:
    """The object of a run on a machine that cannot be asked."""
    content = {**RunLock(store, "run").content, "node": "elsewhere", "host": "elsewhere", "token": "t", **changed}
    store.put(f"{FOLDER}/{name}", json.dumps(content).encode())
    return content


def test_a_second_run_is_told_of_the_first_and_stops(store: Store) -> None:
    with RunLock(store, "run"):
        with pytest.raises(InputError, match=rf"a run \(process {os.getpid()} on .*wait for its end, or .*--join"):
            RunLock(store, "run").__enter__()
        with RunLock(store, "run", join=True) as joined:
            assert joined.shared
            assert len(store.names(FOLDER)) == 2
    assert store.names(FOLDER) == []
    with RunLock(store, "run") as alone:
        assert not alone.shared


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        ("run", "compact", False),
        ("compact", "run", False),
        ("compact", "compact", False),
        ("guide", "compact", False),
        ("compact", "guide", False),
        ("run", "guide", True),
        ("guide", "run", True),
    ],
)
def test_what_may_work_beside_what(first: str, second: str, allowed: bool, store: Store) -> None:
    with RunLock(store, first):
        if allowed:
            with RunLock(store, second):
                return
        with pytest.raises(InputError, match="is at work here"):
            RunLock(store, second, join=second == "run").__enter__()


def test_a_killed_run_is_known_to_be_dead_at_once(store: Store) -> None:
    process = holder(store, "run")
    with pytest.raises(InputError, match=rf"process {process.pid} on"):
        RunLock(store, "run").__enter__()
    process.kill()
    process.wait()
    messages: list[str] = []
    with RunLock(store, "run", say=messages.append):
        assert store.names(FOLDER) == ["000002.json"]
    assert messages == []


def test_a_process_of_another_start_with_the_same_number_is_another(store: Store) -> None:
    ours = RunLock(store, "run").content
    store.put(f"{FOLDER}/000001.json", json.dumps({**ours, "began": "1"}).encode())
    with RunLock(store, "run"):
        pass


def test_a_run_of_another_machine_is_alive_as_long_as_its_heartbeat_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(run_lock, "STALL_SECONDS", 0.3)
    messages: list[str] = []
    theirs = from_another_machine(store, since="2099-01-01T00:00:00+00:00")  # its clock is ahead: none is looked at
    with RunLock(store, "run", say=messages.append):
        assert len(messages) == 1
        assert "on elsewhere" in messages[0]

    from_another_machine(store)
    monkeypatch.setattr(run_lock, "STALL_SECONDS", 30.0)
    beat = threading.Timer(0.2, lambda: from_another_machine(store, beat=theirs["beat"] + 1))
    beat.start()
    with pytest.raises(InputError, match="on elsewhere"):
        RunLock(store, "run", say=messages.append).__enter__()
    beat.join()


def test_a_lock_sends_heartbeats_and_sees_company(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.02)
    with RunLock(store, "run") as first, RunLock(store, "run", join=True):
        waited = threading.Event()
        while not (first.shared and first.content["beat"] > 2):
            waited.wait(0.01)
        assert json.loads(store.get(f"{FOLDER}/{first.name}") or b"{}")["beat"] > 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": 1}', b"\xff\xfe"])
def test_an_object_that_says_nothing_is_removed(content: bytes, store: Store) -> None:
    store.put(f"{FOLDER}/000007.json", content)
    with RunLock(store, "run"):
        assert store.names(FOLDER) == ["000008.json"]


@pytest.mark.parametrize("turn", range(10))
def test_of_many_that_begin_at_once_one_is_let_in(turn: int, store: Store) -> None:
    start, let_in = threading.Barrier(8), []

    def begin() -> None:
        start.wait()
        with suppress(InputError):
            let_in.append(RunLock(store, "run").__enter__())

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == 1
    let_in[0].__exit__(None, None, None)


def test_a_file_system_without_hard_links_will_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.create("running/a.json", b"first")
    assert not store.create("running/a.json", b"second")
    assert store.get("running/a.json") == b"first"
    assert [path.name for path in Path(store.root, "running").iterdir()] == ["a.json"]


def test_where_nothing_may_be_removed_an_object_says_that_it_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(names: list[str]) -> None:
        raise InputError("objects may not be removed here")

    monkeypatch.setattr(store, "remove", refuse)
    for turn in range(1, 4):
        with RunLock(store, "run"):
            assert store.names(FOLDER)[-1] == f"{turn:06d}.json"
