"""Looks whether Ray's head still answers, and ends the run in one line when it is gone.

Ray itself would end the process without a word to Python, after `RAY_gcs_rpc_server_reconnect_timeout_s`, and every
call to Ray, `ray.shutdown` included, may hang until then.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sweeps import interrupts
from sweeps.errors import InputError, Unavailable

RAYS_SECONDS = float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60"))  # noqa: SIM112
"""Seconds after which Ray ends a process whose head is gone."""

PROBE_SECONDS, ANSWER_SECONDS = 2.0, 5.0


class HeadLost(interrupts.Interrupted):
    """Ray's head no longer answers."""


class HeadGone(Unavailable):
    """The same, for whoever runs a sweep; Ray is not asked for anything any more."""


class HeadWatch:
    """Tries to reach a head of Ray at host:port every PROBE_SECONDS, in a thread; without an address it does nothing.

    After half of `patience` (and at least three attempts in a row) without an answer, HeadLost is raised where the run
    looks for interrupts; a run that hangs in a call to Ray is ended with a line and exit code 75 after five sixths.
    """

    def __init__(self, address: str, patience: float = RAYS_SECONDS) -> None:
        self.address, self.patience = address, patience
        self.lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sweeps-head-watch", daemon=True)

    def __enter__(self) -> HeadWatch:
        if self.address:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.lost:
            self._over.set()

    def answers(self) -> bool:
        """Tell whether something listens at the address."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        except OSError:
            return False
        return True

    def problem(self) -> HeadGone:
        """Say that the head is gone, and what to do."""
        return HeadGone(
            f"Ray's head at {self.address} no longer answers: start Ray again, and the same command goes on from here"
        )

    def is_gone(self) -> bool:
        """Tell whether an error that has come may be that of a head which does not answer."""
        self.lost = self.lost or (bool(self.address) and not self.answers())
        return self.lost

    def _look(self) -> None:
        began, failures = time.monotonic(), 0
        while not self._over.wait(PROBE_SECONDS):
            if self.answers():
                began, failures = time.monotonic(), 0
                continue
            failures += 1
            silent = time.monotonic() - began
            if failures >= 3 and silent > self.patience / 2 and not self.lost:
                self.lost = True
                interrupts.demand(HeadLost())
            if failures >= 3 and silent > self.patience * 5 / 6:
                with suppress(OSError):
                    os.write(2, f"error: {self.problem()}\n".encode())
                os._exit(75)


@contextmanager
def watched(address: str) -> Iterator[None]:
    """Watch a head meanwhile; HeadGone where it is lost, also in place of the error that its loss has caused."""
    watch = HeadWatch(address)
    try:
        with watch:
            yield
    except HeadLost:
        raise watch.problem() from None
    except InputError:
        raise
    except Exception:
        if watch.is_gone():
            raise watch.problem() from None
        raise
