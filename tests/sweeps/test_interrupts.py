"""Signals that end a command: where they are raised, what a second one does, and that handlers are given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from processes import environment

from sweeps import interrupts
from sweeps.interrupts import Interrupted, handled, postponed
from sweeps.storage.retry import with_retries

BY_HAND = 2 * interrupts.ECHO_SECONDS


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals as a program finds them, whatever another test of this process has set; the same again afterwards."""
    before = {number: signal.signal(number, usual) for number, usual in interrupts.USUAL.items()}
    yield
    assert {number: signal.getsignal(number) for number in before} == interrupts.USUAL
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_raises_and_gives_its_exit_code(number: int, code: int) -> None:
    with handled():
        with pytest.raises(Interrupted):
            send(number)
        assert (interrupts.received(), interrupts.exit_code()) == (number, code)
        assert not interrupts.is_urgent()


def test_a_postponed_signal_waits_for_the_end_and_a_second_one_does_not() -> None:
    done = []
    with handled(), pytest.raises(Interrupted), postponed():  # noqa: PT012
        send(signal.SIGTERM)
        done.append("written")
        with postponed():
            done.append("folded")
    assert done == ["written", "folded"]
    with handled(), postponed():
        send(signal.SIGINT)
        time.sleep(BY_HAND)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
        assert interrupts.is_urgent()
        interrupts._SIGNALS.forget()


def test_an_echo_is_no_second_signal() -> None:
    """`timeout` signals the process, and then its whole group."""
    done = []
    with handled(), pytest.raises(Interrupted), postponed():  # noqa: PT012
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        done.append("written")
    assert done == ["written"]


def test_waiting_for_a_store_ends_with_a_postponed_signal() -> None:
    def away() -> None:
        raise ConnectionError("away")

    timer = threading.Timer(0.3, send, [signal.SIGTERM])
    began = time.monotonic()
    with handled(), pytest.raises(Interrupted), postponed():  # noqa: PT012
        timer.start()
        with_retries(away, "s3://somewhere", 60.0)
    assert time.monotonic() - began < 30
    timer.join()


def test_a_thread_waits_on_and_changes_no_handler() -> None:
    """The heartbeat of the lock retries in a thread: an interrupt is the main thread's."""
    ended = []

    def work() -> None:
        with handled():
            interrupts.pause(0.2)
            ended.append(signal.getsignal(signal.SIGTERM))

    with handled(), pytest.raises(Interrupted), postponed():  # noqa: PT012
        send(signal.SIGINT)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert ended == [interrupts._SIGNALS.take]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended[1] == signal.SIG_DFL


def test_what_a_program_or_nohup_has_set_stays() -> None:
    theirs = lambda number, frame: None  # noqa: E731
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, theirs)
    with handled():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is theirs
        send(signal.SIGHUP)
        assert not interrupts.received()
    for number, usual in interrupts.USUAL.items():
        signal.signal(number, usual)


def test_handlers_of_others_do_not_stay_and_their_exit_is_an_interrupt() -> None:
    """Ray takes SIGTERM while it starts, and exits."""

    def leave(number: int, frame: object) -> None:
        sys.exit(1)

    with handled():
        with pytest.raises(Interrupted), interrupts.kept():  # noqa: PT012
            signal.signal(signal.SIGTERM, leave)
            send(signal.SIGTERM)
        assert interrupts.exit_code() == 143
        assert signal.getsignal(signal.SIGTERM) == interrupts._SIGNALS.take


def test_a_closed_terminal_does_not_end_what_was_started_meanwhile() -> None:
    with handled(), interrupts.kept():
        child = subprocess.Popen(
            [sys.executable, "-c", "import signal; print(signal.pthread_sigmask(0, []))"], stdout=-1
        )
    assert child.communicate()[0].decode().strip() == "{<Signals.SIGHUP: 1>}"
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_nothing_is_remembered_of_an_interrupted_run() -> None:
    """A notebook goes on: reading a store that is away is then waited for as ever."""
    with handled(), pytest.raises(Interrupted):
        send(signal.SIGINT)
    interrupts.pause(0.0)
    assert not interrupts.received()


SHIELDED = """
import os, signal, time
from sweeps import interrupts
interrupts.install()
with interrupts.shielded():
    for _ in range(int(os.environ["TIMES"])):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.4)
print("ended by itself")
"""


@pytest.mark.parametrize(("times", "code", "said"), [(2, 0, "ended by itself"), (3, 130, "")])
def test_what_ends_processes_is_shielded_until_the_third_signal(times: int, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SHIELDED], env=environment() | {"TIMES": str(times)}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout.strip()) == (code, said)
