"""The connection to the Ray cluster that packs run on.

Knows Ray, but not Ray Tune. Imports nothing of `models` or `metrics` at the top: a worker imports this module before it
knows whether those names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from sweeps import interrupts
from sweeps.errors import InputError
from sweeps.execution.head_watch import HeadLost, HeadWatch


@contextmanager
def connected(address: str | None, cpus: int | None = None, about: Mapping[str, str] | None = None) -> Iterator[str]:
    """A connection to Ray: the given address, else RAY_ADDRESS, else an own local cluster; yields its dashboard.

    A cluster that is up already (a notebook's own) is used as it is and left running; an own one is shut down.
    `about` becomes metadata of the job, by which the dashboard's job list can be told apart.
    """
    own = not ray.is_initialized()
    if own:
        joins, given = not starts_own(address), address or os.environ.get("RAY_ADDRESS", "")
        local: dict[str, Any] = {"num_cpus": cpus, "dashboard_host": "127.0.0.1"}
        try:
            check_answers(given)
            with _on_loopback() if not joins or is_on_loopback(given) else nullcontext(), _whole():
                ray.init(
                    address=address if joins else "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=JobConfig(metadata=dict(about or {})),
                    **({} if joins else local),
                )
        except (OSError, ValueError, RuntimeError) as error:
            problem = f"no Ray cluster can be reached: {error}"
            raise InputError(problem, key="address", value=given or "local") from None
    watch = HeadWatch(_head())
    try:
        with watch:
            yield getattr(ray._private.worker._global_node, "webui_url", None) or ""
    except HeadLost:
        raise watch.problem() from None
    except InputError:
        raise
    except Exception:
        if watch.is_gone():
            raise watch.problem() from None
        raise
    finally:
        if own and not watch.lost:  # else it would wait until Ray ends the process
            _shut_down()


def _head() -> str:
    """The address of the head's GCS, empty through a Ray client."""
    return "" if ray.util.client.ray.is_connected() else str(ray.get_runtime_context().gcs_address)


@contextmanager
def _whole() -> Iterator[None]:
    """Let Ray start or be joined as a whole: an interrupt waits for it, a second one ends what has been started."""
    try:
        with interrupts.postponed(), interrupts.kept():
            yield
    except KeyboardInterrupt:
        _shut_down()
        raise


def _shut_down() -> None:
    with interrupts.shielded():
        ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started inside listens on 127.0.0.1 alone, as it does on macOS; else on every interface.

    Ray has no argument for it: `_node_ip_address="127.0.0.1"` is replaced by the machine's address. Other processes
    join such a Ray only in here, too.
    """
    constants = ray._private.ray_constants
    usual, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual


def is_on_loopback(address: str) -> bool:
    """Whether an address is that of a Ray of this machine that listens on 127.0.0.1 alone."""
    services = ray._private.services
    if address == "auto":
        address = services.find_bootstrap_address(None) or next(iter(services.find_gcs_addresses()), "")
    host, _, port = address.rpartition(":")
    return host in ("127.0.0.1", "localhost") and f"127.0.0.1:{port}" in services.find_gcs_addresses()


def check_answers(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def token_command() -> str:
    """The command that prints the token that the dashboard asks for; empty where it asks for none.

    Ray keeps its mode in the environment: a local Ray of version 2.59 or later turns the token on there.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return ""
    command = "ray" if shutil.which("ray") else str(Path(sys.executable).with_name("ray"))
    return f"{command} get-auth-token"


def starts_own(address: str | None) -> bool:
    """Whether a run would start a Ray of its own."""
    return address is None and "RAY_ADDRESS" not in os.environ and not ray.is_initialized()
