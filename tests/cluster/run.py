"""Run the cluster tests in a laboratory of namespaces: `make test-cluster`.

The tests need a network of their own, a private /tmp and home, and machines that can be lost. So this script starts
itself again as the first process of new network, process, mount and host name namespaces, makes a private file system
in memory there, and runs pytest on a copy of the project. Whatever the tests start or mount lies in these namespaces:
when their first process ends, for whatever reason, the kernel ends every process and takes down every mount, bridge
and veth with it. What is left to remove is an empty folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

import yaml
from demands import NAMESPACES, PLACES, missing
from machines import BRIDGE, HOME, LAUNCHER, NETMASK, keep_environment, own_home, run

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "--inside"
LONGEST = 1800.0
"""Seconds after which the laboratory is taken down in any case."""


def main(arguments: list[str]) -> int:
    """Refuse with what is missing, or run the tests; arguments are given to pytest instead of the whole folder."""
    if arguments[:1] == [INSIDE]:
        enter(Path(arguments[1]), arguments[2:])
    if lines := missing():
        print("make test-cluster cannot run here. Missing:", *lines, sep="\n  ", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="cortex-sweeps-laboratory-") as place:
        return laboratory(place, arguments)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def laboratory(place: str, arguments: list[str]) -> int:
    """Run this script in new namespaces, which end with this process; the exit status of pytest."""
    inner = [sys.executable, __file__, INSIDE, place, *arguments]
    environment = os.environ | {"PATH": PLACES}
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *NAMESPACES, "--net", *inner], env=environment) as process:
        try:
            return process.wait(timeout=LONGEST)
        except KeyboardInterrupt:
            print("interrupted: taking the laboratory down", file=sys.stderr)
            return 130
        except subprocess.TimeoutExpired:
            print(f"not done after {LONGEST:g} s: taking the laboratory down", file=sys.stderr)
            return 1
        finally:
            process.kill()


def enter(place: Path, arguments: list[str]) -> None:
    """As the first process of the namespaces: copy the project, make files and network private, become pytest."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "laboratory", place)
    copy_project(place / "project")
    keep_environment(place)
    own_home(place)
    run("mount", "--rbind", place, "/tmp")
    for folder in ("/run", "/dev/shm"):
        run("mount", "-t", "tmpfs", "laboratory", folder)
    run("hostname", LAUNCHER.name)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{LAUNCHER.address}/{NETMASK}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    os.chdir("/tmp/project")
    chosen = arguments or ["tests/cluster"]
    command = [sys.executable, "-m", "pytest", "-m", "cluster", "-n", "0", "-s", "-vv", *chosen]
    os.execve(sys.executable, command, environment())


def copy_project(target: Path) -> None:
    """The files that `ray up` would upload."""
    excluded = yaml.safe_load((ROOT / "cluster.yaml").read_text())["rsync_exclude"]
    run("rsync", "--archive", *(f"--exclude={pattern}" for pattern in excluded), f"{ROOT}/", f"{target}/")


def environment() -> dict[str, str]:
    """This environment without the settings of another Ray, account or checkout."""
    foreign = ("RAY_", "AWS_", "TUNE_", "SSH_", "PYTHONPATH", "TMPDIR", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    scripts = str(Path(sys.executable).parent)
    return kept | {"HOME": HOME, "PATH": os.pathsep.join((scripts, PLACES)), "RAY_AUTH_MODE": "token"}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
