"""URLs by a list of schemes: everything else is refused in one line, and nobody is sent to link-local addresses."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from sweeps.errors import InputError
from sweeps.io.filesystem import join, open_filesystem
from sweeps.io.guards.urls import check_folder, check_url, refuse_link_local
from sweeps.planning.plan import make_plan
from sweeps.storage.store import Store

REFUSED = {
    "s3:/lab/sweeps": "must be s3://BUCKET/FOLDER (a local path of that name: ./s3:/lab/sweeps)",
    "s3:lab": "must be s3://BUCKET/FOLDER",
    "S3://lab/sweeps": "must be s3://BUCKET/FOLDER",
    "s3://": "names no bucket: must be s3://BUCKET/FOLDER",
    "s3:///sweeps": "names no bucket: must be s3://BUCKET/FOLDER",
    "az:///sweeps": "names no container: must be az://CONTAINER/FOLDER",
    "memory://x": "unknown scheme memory:// of a URL; allowed: a local path, file:///FOLDER, s3://BUCKET/FOLDER",
    "foo://x": "unknown scheme foo:// of a URL",
    "foo:/x": "unknown scheme foo:// of a URL",
    "github://owner/x": "unknown scheme github://",
    "ssh://host/x": "unknown scheme ssh://",
    "data://x": "unknown scheme data://",
    "file://relative/x": "must be absolute, file:///FOLDER",
    "file:/x": "must be file:///FOLDER",
    "file://": "must be absolute",
    "local://x": "must be absolute",
    "http://host/x.zip": "is not read over the web: download it",
    "https://host/x.zip": "is not read over the web: download it",
    "hf://datasets/x": "a model of the hub is named owner/name",
    "simplecache::s3://lab/x": "is a URL within another (`::`), which is not followed",
    "zip://a::s3://lab/x.zip": "is a URL within another",
    "filecache::/tmp/x": "is a URL within another",
}
ALLOWED = ["s3://lab", "s3://lab/sweeps", "gs://lab/x", "gcs://lab/x", "az://box/x", "abfs://box/x"]
PATHS = ["/data/v1", "data/v1", "./s3:/x", "a:b", "C:x", "~/x", "x/s3://y", "file:///data/v1", "local:///data/v1", ""]


@pytest.mark.parametrize("url", REFUSED)
def test_others_are_refused_before_anything_is_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.url_to_fs", None)
    for use in (check_url, open_filesystem, Store, lambda url: join("/data", url)):
        with pytest.raises(InputError, match="^" + re.escape(url) + ".*" + re.escape(REFUSED[url])) as caught:
            use(url)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", [*ALLOWED, *PATHS])
def test_allowed_ones_pass(url: str) -> None:
    check_url(url)


def test_local_paths_are_what_they_were(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}", f"local://{tmp_path}"):
        assert open_filesystem(url)[1] == str(tmp_path)
    (tmp_path / "a:b").write_text("1")
    filesystem, path = open_filesystem(str(tmp_path / "a:b"))
    assert filesystem.cat_file(path) == b"1"


@pytest.mark.parametrize("url", [url for url in REFUSED if not url.startswith("file")])
def test_a_check_names_the_key(url: str, experiment: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage = .*" + re.escape(REFUSED[url])):
        make_plan(experiment, storage=url)
    with pytest.raises(InputError, match="--data = .*" + re.escape(REFUSED[url])):
        make_plan(experiment, data=url)
    [section] = experiment["recordings"]
    with pytest.raises(InputError, match=re.escape(REFUSED[url])):
        make_plan({**experiment, "recordings": [{**section, "path": url}]}, storage=str(tmp_path / "s"))
    with pytest.raises(InputError, match="cache"):
        make_plan(experiment, storage=str(tmp_path / "s"), cache=url)


def test_a_cache_is_a_local_folder() -> None:
    check_folder("cache/here", "--cache")
    check_folder("~/.cache/x", "--cache")
    with pytest.raises(InputError, match=r"^--cache = 's3://lab/cache': must be a local folder, not a URL$"):
        check_folder("s3://lab/cache", "--cache")


LINK_LOCAL = [
    "http://169.254.169.254/",
    "http://169.254.170.2",
    "169.254.169.254:80",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://[fe80::1%25eth0]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/",
    "http://metadata.google.internal/computeMetadata",
    "https://user@169.254.169.254/",
]


@pytest.mark.parametrize("endpoint", LINK_LOCAL)
def test_a_store_is_not_where_a_cloud_hands_out_credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, endpoint)
            with pytest.raises(InputError, match=f"^{variable} = .*: is a link-local address"):
                open_filesystem("s3://lab/x")
            open_filesystem("/data")


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9000", "https://minio.lab", "http://10.0.0.3", "minio"])
def test_a_lab_s_own_store_is_a_store(endpoint: str) -> None:
    refuse_link_local(endpoint, "AWS_ENDPOINT_URL")


class Counting(http.server.BaseHTTPRequestHandler):
    """Answers every request by sending the client elsewhere, or counts it."""

    protocol_version = "HTTP/1.1"
    location: str | None = None
    status = 307
    asked: list[str]

    def answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status if self.location else 200)
        if self.location:
            self.send_header("Location", self.location)
            self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(location: str | None, status: int = 307) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Counting,), {"location": location, "status": status, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_store_that_sends_its_clients_elsewhere_is_not_followed(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server elsewhere stands for one at a link-local address, which cannot be had without being root."""
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with serving(None) as (elsewhere, reached), serving(f"{elsewhere}/latest/meta-data", status) as (store, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        filesystem, path = open_filesystem("s3://lab/redirected")
        for call in (filesystem.cat_file, filesystem.info, filesystem.ls, lambda key: filesystem.pipe_file(key, b"1")):
            with pytest.raises(OSError):  # noqa: PT011
                call(path)
    assert asked
    assert reached == []
