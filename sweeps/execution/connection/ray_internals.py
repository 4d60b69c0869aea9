"""Every private name of Ray that this project uses, behind functions that say what they are for.

No other file names one. Each is looked up when it is used: where a version of Ray does not have it, or it does not have
its effect, a warning says once what is lost, and the sweep goes on without; what guards the user refuses instead.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray

from sweeps.errors import InputError
from sweeps.io.disk_cache import warn_once

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""

LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as /proc/net/tcp and tcp6 write them on little-endian machines."""

SPARE_NAME = "/session_2026-12-31_23-59-59_123456_"
SPARE_SOCKET = "/sockets/dash_TaskEventsHead"
"""What Ray puts behind its folder (with the driver's process number between): the longest of its sockets."""


def private(path: str, loss: str) -> Any:
    """Look up `module:attribute.attribute` of Ray; None, with one warning that says what is lost, where it is not."""
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in filter(None, names.split(".")):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        warn_once(f"Ray {ray.__version__} has no {path.replace(':', '.')}: {loss}")
        return None
    return found


# -- the Ray of this process -------------------------------------------------------------------------


def own_node() -> Any:
    """Give Ray's record of the node that this process has started or joined; None where there is none."""
    worker = private("ray._private.worker", "")
    return getattr(worker, "_global_node", None)


def dashboard() -> str:
    """Give the address of the dashboard, host:port; empty where there is none."""
    return getattr(own_node(), "webui_url", None) or ""


def has_started_head() -> bool:
    """Tell whether this process has started the Ray that it uses: an own local one starts no further nodes."""
    return bool(getattr(own_node(), "head", False))


def session_folder() -> Path | None:
    """Give the folder of the running Ray's logs and sockets; None where Ray does not say it."""
    place = getattr(own_node(), "address_info", {}).get("session_dir")
    return Path(place) if place else None


def start(folder: Path, **arguments: Any) -> None:
    """Start an own Ray whose files lie below `folder`; InputError where Ray puts them elsewhere."""
    ray.init(address="local", _temp_dir=str(folder), **arguments)
    session = session_folder()
    if session is None or folder not in session.parents:
        problem = f"Ray {ray.__version__} keeps its files in {session}, not in the private folder {folder}"
        raise InputError(problem, key="ray", value=ray.__version__)


def longest_path(folder: Path) -> int:
    """Count the bytes of the longest socket's path of a Ray that this process starts with files below `folder`."""
    return len(os.fsencode(f"{folder}{SPARE_NAME}{os.getpid()}{SPARE_SOCKET}"))


# -- loopback -------------------------------------------------------------------------------------------


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that is started inside listen on 127.0.0.1 alone, as it does on macOS; else on every interface.

    Ray has no argument for it: `_node_ip_address="127.0.0.1"` is replaced by the machine's address. Other processes
    join such a Ray only in here, too. Whether it had the effect, `check_loopback` sees.
    """
    loss = "an own Ray may listen on every interface"
    constants = private("ray._private.ray_constants", loss)
    if private("ray._private.ray_constants:ENABLE_RAY_CLUSTER", loss) is None:
        yield
        return
    usual, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual


def is_on_loopback(address: str) -> bool:
    """Tell whether an address is that of a Ray of this machine that listens on 127.0.0.1 alone."""
    host, _, port = resolved(address).rpartition(":")
    return host in ("127.0.0.1", "localhost") and f"127.0.0.1:{port}" in _local_addresses()


def resolved(address: str) -> str:
    """Give the address, host:port, that 'auto' stands for here, empty where there is none; others as they are."""
    return (_latest_address() or next(iter(_local_addresses()), "")) if address == "auto" else address


def _local_addresses() -> set[str]:
    """Addresses, host:port, of the Rays that run on this machine."""
    find = private("ray._private.services:find_gcs_addresses", "a Ray of another process here may not be joined")
    return set(find()) if find else set()


def _latest_address() -> str:
    """The address that the last `ray start` on this machine has left."""
    find = private("ray._private.services:find_bootstrap_address", "address 'auto' may find no Ray of this machine")
    return (find(None) or "") if find else ""


def check_loopback(processes: Iterable[int], before: frozenset[str] = frozenset()) -> None:
    """Refuse an own Ray of which a process listens on another address than 127.0.0.1. Raises InputError.

    `before` are sockets, by inode, that this process had before. Without /proc nothing can be seen: a warning says so.
    """
    if not Path("/proc/net/tcp").exists():
        warn_once("whether Ray listens on 127.0.0.1 alone cannot be seen here (no /proc/net/tcp)")
        return
    inodes = frozenset().union(*(open_sockets(process) for process in processes)) - before
    reachable = sorted(address for inode, address in _listening() if inode in inodes)
    if reachable:
        problem = (
            f"Ray was to listen on 127.0.0.1 alone, but one of its servers listens on {reachable[0]}: it is shut down"
        )
        raise InputError(problem, key="ray", value=ray.__version__)


def open_sockets(process: int) -> frozenset[str]:
    """Give the sockets that a process has open, by inode."""
    inodes = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return frozenset(inodes)


def _listening() -> Iterator[tuple[str, str]]:
    """Inode and address of sockets that listen on another address than 127.0.0.1."""
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                host, _, port = fields[1].partition(":")
                if fields[3] == LISTEN and host not in LOOPBACK:
                    yield fields[9], f"{_readable(host)}:{int(port, 16)}"


def _readable(host: str) -> str:
    """An address of /proc/net/tcp as people write it; * for all interfaces."""
    if not host.strip("0"):
        return "*"
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(host[-8:])))


# -- processes ------------------------------------------------------------------------------------------


class RayProcess(NamedTuple):
    """A process of this process's own Ray; `started` tells it from a later one of the same number."""

    pid: int
    started: str


def processes() -> set[RayProcess]:
    """Find the processes that Ray has started from this one, and those that they have started; none without /proc."""
    parents: dict[int, list[RayProcess]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (status := _status(int(entry.name))) is not None and status[0] != "Z":
            parents.setdefault(int(status[1]), []).append(RayProcess(int(entry.name), status[19]))
    found: set[RayProcess] = set()
    below = [process for process in parents.get(os.getpid(), []) if _is_of_ray(process)]
    while below:
        found |= {*below}
        below = [child for process in below for child in parents.get(process.pid, [])]
    return found


def end_processes(left: Iterable[RayProcess]) -> None:
    """End processes that are still there."""
    for process in left:
        status = _status(process.pid)
        if status is not None and status[19] == process.started:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _status(pid: int) -> list[str] | None:
    """State, parent and what follows of a process; None where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _is_of_ray(process: RayProcess) -> bool:
    """Whether a child runs a program of Ray's package."""
    with suppress(OSError):
        return os.fsencode(Path(ray.__file__).parent) in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return False


# -- tokens ---------------------------------------------------------------------------------------------


def has_tokens() -> bool:
    """Tell whether this Ray knows tokens, by which its servers tell who may use them."""
    try:
        importlib.import_module("ray._private.authentication.authentication_token_setup")
    except ImportError:  # before 2.52
        return False
    return True


def forget_token() -> None:
    """Let Ray read its token, and whether it needs one, anew: it keeps both from their first use on."""
    loss = "a token that has changed since Ray's first use here is not seen"
    settings = private("ray._raylet:Config.initialize", loss)
    loader = private("ray._raylet:AuthenticationTokenLoader.instance", loss)
    if settings and loader:
        settings("")
        loader().reset_cache()


def refuses_token(address: str) -> bool:
    """Tell whether the Ray at an address refuses the token of this process, or that it has none.

    Ray itself would ask once a second for 20 seconds, with a line each time. False where nobody can be asked.
    """
    loss = "a wrong token for a cluster is noticed late"
    channel_to = private("ray._private.grpc_utils:init_grpc_channel", loss)
    options = private("ray._private.ray_constants:GLOBAL_GRPC_OPTIONS", loss)
    service = private("ray.core.generated.gcs_service_pb2_grpc:NodeInfoGcsServiceStub", loss)
    request = private("ray.core.generated.gcs_service_pb2:GetClusterIdRequest", loss)
    if not (channel_to and service and request):
        return False
    try:
        with channel_to(address, options or ()) as channel:
            service(channel).GetClusterId(request(), timeout=10)
    except Exception as error:  # of gRPC, which is not ours to import
        code = getattr(error, "code", None)
        return getattr(code() if callable(code) else None, "name", "") == "UNAUTHENTICATED"
    return False


# -- what Tune and the nodes need -----------------------------------------------------------------------


@contextmanager
def raising_for_memory(error: type[Exception]) -> Iterator[None]:
    """Let Ray raise `error`, made of its text, for a process that its memory monitor has ended."""
    loss = "a process that is ended for want of memory ends the run"
    serialization = private("ray._private.serialization", loss)
    usual = private("ray._private.serialization:OutOfMemoryError", loss)
    if usual is None:
        yield
        return
    serialization.OutOfMemoryError = error
    try:
        yield
    finally:
        serialization.OutOfMemoryError = usual


def tune_actors() -> Any:
    """Give the module in which Tune makes classes of actors; None where it has none."""
    try:
        return importlib.import_module("ray.tune.execution.class_cache")
    except ImportError:
        return None


def copied_variables() -> Mapping[str, str] | None:
    """Give the variables that Tune copies now, by what it makes of an actor; None where it does not say."""

    class Probe:
        """An actor that never starts."""

    try:
        options: Any = tune_actors()._ActorClassCache().get(Probe)._default_options
        copied: dict[str, str] = options["runtime_env"].get("env_vars", {})
        return copied
    except (AttributeError, KeyError, TypeError):
        return None


def reported_groups() -> list[Any]:
    """List the groups of nodes that an autoscaler has reported to Ray; none where none has."""
    find = private("ray._private.state:state.get_cluster_config", "nodes that an autoscaler may start are not known")
    config = find() if find else None
    return list(config.node_group_configs) if config else []


def gpus_here() -> float:
    """Count the GPUs that an own local Ray would find on this machine."""
    manager = private("ray._private.accelerators:NvidiaGPUAcceleratorManager", "GPUs of this machine are not counted")
    return float(manager.get_current_node_num_accelerators()) if manager else 0.0
