"""What errors of a storage place mean, and retries with backoff while it is away or asks for fewer requests."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from sweeps import interrupts
from sweeps.errors import InputError


@dataclass(frozen=True)
class ErrorKind:
    """One meaning of a storage error.

    An error has this meaning where its type and message hold one of `words`. It is worth a retry where one of its
    types bears a name of `types` (botocore, aiohttp and urllib3 are not imported for them), where it is an OSError
    with one of `errnos`, or where an object store has answered with one of `codes`.
    """

    meaning: str
    words: tuple[str, ...]
    types: frozenset[str] = frozenset()
    errnos: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()


CLOCK = "this machine's clock differs from that of the object store: set it (NTP)"

KINDS = (
    ErrorKind(CLOCK, words=("RequestTimeTooSkewed", "Signature not yet current", "Signature expired")),
    ErrorKind(
        "the credentials have expired: renew them",
        words=("ExpiredToken", "TokenRefreshRequired", "Token has expired", "token provided has expired", "SSOToken"),
    ),
    ErrorKind(
        "no AWS credentials were found (environment, profile or role)",
        words=("NoCredentials", "Unable to locate credentials"),
    ),
    ErrorKind(
        "access denied: check the credentials and their permission to write here",
        words=("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Forbidden", "403", "PermissionError"),
    ),
    ErrorKind("no such bucket", words=("NoSuchBucket", "bucket does not exist")),
    ErrorKind(
        "the object store does not answer (AWS_ENDPOINT_URL)",
        words=("EndpointConnectionError", "ConnectTimeout", "Could not connect", "Connection refused", "FSTimeout"),
        types=frozenset(
            {
                "HTTPClientError",
                "ConnectionError",
                "FSTimeoutError",
                "ClientPayloadError",
                "ClientConnectionError",
                "ResponseParserError",
                "IncompleteRead",
                "TimeoutError",
            }
        ),
        errnos=frozenset(
            {
                errno.EBUSY,
                errno.ETIMEDOUT,
                errno.ECONNRESET,
                errno.ECONNREFUSED,
                getattr(errno, "EREMOTEIO", errno.EIO),
            }
        ),
    ),
    ErrorKind(
        "the object store is busy, or asks for fewer requests",
        words=("SlowDown", "Throttling", "RequestLimitExceeded"),
        codes=frozenset(
            {
                "SlowDown",
                "Throttling",
                "ThrottlingException",
                "RequestTimeout",
                "RequestLimitExceeded",
                "OperationAborted",
            }
        ),
    ),
    ErrorKind("cannot be written: the file system is read-only", words=("ReadOnly", "Read-only")),
    ErrorKind(
        "cannot be written: a file is in the way",
        words=("NotADirectory", "FileExists", "IsADirectory"),
    ),
)
"""Every kind of error that is told apart; the first whose words an error holds gives its meaning."""


def storage_error(uri: str, error: Exception) -> InputError:
    """Describe what went wrong with a storage place, in the user's words; credentials are never repeated."""
    text = f"{type(error).__name__}: {error}"
    codes = " ".join(_code(cause) for cause in _causes(error))
    meanings = (kind.meaning for kind in KINDS if any(word in f"{codes} {text}" for word in kind.words))
    meaning = next(meanings, f"cannot be written ({text})")
    return InputError(_with_minutes(meaning, error) if meaning == CLOCK else meaning, key="storage", value=uri)


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _with_minutes(meaning: str, error: BaseException) -> str:
    """Say by how much the clock is off, as far as the answer of the store bears its own time."""
    for cause in _causes(error):
        response = getattr(cause, "response", None) or {}
        with suppress(KeyError, TypeError, ValueError):
            theirs = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
            minutes = (_now() - theirs).total_seconds() / 60
            place = "ahead of" if minutes > 0 else "behind"
            return meaning.replace("differs from", f"is {abs(minutes):.0f} minutes {place}")
    return meaning


def _now() -> datetime:
    return datetime.now(UTC)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error of an object store, or one of its causes, may be gone in a while."""
    return any(_is_transient(cause) for cause in _causes(error))


def _is_transient(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = response.get("Error", {}).get("Code")
        return status in (408, 429) or 500 <= status != 501 or any(code in kind.codes for kind in KINDS)
    names = {base.__name__ for base in type(error).__mro__}
    number = error.errno if isinstance(error, OSError) else None
    return any(names & kind.types or number in kind.errnos for kind in KINDS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


RETRY_SECONDS = 900.0
"""Seconds for which a running sweep retries its storage before it gives up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0

T = TypeVar("T")


def with_retries(action: Callable[[], T], place: str, seconds: float) -> T:
    """Return what an action gives; while its store is away or busy it is retried, for up to `seconds`.

    Pauses double from FIRST_PAUSE to LONGEST_PAUSE and are drawn between half and all of that, so that workers do not
    come back together. Refusals, and what is not there, are raised at once. An interrupt ends the wait.
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
        interrupts.pause(min(left, random.uniform(0.5, 1.0) * pause))
        pause = min(LONGEST_PAUSE, 2 * pause)
