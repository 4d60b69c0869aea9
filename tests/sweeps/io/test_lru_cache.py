"""What stays in memory: the values that were used last."""

from __future__ import annotations

import pytest

from sweeps.io.lru_cache import LRUCache


def test_the_least_recently_used_value_is_dropped() -> None:
    cache, made = LRUCache(2), []

    def value(key: str) -> str:
        return str(cache.get(key, lambda: made.append(key) or key.upper()))

    assert [value(key) for key in "abac"] == ["A", "B", "A", "C"]
    assert made == ["a", "b", "c"]
    assert value("a") == "A"
    assert made == ["a", "b", "c"], "a was used after b"
    assert value("b") == "B"
    assert made == ["a", "b", "c", "b"]


def test_what_cannot_be_made_drops_nothing() -> None:
    cache = LRUCache(1)
    cache.get("a", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        cache.get("b", lambda: 1 // 0)
    assert cache.get("a", lambda: 2) == 1
