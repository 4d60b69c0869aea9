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
from sweeps.storage import run_lock as claims
from sweeps.storage.run_lock import FOLDER, Claim
from sweeps.storage.store import Store

HOLDER = """
import sys, time
from sweeps.storage.run_lock import Claim
from sweeps.storage.store import Store
with Claim(Store(sys.argv[1]), sys.argv[2]):
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
    content = {**Claim(store, "run").content, "node": "elsewhere", "host": "elsewhere", "token": "t", **changed}
    store.put(f"{FOLDER}/{name}", json.dumps(content).encode())
    return content


def test_a_second_run_is_told_of_the_first_and_stops(store: Store) -> None:
    with Claim(store, "run"):
        with pytest.raises(InputError, match=rf"a run \(process {os.getpid()} on .*wait for its end, or .*--join"):
            Claim(store, "run").__enter__()
        with Claim(store, "run", join=True) as joined:
            assert joined.shared
            assert len(store.names(FOLDER)) == 2
    assert store.names(FOLDER) == []
    with Claim(store, "run") as alone:
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
    with Claim(store, first):
        if allowed:
            with Claim(store, second):
                return
        with pytest.raises(InputError, match="is at work here"):
            Claim(store, second, join=second == "run").__enter__()


def test_a_killed_run_is_known_to_be_dead_at_once(store: Store) -> None:
    process = holder(store, "run")
    with pytest.raises(InputError, match=rf"process {process.pid} on"):
        Claim(store, "run").__enter__()
    process.kill()
    process.wait()
    said: list[str] = []
    with Claim(store, "run", say=said.append):
        assert store.names(FOLDER) == ["000002.json"]
    assert said == []


def test_a_process_of_another_start_with_the_same_number_is_not_taken_for_it(store: Store) -> None:
    ours = Claim(store, "run").content
    store.put(f"{FOLDER}/000001.json", json.dumps({**ours, "began": "1"}).encode())
    with Claim(store, "run"):
        pass


def test_a_run_of_another_machine_lives_as_long_as_its_count_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(claims, "WATCH_SECONDS", 0.3)
    said: list[str] = []
    theirs = from_another_machine(store, since="2099-01-01T00:00:00+00:00")  # its clock is ahead: none is looked at
    with Claim(store, "run", say=said.append):
        assert len(said) == 1
        assert "on elsewhere" in said[0]

    from_another_machine(store)
    monkeypatch.setattr(claims, "WATCH_SECONDS", 30.0)
    beat = threading.Timer(0.2, lambda: from_another_machine(store, beat=theirs["beat"] + 1))
    beat.start()
    with pytest.raises(InputError, match="on elsewhere"):
        Claim(store, "run", say=said.append).__enter__()
    beat.join()


def test_a_claim_goes_on_counting_and_sees_company(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.02)
    with Claim(store, "run") as first, Claim(store, "run", join=True):
        waited = threading.Event()
        while not (first.shared and first.content["beat"] > 2):
            waited.wait(0.01)
        assert json.loads(store.get(f"{FOLDER}/{first.name}") or b"{}")["beat"] > 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": 1}', b"\xff\xfe"])
def test_an_object_that_says_nothing_is_removed(content: bytes, store: Store) -> None:
    store.put(f"{FOLDER}/000007.json", content)
    with Claim(store, "run"):
        assert store.names(FOLDER) == ["000008.json"]


@pytest.mark.parametrize("turn", range(10))
def test_of_many_that_begin_at_once_one_is_let_in(turn: int, store: Store) -> None:
    start, let_in = threading.Barrier(8), []

    def begin() -> None:
        start.wait()
        with suppress(InputError):
            let_in.append(Claim(store, "run").__enter__())

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
        with Claim(store, "run"):
            assert store.names(FOLDER)[-1] == f"{turn:06d}.json"
