"""The connection to the Ray cluster that packs run on.

Knows Ray, but not Ray Tune. Imports nothing of `models` or `metrics` at the top: a worker imports this module before it
knows whether those names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.job_config import JobConfig

from sweeps import interrupts
from sweeps.errors import InputError, escaped
from sweeps.execution.connection import ray_internals
from sweeps.execution.connection.head_watch import watched
from sweeps.execution.connection.ray_session import ended_whole, has_token, own_ray, token_file, whole
from sweeps.execution.nodes.node_resources import this_machine
from sweeps.execution.store_environment import warn_of_credentials


@contextmanager
def connected(address: str | None, cpus: int | None = None, about: Mapping[str, str] | None = None) -> Iterator[str]:
    """A connection to Ray: the given address, else RAY_ADDRESS, else an own local cluster; yields its dashboard.

    A cluster that is up already (a notebook's own) is used as it is and left running; an own one is shut down.
    `about` becomes metadata of the job, by which the dashboard's job list can be told apart.
    """
    arguments = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": JobConfig(metadata={key: escaped(text) for key, text in (about or {}).items()}),
    }
    connection: AbstractContextManager[None] = nullcontext()
    if starts_own(address):
        cores = cpus or int(this_machine()["CPU"])  # Ray would count those of the host
        connection = own_ray(num_cpus=cores, dashboard_host="127.0.0.1", **arguments)
    elif not ray.is_initialized():
        connection = _joined(address, arguments)
    with connection:
        warn_of_credentials()
        with watched(_head()):
            yield ray_internals.dashboard()


def _head() -> str:
    """The address of the head's GCS, empty through a Ray client."""
    return "" if ray.util.client.ray.is_connected() else str(ray.get_runtime_context().gcs_address)


@contextmanager
def _joined(address: str | None, arguments: Mapping[str, Any]) -> Iterator[None]:
    """A connection to a Ray that somebody else has started, and that goes on."""
    given = address or os.environ.get("RAY_ADDRESS", "")
    try:
        check_answers(given)
        check_token(given, explicit=address not in (None, "auto"))
        place = ray_internals.on_loopback() if ray_internals.is_on_loopback(given) else nullcontext()
        with interrupts.kept(), place, whole():
            ray.init(address=address, **arguments)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        ray.shutdown()
        interrupts.check()
        raise InputError(f"no Ray cluster can be reached: {error}", key="address", value=given) from None
    with ended_whole():
        yield


def check_answers(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def check_token(address: str, explicit: bool) -> None:
    """Refuse a cluster that does not take this process's token, or its lack of one. Raises InputError.

    As Ray does, one that was not named takes the token that is there even where RAY_AUTH_MODE does not ask for it.
    """
    mode, file = os.environ.get("RAY_AUTH_MODE"), token_file()
    if mode is None and not explicit and (file is None or has_token(file)):
        mode = os.environ["RAY_AUTH_MODE"] = "token"
        ray_internals.forget_token()
    how = "`ray get-auth-token` on its head prints it: set RAY_AUTH_TOKEN to it, or write it to ~/.ray/auth_token"
    if (mode or "").lower() == "token" and file is not None and not has_token(file):
        raise InputError(f"no token for the cluster is in {file}; {how}", key="address", value=address)
    place = ray_internals.resolved(address)
    if "://" in place or not place or not ray_internals.refuses_token(place):
        return
    if (mode or "").lower() == "token":
        problem = f"the cluster has another token than {file or 'RAY_AUTH_TOKEN'}"
    else:
        problem = "the cluster asks for a token: set RAY_AUTH_MODE=token"
    raise InputError(f"{problem}; {how}", key="address", value=address)


def token_command() -> str:
    """The command that prints the token that the dashboard asks for; empty where it asks for none.

    Ray keeps its mode in the environment: a local Ray of version 2.59 or later turns the token on there.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return ""
    command = "ray" if shutil.which("ray") else str(Path(sys.executable).with_name("ray"))
    place = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return f"{f'RAY_AUTH_TOKEN_PATH={shlex.quote(place)} ' if place else ''}{command} get-auth-token"


def starts_own(address: str | None) -> bool:
    """Whether a run would start a Ray of its own."""
    return address is None and "RAY_ADDRESS" not in os.environ and not ray.is_initialized()
