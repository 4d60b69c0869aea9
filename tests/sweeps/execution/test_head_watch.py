"""A head of Ray that no longer answers is noticed, and ends a run that hangs in a call to Ray."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from processes import environment, wait_for

from sweeps import interrupts
from sweeps.execution.connection import head_watch
from sweeps.execution.connection.head_watch import HeadLost, HeadWatch


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Something that listens as a head does; probes come quickly."""
    monkeypatch.setattr(head_watch, "PROBE_SECONDS", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_lost_head_is_raised_where_interrupts_are(head: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", lambda _: time.sleep(1))  # on a busy machine it may come to that first
    theirs = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts.handled():
            with HeadWatch(address_of(head), patience=60.0):
                time.sleep(0.2)
                interrupts.check()
            watch = HeadWatch(address_of(head), patience=1.0)
            with pytest.raises(HeadLost), watch:  # noqa: PT012
                head.close()
                wait_for(lambda: watch.lost, 30, "the loss is noticed")
                watch.patience = 1e6
                interrupts.check()
            assert watch.is_gone()
            assert "no longer answers: start Ray again, and the same command goes on from here" in str(watch.problem())
        interrupts.check()
    finally:
        signal.signal(signal.SIGINT, theirs)


def test_without_an_address_nothing_is_lost() -> None:
    with HeadWatch("") as watch:
        assert not watch.is_gone()


HANGS = """
import time
from sweeps.execution.connection import head_watch
head_watch.PROBE_SECONDS = 0.02
with head_watch.HeadWatch("127.0.0.1:1", patience=0.5):
    time.sleep(60)
"""


def test_a_run_that_hangs_without_its_head_is_ended_in_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], env=environment(), capture_output=True, text=True, timeout=50)
    assert ended.returncode == 75
    assert ended.stderr.startswith("error: Ray's head at 127.0.0.1:1 no longer answers")
    assert ended.stderr.count("\n") == 1
