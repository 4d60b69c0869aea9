"""Machines on one machine: each has network, process, mount and host name namespaces of its own, and a real sshd.

    with Machine("head", "10.77.0.2", key, files) as head:
        head.lose()

Why each namespace: Ray's nodes must not meet at one address (network), `ray stop` ends every Ray process that it sees
(process), and Ray keeps its state in /tmp, and the project and the token in the home directory (mount).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from demands import NAMESPACES, program


class Launcher(NamedTuple):
    """The machine that `ray up` is typed on."""

    name: str
    address: str


LAUNCHER = Launcher("cortex-launcher", "10.77.0.1")
NETMASK = 24
BRIDGE = "bridge0"
HOME = "/tmp/home"
"""The home directory of root on every machine: ssh and rsync take ~ from the password database, not from HOME."""

INIT = """set -e
mount --rbind "$1" /tmp
mount -t tmpfs node /run
mkdir /run/sshd
hostname "$2"
mount --bind /tmp/passwd /etc/passwd
exec "$3" -D -E /tmp/sshd.log -f /tmp/sshd_config
"""

SSHD = """ListenAddress {address}:22
HostKey /tmp/host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
"""


def run(*command: str | Path) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(part) for part in command], check=True, timeout=60)


def keep_environment(place: Path) -> None:
    """Bind a Python environment that lies in /tmp below the folder that becomes /tmp."""
    for prefix in {Path(sys.prefix), Path(sys.base_prefix)}:
        if prefix.is_relative_to("/tmp"):
            target = place / prefix.relative_to("/tmp")
            target.mkdir(parents=True)
            run("mount", "--bind", prefix, target)


def own_home(place: Path) -> None:
    """A home directory below the folder that becomes /tmp, and a password database that says so; bound at once."""
    (place / "home").mkdir(mode=0o700)
    write_passwords(place / "passwd")
    run("mount", "--bind", place / "passwd", "/etc/passwd")


def write_passwords(target: Path) -> None:
    """The password database with another home and a plain shell for root, and with the user that sshd needs."""
    lines = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith(("root:", "sshd:"))]
    mine = [f"root:*:0:0:root:{HOME}:/bin/bash", "sshd:*:65533:65534::/run/sshd:/usr/sbin/nologin"]
    target.write_text("\n".join([*mine, *lines]) + "\n")


@dataclass
class Machine:
    """A machine that answers SSH at `address`, for the owner of `key`; `files` are put into its home directory."""

    name: str
    address: str
    key: Path
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.place = Path("/tmp/machines") / self.name

    def __enter__(self) -> Machine:
        self._write()
        self._connect()
        sshd = program("sshd") or "sshd"
        inside = ["bash", "-c", INIT, "init", str(self.place), f"cortex-{self.name}", sshd]
        self.process = subprocess.Popen(["ip", "netns", "exec", self.name, *NAMESPACES, *inside])
        self._wait()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        run("ip", "netns", "delete", self.name)

    def lose(self) -> None:
        """The machine is gone without a word: first its network, then, unheard, its processes."""
        run("ip", "link", "set", f"to-{self.name}", "down")
        self.process.kill()
        self.process.wait()

    def ssh(self, command: str, seconds: float = 60) -> str:
        """What a command printed there; raises CalledProcessError where it failed."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        flags = [part for option in options for part in ("-o", option)]
        return subprocess.run(
            ["ssh", *flags, "-i", str(self.key), f"root@{self.address}", command],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
        ).stdout

    def _write(self) -> None:
        keep_environment(self.place)
        for name, content in {".ssh/authorized_keys": self._public(), **self.files}.items():
            target = self.place / "home" / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_text(content)
            target.chmod(0o600)
        run("cp", "-rT", "/etc/skel", self.place / "home")  # .bashrc as a user has it, which Ray reads
        (self.place / "home").chmod(0o700)
        write_passwords(self.place / "passwd")
        (self.place / "sshd_config").write_text(SSHD.format(address=self.address))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.place / "host_key")

    def _public(self) -> str:
        return self.key.with_name(f"{self.key.name}.pub").read_text()

    def _connect(self) -> None:
        """A network with one cable to the bridge, and the launcher as the way out, which it does not give."""
        cable, inside = f"to-{self.name}", ("ip", "-n", self.name)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", cable, "master", BRIDGE, "up")
        run(*inside, "address", "add", f"{self.address}/{NETMASK}", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", LAUNCHER.address)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection((self.address, 22), timeout=1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = self.place / "sshd.log"
                    said = log.read_text() if log.exists() else "and no log of it"
                    raise AssertionError(f"no sshd on {self.name}: {said}") from None
                time.sleep(0.1)


def make_key(place: Path) -> Path:
    """A new SSH key pair."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place)
    return place


def inside_laboratory() -> bool:
    """Whether this process runs in the namespaces that run.py makes."""
    return os.uname().nodename == LAUNCHER.name
