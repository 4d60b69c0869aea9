"""Where and with what a row was made; never part of an identity."""

from __future__ import annotations

import functools
import os
import platform
import resource
import socket
import subprocess
import traceback
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sweeps.io.import_guard import home
from sweeps.storage.columns import SCHEMA_VERSION


def describe_error(error: BaseException) -> str:
    """Type, message and place of an error in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def provenance(commit: str, device: str | None) -> dict[str, Any]:
    """Columns that say where and with what a row was made."""
    return {
        "device": device,
        "host": socket.gethostname(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "versions": versions(),
        "commit": commit,
        "schema_version": SCHEMA_VERSION,
        "finished": datetime.now(UTC),
    }


@functools.lru_cache
def versions() -> str:
    """Versions of what numbers may depend on."""
    names = ("cortex-sweeps", "torch", "numpy", "scipy", "ray", "optuna")
    held = [f"python={platform.python_version()}"]
    for name in names:
        try:
            held.append(f"{name}={version(name)}")
        except PackageNotFoundError:
            held.append(f"{name}=?")
    return " ".join(held)


@functools.cache
def commit() -> str:
    """The commit of the checkout that this code lies in, or nothing."""
    if not (home() / ".git").exists():
        return ""
    found = subprocess.run(["git", "-C", str(home()), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def joined_errors(*errors: str | None) -> str | None:
    """Error texts of one row as one, or None."""
    return "; ".join(error for error in errors if error) or None
