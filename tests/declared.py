"""Declarations in place of others, for the time of a test: registries themselves are read-only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.registry import Registry


def with_version(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], name: str, version: int) -> None:
    """Let a declaration state another VERSION."""
    monkeypatch.setitem(registry._loaded, name, replace(registry[name], version=version))
