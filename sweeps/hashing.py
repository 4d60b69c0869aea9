"""Identity is content: hashes of what decides a result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = ("sweeps", "models", "metrics")


def canonical(value: Any) -> str:
    """JSON text with sorted keys and no spaces: equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(value: Any, length: int = 20) -> str:
    """First `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def digest_bytes(chunks: Iterable[bytes], length: int = 20) -> str:
    """First `length` hex digits of the SHA-256 of a run of byte strings, each preceded by its size."""
    total = hashlib.sha256()
    for chunk in chunks:
        total.update(len(chunk).to_bytes(8, "little"))
        total.update(chunk)
    return total.hexdigest()[:length]


def code_digest(root: Path) -> str:
    """Digest of every Python file of the three packages below `root`."""
    files = sorted(path for name in PACKAGES for path in (root / name).rglob("*.py"))
    return digest_bytes(part for path in files for part in (str(path.relative_to(root)).encode(), path.read_bytes()))
