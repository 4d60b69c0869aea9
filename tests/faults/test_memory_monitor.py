"""A cell that takes memory bit by bit until Ray's memory monitor ends its process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from poisoned import errors_of_the_guilty, poisoned_ray

ROOM = 5 * 2**29
"""Bytes more than now that may be in use before Ray ends a process; Ray and its driver take some 1 GiB of them."""


@pytest.fixture
def poison(tmp_path: Path) -> Iterator[Path]:
    """A Ray that ends processes soon, whose workers do what this file says."""
    from ray._private.utils import get_system_memory, get_used_memory

    total = get_system_memory()
    if total - get_used_memory() < 2 * ROOM:
        pytest.skip("less than 5 GiB of memory are free")
    threshold = (get_used_memory() + ROOM) / total
    with poisoned_ray(
        tmp_path, RAY_memory_usage_threshold=f"{threshold:.4f}", RAY_memory_monitor_refresh_ms="100"
    ) as file:
        yield file


@pytest.mark.slow
def test_only_the_cell_that_grows_fails(poison: Path, experiment: dict[str, Any], tmp_path: Path) -> None:
    """Ray ends the newest processes first until enough memory is free, so that its neighbour may die with it."""
    told = errors_of_the_guilty({3: "grow"}, poison, experiment, tmp_path, max_failures=1)
    assert "the process died" in told[3]
    assert "the node running low on memory" in told[3]
