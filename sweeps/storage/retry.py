"""What errors of a storage place mean, and retries with backoff while it is away or asks for fewer requests."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from sweeps import interrupts
from sweeps.errors import InputError, escaped, shortened
from sweeps.io.guards.secrets import redacted


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
        words=(
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "Token has expired",
            "token provided has expired",
            "SSOToken",
        ),
    ),
    ErrorKind(
        "no AWS credentials were found (environment, profile or role)",
        words=("NoCredentials", "Unable to locate credentials"),
    ),
    ErrorKind(
        "access denied: check the credentials and their permission to write here",
        words=("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Forbidden", "(403)", "PermissionError"),
    ),
    ErrorKind("no such bucket", words=("NoSuchBucket", "bucket does not exist")),
    ErrorKind(
        "the object store does not answer (AWS_ENDPOINT_URL)",
        words=(
            "EndpointConnectionError",
            "ConnectTimeout",
            "ReadTimeout",
            "Could not connect",
            "Connection refused",
            "Connection was closed",
            "Connection reset",
            "Server disconnected",
            "FSTimeout",
        ),
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
    ErrorKind("cannot be written: the disk is full", words=("No space left", "Disk quota exceeded")),
    ErrorKind("cannot be written: the file system is read-only", words=("ReadOnly", "Read-only")),
    ErrorKind(
        "cannot be written: a file is in the way",
        words=("NotADirectory", "FileExists", "IsADirectory"),
    ),
)
"""Every kind of error that is told apart; the first whose words an error holds gives its meaning."""


ENVIRONMENT_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EDQUOT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTCONN,
        errno.EROFS,
        errno.ESTALE,
    }
)
ENVIRONMENT_TYPES = frozenset(
    {
        "PermissionError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
    }
)
ENVIRONMENT_CODES = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
"""What tells, beside KINDS, that a disk, a mount, credentials or Ray itself failed: errnos, names of types, codes."""


class EnvironmentProblem(Exception):
    """A disk, a store, credentials or Ray failed, not what was computed: it is tried again and never blamed."""


def storage_error(uri: str, error: Exception) -> InputError:
    """Describe what went wrong with a storage place, in the user's words; credentials are never repeated."""
    return InputError(meaning_of(error), key="storage", value=uri)


def meaning_of(error: BaseException) -> str:
    """Say what an error of a storage place means; its own text, shortened, where that is not known."""
    causes = " ".join(f"{type(cause).__name__}: {cause}" for cause in _causes(error))
    text = escaped(redacted(" ".join(causes.split())))
    codes = " ".join(_code(cause) for cause in _causes(error))
    meanings = (kind.meaning for kind in KINDS if any(word in f"{codes} {text}" for word in kind.words))
    meaning = next(meanings, f"cannot be written ({shortened(text, 300)})")
    return _with_minutes(meaning, error) if meaning == CLOCK else meaning


def is_environment(error: BaseException) -> bool:
    """Tell whether an error, or one of its causes, is that of a disk, a store, credentials or Ray itself.

    A missing file and what is wrong with its content are not: who has seen the file before may tell.
    """
    return any(_is_transient(cause) or _is_environment(cause) for cause in _causes(error))


def is_missing(error: BaseException, places: Iterable[str]) -> bool:
    """Tell whether an error, or one of its causes, is that a file in one of these places is not there."""
    missing = [str(cause) for cause in _causes(error) if isinstance(cause, FileNotFoundError)]
    return any(place in text for place in places for text in missing)


def _is_environment(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status in (401, 403) or response.get("Error", {}).get("Code") in ENVIRONMENT_CODES
    names = {base.__name__ for base in type(error).__mro__}
    number = error.errno if isinstance(error, OSError) else None
    return bool(names & ENVIRONMENT_TYPES) or number in ENVIRONMENT_ERRNOS or is_of_ray(error)


def is_of_ray(error: BaseException) -> bool:
    """Tell whether Ray itself has failed; what a task raised is the `cause` of its RayTaskError."""
    names = {base.__name__ for base in type(error).__mro__}
    return "RayError" in names and "RayTaskError" not in names


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
        raised = getattr(error, "cause", None)  # by a task of Ray
        error = raised if isinstance(raised, BaseException) else error.__cause__


RETRY_SECONDS = 900.0
"""Seconds for which a command retries its storage; a sweep has `compute.storage_patience_minutes`."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0

SAY_SECONDS = 60.0
"""How often it is said that a store is still away."""

T = TypeVar("T")


def warn(line: str) -> None:
    """Say a line where nobody has asked for another way."""
    logging.getLogger("sweeps").warning("%s", line)


@dataclass(frozen=True)
class Waiting:
    """How a storage place is waited for: which errors, who is told, and what is done before a try that was refused."""

    waits_for: Callable[[BaseException], bool] = is_transient
    say: Callable[[str], None] = warn
    renew: Callable[[], None] = lambda: None


def with_retries(action: Callable[[], T], place: str, seconds: float, waiting: Waiting | None = None) -> T:
    """Return what an action gives; while its store is away or busy it is retried, for up to `seconds`.

    Pauses double from FIRST_PAUSE to LONGEST_PAUSE and are drawn between half and all of that, so that workers do not
    come back together. Refusals, and what is not there, are raised at once, unless `waiting` says otherwise. What is
    waited for, and since when, is said at once and every SAY_SECONDS. An interrupt ends the wait.
    """
    waiting = waiting or Waiting()
    until, pause, say_at, since = time.monotonic() + seconds, FIRST_PAUSE, 0.0, f"{datetime.now():%H:%M}"
    while True:
        try:
            result = action()
        except Exception as error:
            left = until - time.monotonic()
            if left <= 0 or not waiting.waits_for(error):
                raise
            if time.monotonic() >= say_at:
                waiting.say(_waiting_line(place, error, since, seconds))
                say_at = time.monotonic() + SAY_SECONDS
            if not is_transient(error):
                waiting.renew()
        else:
            if say_at:
                waiting.say(f"{place}: can be used again; it was waited for since {since}")
            return result
        interrupts.pause(min(left, random.uniform(0.5, 1.0) * pause))
        pause = min(LONGEST_PAUSE, 2 * pause)


def _waiting_line(place: str, error: Exception, since: str, seconds: float) -> str:
    """Say what is waited for, for example `s3://lab/rows: access denied, since 12:03; waiting up to 60 min`."""
    meaning = meaning_of(error)
    if is_transient(error) and meaning.startswith("cannot be written ("):
        meaning = meaning.replace("cannot be written", "does not answer", 1)
    longest = f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:.0f} s"
    return f"{place}: {meaning}, since {since}; waiting up to {longest}"
