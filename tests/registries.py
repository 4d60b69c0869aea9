"""Registries as a test wants them: they are read-only otherwise."""

from dataclasses import replace
from typing import Any, TypeVar

import pytest

from models.registry import Registry

T = TypeVar("T")


def declare(patch: pytest.MonkeyPatch, registry: Registry[T], name: str, item: T) -> None:
    """Let a registry know `item` by `name` until the patch is undone, as if it shipped here."""
    patch.setitem(registry.builtin, name, registry.builtin.get(name, f"tests:{name}"))
    patch.setitem(registry._loaded, name, item)


def declare_version(patch: pytest.MonkeyPatch, registry: Registry[Any], name: str, version: int) -> None:
    """Let a declaration state another VERSION until the patch is undone."""
    declare(patch, registry, name, replace(registry[name], version=version))
