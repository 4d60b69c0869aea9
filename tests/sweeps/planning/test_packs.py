"""Packs: every cell once, those that share data together, and small ones last so that workers end together."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sweeps.execution.report_times import REPORT_MOST, REPORT_SECONDS, STEP_SECONDS, report_seconds
from sweeps.experiment.cells import Cell
from sweeps.planning.packs import MOST_CELLS, Pack, fewest_packs, form_packs, pack_size

WORKERS = 8


def cells_of(count: int, recordings: int = 1) -> list[Cell]:
    """Cells of one frozen network, spread over recordings."""
    backbone, readout = {"name": "efficientnet-lite0", "weights": "random"}, {"name": "ridge"}
    return [
        Cell(f"{index:012x}", f"r{index % recordings}", "V1", (index % 16,), backbone, readout, 0, {})
        for index in range(count)
    ]


def share_of_time(packs: Sequence[Pack], seconds: Callable[[Cell], float]) -> float:
    """Work / (workers x makespan) when every worker takes the next pack as soon as it is free."""
    free = [0.0] * WORKERS
    for pack in packs:
        heapq.heapreplace(free, free[0] + sum(map(seconds, pack.cells)))
    return sum(seconds(cell) for pack in packs for cell in pack.cells) / (WORKERS * max(free))


@pytest.mark.parametrize("size", [pack_size("auto", WORKERS), pack_size(7, WORKERS)])
def test_every_cell_is_packed_once_beside_cells_of_its_data(size: Callable[[int], int]) -> None:
    cells = cells_of(1000, recordings=3)
    packs = form_packs(cells, size)
    assert sorted(cell.cell_id for pack in packs for cell in pack.cells) == [cell.cell_id for cell in cells]
    assert all(len({cell.data() for cell in pack.cells}) == 1 for pack in packs)
    assert len({cell.recording for pack in packs[:3] for cell in pack.cells}) == 3  # data alternate


def test_packs_shrink_to_one_cell_unless_a_size_is_given() -> None:
    sizes = [len(pack.cells) for pack in form_packs(cells_of(1000), pack_size("auto", WORKERS))]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (42, 1)
    assert [len(pack.cells) for pack in form_packs(cells_of(20), pack_size(7, WORKERS))] == [7, 7, 6]
    assert max(len(pack.cells) for pack in form_packs(cells_of(9000), pack_size("auto", 2))) == MOST_CELLS
    assert fewest_packs(64) == len(form_packs(cells_of(64), pack_size("auto", 1)))


@pytest.mark.parametrize("low", [0.2, 1.0])
def test_workers_end_together(low: float) -> None:
    times = np.random.default_rng(0).uniform(low, 1.0, 48 * WORKERS)
    packs = form_packs(cells_of(len(times)), pack_size("auto", WORKERS))
    assert share_of_time(packs, lambda cell: times[int(cell.cell_id, 16)]) > 0.98


def test_workers_end_together_though_deep_blocks_take_four_times_as_long() -> None:
    packs = form_packs(cells_of(48 * WORKERS), pack_size("auto", WORKERS))
    assert share_of_time(packs, lambda cell: 4.0 if cell.depth > 11 else 1.0) > 0.95


def test_many_workers_report_so_seldom_that_one_driver_keeps_up() -> None:
    assert report_seconds(2, 0.01) == REPORT_SECONDS
    for workers, absorbing in ((200, 0.01), (1000, 0.005), (600, 0.05)):
        busy = workers / report_seconds(workers, absorbing) * (STEP_SECONDS + absorbing)
        assert busy == pytest.approx(0.5)
    assert report_seconds(10_000, 0.1) == REPORT_MOST
