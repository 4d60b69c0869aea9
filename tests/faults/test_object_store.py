"""A real S3 server that is killed, refuses, and knows conditional puts; one that does not."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError  # type: ignore[import-untyped]
from processes import wait_for
from s3 import Stoppable, stoppable

import sweeps
from sweeps.errors import InputError
from sweeps.storage.compaction import compact
from sweeps.storage.parquet import from_bytes
from sweeps.storage.retry import is_transient, storage_error, with_retries
from sweeps.storage.row_log import RowLog
from sweeps.storage.run_lock import FOLDER, RunLock
from sweeps.storage.store import Store


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stoppable]:
    """A server that this process talks to, and that may be killed."""
    with stoppable(tmp_path_factory.mktemp("s3")) as found, found.server.reached():
        yield found


def test_locks_and_compaction_on_a_server_with_conditional_puts(held: Stoppable) -> None:
    store = Store(f"{held.server.uri}/locked")
    store.put("experiment.yaml", b"name: small\n")
    messages: list[str] = []
    with RunLock(store, "run", say=messages.append):
        assert store.create(f"{FOLDER}/000001.json", b"another") is False
        with pytest.raises(InputError, match="is at work here"):
            RunLock(store, "run").__enter__()
    assert messages == []
    assert store.names(FOLDER) == []

    row_log = RowLog(store, {})
    for number in range(3):
        row_log.write("cells", [{"cell_id": str(number), "status": "done"}])
    before = sweeps.load(store.uri, "cells")
    found = compact(store.uri)
    assert [(each.rows, each.removed) for each in found] == [(3, 3)]
    assert store.part_names("cells") == []
    assert sweeps.load(store.uri, "cells").equals(before)


def test_a_store_without_conditional_puts_is_told_of(held: Stoppable, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{held.server.uri}/plain")
    real = store.fs.pipe_file

    def ignoring(path: str, content: bytes, mode: str = "overwrite", **options: Any) -> Any:
        return real(path, content, **options)

    monkeypatch.setattr(store.fs, "pipe_file", ignoring)
    messages: list[str] = []
    with RunLock(store, "run", say=messages.append):
        assert len(messages) == 1
        assert "no conditional puts" in messages[0]
        with pytest.raises(InputError, match="is at work here"):
            RunLock(store, "run").__enter__()


def test_a_server_that_is_killed_is_waited_for(held: Stoppable, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(f"{held.server.uri}/retried", retry_seconds=60.0)
    row_log = RowLog(store, {})
    row_log.write("cells", [{"cell_id": "a", "status": "done"}])
    held.kill()

    def warned() -> bool:
        return any("does not answer" in record.message for record in caplog.records)

    def come_back() -> None:
        wait_for(warned, 50, "the user is warned")  # the first seconds are bridged by s3fs and botocore themselves
        held.restart()

    back = threading.Thread(target=come_back)
    back.start()
    row_log.write("cells", [{"cell_id": "b", "status": "done"}])
    row_log.fold()
    back.join()
    assert sweeps.load(store.uri, "cells")["cell_id"].tolist() == ["a", "b"]
    assert warned()
    assert held.server.secret_key not in caplog.text


def test_what_is_refused_is_not_tried_again(held: Stoppable, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    store = Store(f"{held.server.uri}-that-is-not-there/rows", retry_seconds=60.0)
    with pytest.raises(InputError, match="no such bucket"):
        store.check_writable()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        with pytest.raises(InputError, match="access denied: check the credentials"):
            sweeps.load(f"{held.server.uri}/retried", "cells")
        with (
            pytest.raises(InputError, match="access denied"),
            RunLock(Store(f"{held.server.uri}/retried", 60.0), "run"),
        ):
            pass
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert time.monotonic() - began < 20


def refused(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (refused("SlowDown", 503), True),
        (refused("InternalError", 500), True),
        (refused("ServiceUnavailable", 503), True),
        (refused("TooManyRequests", 429), True),
        (refused("RequestTimeout", 400), True),
        (refused("AccessDenied", 403), False),
        (refused("NoSuchKey", 404), False),
        (refused("PreconditionFailed", 412), False),
        (refused("NotImplemented", 501), False),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.EBUSY, "busy"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (PermissionError(), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
    ],
)
def test_what_is_retried(error: Exception, later: bool) -> None:
    assert is_transient(error) is later
    wrapped = OSError(errno.EIO, "as s3fs passes it on") if isinstance(error, ClientError) else error
    wrapped.__cause__ = error if wrapped is not error else None
    assert is_transient(wrapped) is later


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (refused("SlowDown", 503), "the object store is busy"),
        (refused("AccessDenied", 403), "access denied"),
        (refused("ExpiredToken", 400), "the credentials have expired"),
        (refused("RequestTimeTooSkewed", 403), "this machine's clock differs from that of the object store"),
        (refused("SignatureDoesNotMatch", 403), "access denied"),
        (refused("NoSuchBucket", 404), "no such bucket"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "the object store does not answer"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (NotADirectoryError(), "a file is in the way"),
        (OSError(errno.ENOSPC, "No space left"), "cannot be written: the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "cannot be written (OSError: [Errno 5] Input/output error)"),
    ],
)
def test_what_an_error_means_is_said_without_credentials(error: Exception, meaning: str) -> None:
    described = storage_error("s3://somewhere", error)
    assert meaning in described.problem
    assert (described.key, described.value) == ("storage", "s3://somewhere")


def test_retries_end() -> None:
    tried: list[float] = []

    def action() -> None:
        tried.append(time.monotonic())
        raise TimeoutError("nobody answers")

    with pytest.raises(TimeoutError, match="nobody answers"):
        with_retries(action, "s3://somewhere", 1.2)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert 1.1 < sum(pauses) < 2.0
    assert 0.2 < pauses[0] < 0.6


def test_a_part_and_a_fold_are_one_request_each_way(held: Stoppable, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{held.server.uri}/counted")
    monkeypatch.setattr(store.fs, "default_block_size", 100)  # what is larger s3fs calls large

    def requests(action: Callable[[], Any], **wanted: int) -> Any:
        before = held.server.requests()
        found = action()
        assert held.server.requests() - before == wanted
        return found

    assert requests(lambda: store.get("cells/cells.parquet"), GET=1) is None
    name, content = requests(lambda: store.write_rows("cells", [{"cell_id": "a", "status": "done"}]), PUT=1)
    assert requests(lambda: store.get_part("cells", name), GET=1) == content
    rows = from_bytes(content)
    requests(lambda: store.write_fold("cells", rows, [name]), PUT=1)
    assert requests(lambda: store.read_fold("cells"), GET=1)[1] == {name}
