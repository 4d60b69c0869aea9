"""Registries as a test wants them: they are read-only otherwise."""

from typing import TypeVar

import pytest

from models.registry import Registry

T = TypeVar("T")


def declare(patch: pytest.MonkeyPatch, registry: Registry[T], name: str, item: T) -> None:
    """Let a registry know `item` by `name` until the patch is undone, as if it shipped here."""
    patch.setitem(registry.builtin, name, registry.builtin.get(name, f"tests:{name}"))
    patch.setitem(registry._loaded, name, item)
