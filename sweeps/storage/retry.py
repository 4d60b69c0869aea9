"""Waiting for an object store that is away for a while, or asks for fewer requests."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

PATIENCE = 900.0
"""Seconds for which a running sweep waits for its storage before it gives up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0

BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded", "OperationAborted"}
"""Codes of an object store that mean: later."""

AWAY = {
    "HTTPClientError",
    "ConnectionError",
    "FSTimeoutError",
    "ClientPayloadError",
    "ClientConnectionError",
    "ResponseParserError",
    "IncompleteRead",
    "TimeoutError",
}
"""Names of what libraries raise where nobody answers; botocore, aiohttp and urllib3 are not imported for them."""

ERRNOS = {errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, getattr(errno, "EREMOTEIO", errno.EIO)}

T = TypeVar("T")


def patiently(action: Callable[[], T], place: str, patience: float) -> T:
    """What an action gives; while its store is away or busy it is tried again, up to `patience` seconds.

    Pauses double from FIRST_PAUSE to LONGEST_PAUSE and are drawn between half and all of that, so that workers do not
    come back together. Refusals, and what is not there, are raised at once.
    """
    until, pause, told = time.monotonic() + patience, FIRST_PAUSE, False
    while True:
        try:
            return action()
        except Exception as error:
            left = until - time.monotonic()
            if left <= 0 or not passing(error):
                raise
            if not told:
                why = f"{type(error).__name__}: {error}"
                logging.getLogger("sweeps").warning("%s does not answer (%s); trying for %.0f s", place, why, left)
                told = True
        time.sleep(min(left, random.uniform(0.5, 1.0) * pause))
        pause = min(LONGEST_PAUSE, 2 * pause)


def passing(error: BaseException) -> bool:
    """Whether an error of an object store may be gone in a while."""
    return any(_passing(each) for each in _causes(error))


def _passing(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status in (408, 429) or 500 <= status != 501 or response.get("Error", {}).get("Code") in BUSY
    named = {kind.__name__ for kind in type(error).__mro__}
    return bool(named & AWAY) or (isinstance(error, OSError) and error.errno in ERRNOS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
