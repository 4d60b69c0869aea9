"""Ctrl-C, SIGTERM and SIGHUP: how a command is asked to end, and where it does."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

USUAL = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""Signals that end a command, with the handlers that are replaced; ignored ones (nohup) and a program's own stay."""

ECHO_SECONDS = 0.3
"""A signal that follows another this soon is its echo: `timeout` and shells signal a process and then its group."""

SLICE = 0.1

EXIT_LINE = b"interrupted once more: ended at once\n"


class Interrupted(KeyboardInterrupt):
    """A signal has asked for the end."""


class _Signals:
    """What has come so far. The first signal waits for `postponed` work, the second does not, the third ends all."""

    def __init__(self) -> None:
        self.installed = False
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.first, self.count, self.latest = 0, 0, float("-inf")
        self.postponed, self.shielded, self.over = 0, 0, False
        self.demanded: Interrupted | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: end the process, raise Interrupted, or leave a note for `check`."""
        now = time.monotonic()
        echo, self.latest = now - self.latest < ECHO_SECONDS, now
        self.count += not echo
        self.first = self.first or number
        if self.over or self.count > 2:
            self._exit()
        if not echo and not self.shielded and not (self.postponed and self.count == 1):
            raise Interrupted

    def _exit(self) -> None:
        if not self.over:
            with suppress(OSError):
                os.write(2, EXIT_LINE)
        os._exit(128 + self.first)


_SIGNALS = _Signals()


def install() -> dict[Any, Any]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise Interrupted in the main thread; the handlers that were there before."""
    _SIGNALS.forget()
    _SIGNALS.installed = True
    theirs = {number: usual for number, usual in USUAL.items() if signal.getsignal(number) == usual}
    return {number: signal.signal(number, _SIGNALS.take) for number in theirs}


@contextmanager
def handled() -> Iterator[None]:
    """Let signals raise Interrupted meanwhile, unless that is so already; in a thread nothing is changed."""
    if _SIGNALS.installed or not _in_main_thread():
        yield
        return
    before = install()
    try:
        yield
    finally:
        _SIGNALS.installed = False
        _SIGNALS.forget()
        for number, handler in before.items():
            signal.signal(number, handler)


def finish() -> None:
    """Say that the command is over: a signal that comes now ends the process without a word."""
    _SIGNALS.over = True


def received() -> int:
    """Give the number of the first signal that has come, 0 before it."""
    return _SIGNALS.first


def is_urgent() -> bool:
    """Tell whether a second signal has come: nothing more is to be finished."""
    return _SIGNALS.count > 1


def exit_code() -> int:
    """Give the exit code of a command that was interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP."""
    return 128 + (received() or signal.SIGINT)


def check() -> None:
    """Raise Interrupted where a signal has come or an end was demanded; in the main thread alone."""
    if not _in_main_thread():
        return
    if _SIGNALS.first:
        raise Interrupted
    if _SIGNALS.demanded is not None:
        raise _SIGNALS.demanded


def demand(end: Interrupted) -> None:
    """Ask the main thread to raise this at its next `check`, for another thread that has seen why."""
    _SIGNALS.demanded = end


def pause(seconds: float) -> None:
    """Sleep; raises Interrupted once a signal has come, a postponed one included."""
    until = time.monotonic() + seconds
    check()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(SLICE, left))
        check()


@contextmanager
def postponed() -> Iterator[None]:
    """Let a first signal wait until `check`, `pause` or the end of this; a second one raises at once."""
    _SIGNALS.postponed += 1
    try:
        yield
    finally:
        _SIGNALS.postponed -= 1
    if not _SIGNALS.postponed:
        check()


@contextmanager
def shielded() -> Iterator[None]:
    """Let no signal raise meanwhile: for what ends processes. A third one still ends this one."""
    _SIGNALS.shielded += 1
    try:
        yield
    finally:
        _SIGNALS.shielded -= 1


@contextmanager
def kept() -> Iterator[None]:
    """Keep the handlers through code that sets its own, and keep SIGHUP from the processes that it starts.

    A closed terminal signals every process of its group; those that are blocked here stay until they are ended. The
    SystemExit of a handler that was set meanwhile becomes Interrupted; one that comes out of native code is raised by
    the first Python function after it, so that contexts within this one may not see it.
    """
    main = _in_main_thread()
    before = {number: signal.getsignal(number) for number in USUAL} if main else {}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    except SystemExit:
        _SIGNALS.first = _SIGNALS.first or signal.SIGTERM
        raise Interrupted from None
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
