"""Cells that kill, hang or exhaust their process: they alone fail, the others have the scores of an undisturbed run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from poisoned import errors_of_the_guilty, poisoned_ray
from processes import descendants, wait_for


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray whose workers do what this file says."""
    with poisoned_ray(tmp_path_factory.mktemp("poison")) as file:
        yield file


@pytest.mark.parametrize(
    "deeds",
    [
        pytest.param({1: "segfault", 4: "hang_hard"}, id="hard"),
        pytest.param({0: "be_killed", 2: "hang", 5: "exhaust_memory"}, id="others"),
    ],
)
@pytest.mark.slow
def test_only_the_guilty_fail(deeds: dict[int, str], poison: Path, experiment: dict[str, Any], tmp_path: Path) -> None:
    told = errors_of_the_guilty(deeds, poison, experiment, tmp_path, max_failures=0, limit_minutes=0.05)
    for seed, deed in deeds.items():
        words = {"exhaust_memory": "MemoryError", "hang": "limit_minutes", "hang_hard": "limit_minutes"}
        assert words.get(deed, "died") in told[seed], told
    wait_for(lambda: not any("SweepPack" in each.title for each in descendants(os.getpid())), 20, "no worker is left")
