"""What the cluster tests do: commands of Ray from the project's folder, and waiting."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machines import HOME

ROOT = Path(__file__).resolve().parents[2]
STARTED = time.monotonic()


def say(what: str) -> None:
    """Print a step with the seconds since the tests began."""
    print(f"\n[{time.monotonic() - STARTED:6.1f} s] {what}", flush=True)


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `found` gives as soon as it gives something; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.5)
    return value


def ray(*arguments: str, seconds: float, environment: dict[str, str] | None = None, status: int = 0) -> str:
    """What a command of Ray printed; fails with it where the command ended otherwise than with `status`."""
    done = subprocess.run(
        ["ray", *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == status, f"ray {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def make_token() -> str:
    """As README says: generate it, and take it from other users."""
    ray("get-auth-token", "--generate", seconds=60)
    path = Path(HOME) / ".ray" / "auth_token"
    path.chmod(0o600)
    return path.read_text().strip()
