"""Two users of one machine: namespaces with a password database, homes and a network of their own, on this machine.

    with TwoUsers() as machine:
        machine.run("ada", [sys.executable, "-m", "sweeps", ...])

Needs root and util-linux. All is gone with the first process of the namespaces.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from demands import NAMESPACES

ROOT = Path(__file__).resolve().parents[2]
USERS = {"ada": 61001, "bob": 61002}
HOMES = Path("/home")
SHARED = Path("/srv")

NEEDED = (Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(sys.prefix).resolve())
"""What both users have to read."""


def missing() -> str:
    """Why two users cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "only root can make two users"
    tried = subprocess.run([*NAMESPACES, "--net", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class TwoUsers:
    """A machine of the users ada and bob, whose homes have mode 0755 as on Debian, and a folder that both can write."""

    def __enter__(self) -> TwoUsers:
        self.place = tempfile.TemporaryDirectory(prefix="cortex-sweeps-users-")
        script = Path(self.place.name, "init")
        script.write_text("\n".join(self._commands()))
        line = [*NAMESPACES, "--net", "bash", str(script)]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "up\n"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.inside = ["nsenter", "--target", children[0], "--mount", "--net", "--pid", "--uts"]
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self.place.cleanup()

    def line(self, user: str, arguments: list[str], **variables: str) -> list[str]:
        """The command line that runs a command as a user, in the project's folder, with a clean environment."""
        number = str(USERS.get(user, 0))
        rights = [] if user == "root" else ["setpriv", "--reuid", number, "--regid", number, "--clear-groups"]
        own = {
            "HOME": str(HOMES / user) if user in USERS else "/",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            **variables,
        }
        settings = [f"{name}={value}" for name, value in own.items()]
        return [*self.inside, *rights, "env", "-i", "-C", str(ROOT), *settings, *arguments]

    def run(self, user: str, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user to its end."""
        line = self.line(user, arguments, **variables)
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)

    def python(self, user: str, code: str, *arguments: str) -> str:
        """What Python prints as a user; fails with what it complains of."""
        done = self.run(user, [sys.executable, "-c", code, *arguments])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, user: str, arguments: list[str], **variables: str) -> subprocess.Popen[str]:
        """Start a command as a user; it ends when its standard input is closed, if it reads that."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.line(user, arguments, **variables), text=True, **pipes)

    def _commands(self) -> list[str]:
        """Make homes, password database and loopback; what lies below a closed folder is mounted where all can go."""
        copies = Path(self.place.name, "copies")
        closed = {top for path in NEEDED if (top := closed_above(path))}
        below = [path for path in dict.fromkeys(NEEDED) if closed_above(path)]
        lines = ["set -e", f"mkdir -p {copies}", f"chmod 711 {self.place.name} {copies}", "ip link set lo up"]
        for index, path in enumerate(below):
            lines += [f"mkdir {copies}/{index}", f"mount --bind {shlex.quote(str(path))} {copies}/{index}"]
        lines += [f"mount -t tmpfs -o mode=755 open {shlex.quote(str(top))}" for top in sorted(closed)]
        for index, path in enumerate(below):
            target = shlex.quote(str(path))
            lines += [f"mkdir -p {target}", f"mount --bind {copies}/{index} {target}"]
        lines += [f"mount -t tmpfs -o mode=755 users {folder}" for folder in (HOMES, SHARED)]
        known = Path("/etc/passwd").read_text().splitlines()
        users = [f"{name}:*:{number}:{number}::{HOMES / name}:/bin/bash" for name, number in USERS.items()]
        Path(self.place.name, "passwd").write_text("\n".join([*known, *users]) + "\n")
        lines += [f"mount --bind {self.place.name}/passwd /etc/passwd"]
        for name, number in USERS.items():
            home = HOMES / name
            lines += [f"mkdir -m 755 {home}", f"chown {number}:{number} {home}"]
        return [*lines, "umask 022", "echo up", "sleep infinity & wait"]


def closed_above(path: Path) -> Path | None:
    """The highest folder above a path that other users cannot enter; None where they reach it."""
    above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
    return above[0] if above else None
