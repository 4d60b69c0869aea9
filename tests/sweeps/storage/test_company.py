"""The run lock beside others: how often it shows that it lives, and whose an object is that is there already."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from processes import wait_for

from sweeps.errors import InputError
from sweeps.storage import run_lock
from sweeps.storage.run_lock import FOLDER, RunLock
from sweeps.storage.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.01)
    return Store(str(tmp_path))


def test_a_folder_is_read_more_often_than_a_heartbeat_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def noted(folder: str) -> list[str]:
        looked.append(folder)
        return store.names(folder)

    with RunLock(store, "run") as lock:
        monkeypatch.setattr(lock.impatient, "names", noted)
        wait_for(lambda: len(looked) > 4, 20, "the lock looks who is here")
        assert lock.content["beat"] == 0
        monkeypatch.undo()


def test_heartbeats_go_on_one_after_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.05)
    began = time.monotonic()
    with RunLock(store, "run") as lock:
        wait_for(lambda: lock.content["beat"] >= 4, 20, "it beats")
        assert time.monotonic() - began >= 4 * 0.05
        written = json.loads(store.get(f"{FOLDER}/{lock.name}") or b"{}")
        assert written["token"] == lock.content["token"]
    assert store.names(FOLDER) == []


def test_an_object_that_was_written_by_a_put_that_seemed_to_fail_is_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an answer is lost and the put is tried again: it then finds its own object there."""
    create = store.create
    monkeypatch.setattr(store, "create", lambda name, content: create(name, content) and False)
    with RunLock(store, "run") as lock:
        assert (lock.name, store.names(FOLDER)) == ("000001.json", ["000001.json"])
    monkeypatch.undo()
    store.put(f"{FOLDER}/000001.json", json.dumps({**lock.content, "token": "another", "pid": 1}).encode())
    monkeypatch.setattr(store, "names", lambda folder: [])  # it began at the same moment
    with pytest.raises(InputError, match="is at work here"):
        RunLock(store, "run").__enter__()
