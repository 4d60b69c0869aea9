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

from sweeps.io.guards.secrets import redacted
from sweeps.io.import_guard import home
from sweeps.storage.schema import SCHEMA_VERSION


def describe_error(error: BaseException) -> str:
    """Describe an error in one line: type, message without secrets, and place."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {redacted(' '.join(str(error).split()))}{place}"


def provenance(commit: str, device: str | None) -> dict[str, Any]:
    """Give the columns that say where and with what a row was made."""
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
    """List the versions of what numbers may depend on."""
    names = ("cortex-sweeps", "torch", "numpy", "scipy", "ray", "optuna")
    texts = [f"python={platform.python_version()}"]
    for name in names:
        try:
            texts.append(f"{name}={version(name)}")
        except PackageNotFoundError:
            texts.append(f"{name}=?")
    return " ".join(texts)


@functools.cache
def commit() -> str:
    """Find the commit of the checkout that this code lies in, or nothing."""
    if not (home() / ".git").exists():
        return ""
    answer = subprocess.run(
        ["git", "-C", str(home()), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def joined_errors(*errors: str | None) -> str | None:
    """Join the error texts of one row; None where there is none."""
    return "; ".join(error for error in errors if error) or None


def joined_plugins(*texts: str | None) -> str | None:
    """Join the plug-ins of one row, those of its earlier numbers too; None where there is none."""
    return " ".join(sorted({plugin for text in texts if text for plugin in text.split()})) or None
