"""What `make test-cluster` needs of a machine, and what of it is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec

PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
"""sshd and ip lie where the search path of a plain user does not look."""

PROGRAMS = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "ip": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Each program and the package of Debian and Ubuntu that holds it."""

MODULES = {"moto.server": "moto[server]", "flask": "moto[server]", "boto3": "boto3"}
"""Each module and the package of PyPI that holds it."""

NAMESPACES = ["unshare", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
"""A process in new namespaces of processes, mounts and host name; they end with it, and it with the one that waits."""

NETWORK = "ip link add bridge0 type bridge && ip link add near type veth peer name far"


def program(name: str) -> str | None:
    """Where a program lies."""
    return shutil.which(name, path=PLACES)


def missing(
    user: int | None = None,
    program: Callable[[str], str | None] = program,
    module: Callable[[str], bool] | None = None,
) -> list[str]:
    """One line for each thing that is not there; empty where all is."""
    lines = [] if (os.geteuid() if user is None else user) == 0 else ["root: namespaces and an sshd on port 22 need it"]
    lines += [f"{name}: apt-get install {package}" for name, package in PROGRAMS.items() if not program(name)]
    lines += [f"{name}: pip install '{package}'" for name, package in MODULES.items() if not (module or _found)(name)]
    return lines or _forbidden()


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def _forbidden() -> list[str]:
    """Why this machine's kernel gives no namespaces, bridge or veth; containers seldom may make them."""
    tried = subprocess.run(
        [*NAMESPACES, "--net", "sh", "-c", NETWORK],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=os.environ | {"PATH": PLACES},
    )
    return [] if tried.returncode == 0 else [f"namespaces, a bridge and a veth: {tried.stderr.strip()}"]
