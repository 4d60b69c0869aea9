"""A wrong clock is told from denied access."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import botocore.auth  # type: ignore[import-untyped]
import pytest
from s3 import S3Server, seaweedfs

from sweeps.errors import InputError
from sweeps.storage import retry
from sweeps.storage.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("s3")) as server, server.reached():
        yield server


@pytest.mark.parametrize(
    ("minutes", "words"), [(40, "is 40 minutes ahead of that"), (-61, "is 61 minutes behind that"), (5, "")]
)
def test_a_clock_that_is_wrong_is_named_with_its_error(
    server: S3Server, minutes: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(remove_tzinfo: bool = True) -> datetime:
        wrong = datetime.now(UTC) + timedelta(minutes=minutes)
        return wrong.replace(tzinfo=None) if remove_tzinfo else wrong

    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)
    monkeypatch.setattr(retry, "_now", lambda: now(remove_tzinfo=False))
    store = Store(f"{server.uri}/sweep")
    if not words:
        store.check_writable()  # a store allows a quarter of an hour
        return
    with pytest.raises(InputError) as refused:
        store.check_writable()
    assert refused.value.problem == f"this machine's clock {words} of the object store: set it (NTP)"
