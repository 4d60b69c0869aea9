"""Which errors are those of a store, a disk, credentials or Ray; and a store that refuses in mid-run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, NoCredentialsError  # type: ignore[import-untyped]
from ray.exceptions import ActorDiedError, ObjectLostError, OutOfDiskError, RayTaskError
from s3fs.errors import translate_boto_error  # type: ignore[import-untyped]

from sweeps.commands.run import named_environment
from sweeps.errors import InputError, Unavailable
from sweeps.storage import retry
from sweeps.storage.retry import EnvironmentProblem, is_environment, is_missing, meaning_of
from sweeps.storage.store import Store


def answer(code: str, status: int) -> OSError:
    """What s3fs raises for an answer of an object store."""
    error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
    raised: OSError = translate_boto_error(error)
    return raised


def of_task(cause: Exception) -> Exception:
    """What Ray raises for a task that raised."""
    error: Exception = RayTaskError("task", "traceback", cause).as_instanceof_cause()
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    """An error with a cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "environment"),
    [
        (answer("AccessDenied", 403), True),
        (answer("ExpiredToken", 400), True),
        (answer("InvalidToken", 400), True),
        (answer("SlowDown", 503), True),
        (answer("NoSuchKey", 404), False),
        (answer("PreconditionFailed", 412), False),
        (NoCredentialsError(), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EROFS, "read-only"), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (OSError(errno.ENOTCONN, "the mount is gone"), True),
        (OSError(errno.EINVAL, "invalid"), False),
        (PermissionError(), True),
        (ConnectionResetError(), True),
        (FileNotFoundError(), False),
        (MemoryError(), False),
        (ValueError(), False),
        (InputError("damaged"), False),
        (caused(InputError("cannot be read"), OSError(errno.ESTALE, "stale")), True),
        (ActorDiedError(), True),
        (ObjectLostError("0" * 56, None, ""), True),
        (OutOfDiskError("full"), True),
        (of_task(ValueError("of the cell")), False),
        (of_task(OSError(errno.ENOSPC, "full")), True),
    ],
)
def test_what_is_of_the_environment(error: Exception, environment: bool) -> None:
    assert is_environment(error) is environment


def test_an_expired_token_and_a_full_disk_are_named() -> None:
    assert meaning_of(answer("ExpiredToken", 400)) == "the credentials have expired: renew them"
    assert meaning_of(OSError(errno.ENOSPC, "No space left on device")) == "cannot be written: the disk is full"


def test_a_missing_file_is_of_the_environment_where_it_was_there_before() -> None:
    error = caused(InputError("no such file"), FileNotFoundError("/data/monkey/images/0001.png"))
    assert is_missing(error, ["/data/monkey"])
    assert not is_missing(error, ["/data/mouse"])
    assert not is_missing(ValueError("/data/monkey"), ["/data/monkey"])


class Refusing(Store):
    """A local store that refuses so many writes."""

    refusals = 2

    def _put_file(self, name: str, content: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super()._put_file(name, content)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """A store that is retried soon, and of which is said soon that it is away."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    return Refusing(str(tmp_path / "rows"), retry_seconds=30.0)


def test_a_store_that_refuses_in_mid_run_is_waited_for_with_one_line(store: Refusing) -> None:
    lines: list[str] = []
    store.begin(lines.append)
    store.put("a", b"content")
    assert store.get("a") == b"content"
    first, last = lines
    assert first.startswith(f"{store.uri}: cannot be written: the disk is full, since ")
    assert first.endswith("; waiting up to 30 s")
    assert last.startswith(f"{store.uri}: can be used again")


def test_it_is_said_again_as_long_as_it_lasts(store: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "SAY_SECONDS", 0.0)
    lines: list[str] = []
    store.begin(lines.append)
    store.refusals = 3
    store.put("a", b"content")
    assert len(set(lines[:3])) == 1
    assert len(lines) == 4


def test_what_refuses_at_the_start_is_an_error_at_once(store: Refusing) -> None:
    with pytest.raises(OSError, match="No space left"):
        store.put("a", b"content")
    assert store.refusals == 1


def test_who_has_waited_in_vain_does_not_wait_again(store: Refusing) -> None:
    store.begin(lambda line: None)
    store.retry_seconds, store.refusals = 0.05, 10**6
    with pytest.raises(OSError, match="No space left"):
        store.put("a", b"content")
    tries = store.refusals
    with pytest.raises(OSError, match="No space left"):
        store.put("a", b"content")
    assert tries - store.refusals == 1


def test_credentials_are_read_anew_before_a_refused_call_is_tried_again(
    store: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[int] = []
    monkeypatch.setattr(Store, "renew_credentials", lambda self: renewed.append(store.refusals))
    store.begin(lambda line: None)
    store.put("a", b"content")
    assert renewed == [1, 0]


def test_a_run_ends_in_one_line_that_tells_how_it_goes_on() -> None:
    denied = r"storage = 's3://lab': access denied.*the same command goes on"
    with pytest.raises(Unavailable, match=denied) as raised, named_environment("s3://lab"):
        raise answer("AccessDenied", 403)
    assert "\n" not in str(raised.value)
    with pytest.raises(Unavailable, match="Ray failed"), named_environment("s3://lab"):
        raise ActorDiedError
    with pytest.raises(ZeroDivisionError), named_environment("s3://lab"):
        raise ZeroDivisionError
    assert not issubclass(EnvironmentProblem, InputError)
