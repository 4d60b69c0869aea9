"""Packs whose process died: cut in two, none lost, twins that are trained together in one of them."""

from __future__ import annotations

import pytest

from sweeps.experiment.cells import Cell
from sweeps.planning.packs import Pack, jobs_of

READOUT = {"name": "gaussian"}


def single(number: int) -> Cell:
    return Cell(f"{number:012x}", "r", "V1", (0,), {"name": "pixels"}, READOUT, 0, {})


def twin(number: int) -> list[Cell]:
    """Two cells of one trained twin."""
    places = {"V1": number, "V4": 0}
    return [Cell(f"{number}{area}", "r", area, (0,), {"name": "conv"}, READOUT, number, places) for area in places]


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_halves_hold_every_cell_once_in_order(count: int) -> None:
    pack = Pack(tuple(map(single, range(count))), attempt=3, failures=1, suspect=True)
    first, second = pack.halves()
    assert (*first.cells, *second.cells) == pack.cells
    assert (len(first.cells), len(second.cells)) == (count // 2, count - count // 2)
    for half in (first, second):
        assert (half.attempt, half.failures, half.suspect) == (4, 1 if len(half.cells) > 1 else 0, True)


def test_what_is_trained_together_is_not_parted() -> None:
    cells = (*twin(0), single(7), *twin(1), single(8))
    pack = Pack(cells)
    assert [len(job) for job in jobs_of(cells)] == [2, 1, 2, 1]
    first, second = pack.halves()
    assert [cell.cell_id for cell in first.cells] == ["0V1", "0V4", f"{7:012x}"]
    assert [cell.cell_id for cell in second.cells] == ["1V1", "1V4", f"{8:012x}"]
    assert (first.failures, second.failures) == (1, 1)
    assert Pack(tuple(twin(0) + twin(1))).halves()[0].failures == 0  # one job, though of two cells


def test_a_pack_is_named_by_what_it_holds() -> None:
    assert str(Pack((single(0), single(1)))) == "pixels -> r: 2 cells"
