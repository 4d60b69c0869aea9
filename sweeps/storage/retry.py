"""Retry with backoff, for an object store that is away for a while or asks for fewer requests."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sweeps.storage.storage_errors import is_transient

RETRY_SECONDS = 900.0
"""Seconds for which a running sweep retries its storage before it gives up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0

T = TypeVar("T")


def with_retries(action: Callable[[], T], place: str, seconds: float) -> T:
    """Return what an action gives; while its store is away or busy it is retried, for up to `seconds`.

    Pauses double from FIRST_PAUSE to LONGEST_PAUSE and are drawn between half and all of that, so that workers do not
    come back together. Refusals, and what is not there, are raised at once.
    """
    until, pause, warned = time.monotonic() + seconds, FIRST_PAUSE, False
    while True:
        try:
            return action()
        except Exception as error:
            left = until - time.monotonic()
            if left <= 0 or not is_transient(error):
                raise
            if not warned:
                why = f"{type(error).__name__}: {error}"
                logging.getLogger("sweeps").warning("%s does not answer (%s); trying for %.0f s", place, why, left)
                warned = True
        time.sleep(min(left, random.uniform(0.5, 1.0) * pause))
        pause = min(LONGEST_PAUSE, 2 * pause)
