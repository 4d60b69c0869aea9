"""Values that identities, caches and packs are made of stay what they are: nobody can change one that others hold."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator

import pytest

MODULES = (
    "recordings.splits",
    "recordings.split_rows",
    "recordings.shared_splits",
    "recordings.recording",
    "experiment.cells",
    "experiment.worker_context",
    "experiment.earlier_scores",
    "storage.columns",
    "storage.compaction",
    "storage.retry",
    "planning.packs",
    "planning.trial_rows",
    "planning.finished_rows",
    "planning.slim_row",
    "scores.fold_statistics",
    "scores.matched",
    "scores.score",
    "scores.view",
    "io.disk_cache",
)
FILLED_STEP_BY_STEP = {"OpenTrial"}


def values() -> Iterator[type]:
    """Every dataclass of these modules."""
    for name in MODULES:
        module = importlib.import_module(f"sweeps.{name}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and dataclasses.is_dataclass(kind):
                yield kind


@pytest.mark.parametrize("kind", values(), ids=lambda kind: kind.__name__)
def test_a_value_cannot_be_changed(kind: type) -> None:
    value = object.__new__(kind)
    name = dataclasses.fields(kind)[0].name
    if kind.__name__ in FILLED_STEP_BY_STEP:
        setattr(value, name, 1)
        return
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, 1)
