"""What surrounds a run of Ray Tune: its environment, a folder for its state, and what it must not do.

Imports nothing of `models` or `metrics` at the top: a worker imports this module before it knows whether those
names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import OutOfMemoryError, RayActorError

from sweeps import interrupts
from sweeps.execution.connection.ray_internals import raising_for_memory
from sweeps.execution.store_environment import credentials_withheld
from sweeps.planning.failures import HELD

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # sweeps.interrupts takes it, and SIGTERM and SIGHUP
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class ActorOutOfMemoryError(OutOfMemoryError, RayActorError):
    """An actor that Ray's memory monitor has ended, with the line of Ray's text that says why.

    Tune would end the whole run for an error that is not a RayActorError.
    """

    def __init__(self, message: str) -> None:
        first, *others = (message.strip() or "its node was short of memory").splitlines()
        sizes = "".join(f"; {size[0]}" for line in others for size in HELD.finditer(line))
        self.message = f"the process died: {first}{sizes}"
        RayActorError.__init__(self, error_msg=self.message)


@contextmanager
def tune_surroundings() -> Iterator[str]:
    """Run Tune so that it neither copies credentials nor ends for one process; yields the folder for its state."""
    with (
        _tune_environment() as folder,
        raising_for_memory(ActorOutOfMemoryError),
        credentials_withheld(),
        _named_by_interrupt(),
    ):
        yield folder


@contextmanager
def _tune_environment() -> Iterator[str]:
    """Set what Tune reads from the environment; yields a temporary folder for its state, removed at the end."""
    folder = tempfile.mkdtemp(prefix="cortex-sweeps-tune-")
    before = {name: os.environ.get(name) for name in TUNE_ENVIRONMENT}
    os.environ.update(TUNE_ENVIRONMENT)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _named_by_interrupt() -> Iterator[None]:
    """Let an error be that of an interrupt which has come: one that ends a whole group of processes ends Ray's, too."""
    try:
        yield
    except Exception:
        interrupts.check()
        raise
