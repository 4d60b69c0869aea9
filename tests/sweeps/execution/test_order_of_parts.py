"""A row of `cells` is written last: whoever sees it finds what belongs to it, whenever the worker dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline import plan_of

from sweeps.execution.tune import SweepPack
from sweeps.planning.packs import Pack
from sweeps.storage.objects import Objects
from sweeps.storage.store import Store


class Dead(BaseException):
    """The end of the worker's process."""


@pytest.fixture
def worker(experiment: dict[str, Any], tmp_path: Path) -> Callable[[], tuple[SweepPack, Store]]:
    """Makes a worker that has taken a pack of one cell, of a recording of outer folds, and its storage."""
    space = {"backbone": "pixels", "depth": {"V1": [0]}, "readout": {"ridge": {"pool": 4}}}

    def make() -> tuple[SweepPack, Store]:
        plan = plan_of({**experiment, "space": space, "scores": ["prediction", "interval"]}, tmp_path)
        cells = tuple(plan.planner.cells(next(iter(plan.space.grid()))))
        worker = SweepPack.__new__(SweepPack)  # without what Ray Tune adds
        context = plan.context().as_config()
        worker.setup({"context": context, "pack": Pack(cells).as_config(), "report": 0.0, "resources": {}})
        return worker, Store(plan.storage)

    return make


def tables(store: Store) -> set[str]:
    """Tables that have a part."""
    return {table for table in ("cells", "bootstraps", "folds") if store.part_names(table)}


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_worker_that_dies_between_parts_leaves_no_cell_without_them(
    turn: int, worker: Callable[[], tuple[SweepPack, Store]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, store = worker()
    put, written = Objects.put, []

    def dying(self: Objects, name: str, content: bytes) -> None:
        written.append(name.split("/")[1])
        if len(written) == turn:
            raise Dead
        put(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", dying)
        with pytest.raises(Dead):
            pack.step()
    assert "cells" not in tables(store)
    assert (written[-1] == "cells") is (turn == 3)


def test_the_name_that_is_reported_is_that_of_a_durable_part(
    worker: Callable[[], tuple[SweepPack, Store]],
) -> None:
    pack, store = worker()
    result = pack.step()
    assert store.part_names("cells") == [result["part"]]
    assert tables(store) == {"cells", "bootstraps", "folds"}
    assert result["cells"] == 1
    while not result["done"]:
        result = pack.step()
    assert result["part"] == ""
