"""The S3 server that other tests rely on: it starts, keeps objects, refuses strangers, and ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from s3 import S3Server, seaweedfs

s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


def test_put_get_and_list_without_a_cache(server: S3Server) -> None:
    store = s3fs.S3FileSystem(**server.storage_options, skip_instance_cache=True)
    assert store.find(server.bucket) == []
    store.pipe_file(f"{server.bucket}/trials/one", b"first")
    assert store.find(server.bucket) == [f"{server.bucket}/trials/one"]
    server.client().put_object(Bucket=server.bucket, Key="trials/two", Body=b"second")
    assert store.find(f"{server.bucket}/trials") == [f"{server.bucket}/trials/{name}" for name in ("one", "two")]
    store.pipe_file(f"{server.bucket}/trials/one", b"replaced")
    assert store.cat_file(f"{server.bucket}/trials/one") == b"replaced"


def test_the_environment_alone_is_enough(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    store.pipe_file(f"{server.bucket}/environment", b"x")
    assert store.cat_file(f"{server.bucket}/environment") == b"x"


def test_strangers_and_unknown_buckets_are_refused(server: S3Server) -> None:
    stranger = server.storage_options | {"secret": "another"}
    with pytest.raises(PermissionError):
        s3fs.S3FileSystem(**stranger, skip_instance_cache=True).pipe_file(f"{server.bucket}/a", b"x")
    owner = s3fs.S3FileSystem(**server.storage_options, skip_instance_cache=True)
    with pytest.raises(FileNotFoundError):
        owner.pipe_file("no-such-bucket/a", b"x")


def test_two_at_once_and_only_their_own_process_is_ended(
    server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with seaweedfs(tmp_path_factory.mktemp("second"), bucket="other") as second:
        assert second.url != server.url
        assert [entry["Name"] for entry in second.client().list_buckets()["Buckets"]] == ["other"]
    with pytest.raises(ProcessLookupError):
        os.kill(second.pid, 0)
    assert server.client().head_bucket(Bucket=server.bucket)
