"""What a cell's id is made of: everything that decides its result, of a trained twin the other recordings too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from registries import declare_version

from models.backbones import BACKBONES
from models.component import Component
from models.readouts import READOUTS
from models.registry import Registry
from sweeps.experiment.cells import Cell, Planner
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_splits import SharedGroups
from sweeps.recordings.split_rows import SplitBasis
from sweeps.recordings.split_settings import Split

FIRST = RecordingFacts("first", "print-1", {"V1": 4, "V4": 5}, 300, 60, 3, ("fit",))
SECOND = RecordingFacts("second", "print-2", {"V1": 7}, 300, 60, 3, ("fit",))
UNEVEN = SplitBasis("second", np.repeat(np.arange(60).astype(str), 5), np.repeat([1, 9], 150))


def resolved(registry: Registry[Component], name: str, **changes: Any) -> dict[str, Any]:
    """A component with its defaults, but for the changes."""
    return {"name": name, **{key: parameter.default for key, parameter in registry[name].parameters.items()}, **changes}


FROZEN = {
    "backbone": resolved(BACKBONES, "pixels"),
    "depth": {"V1": 0, "V4": 0},
    "readout": resolved(READOUTS, "ridge"),
    "seed": 0,
}
TRAINED = {**FROZEN, "backbone": resolved(BACKBONES, "conv"), "readout": resolved(READOUTS, "gaussian")}
KINDS = {"frozen": FROZEN, "trained": TRAINED}


def cell_of(
    configuration: Mapping[str, Any],
    *facts: RecordingFacts,
    area: str = "V1",
    split: Split | None = None,
    shared: Mapping[str, SharedGroups] | None = None,
) -> Cell:
    """The cell of an area of the first recording."""
    planner = Planner(facts or (FIRST, SECOND), split or Split(), shared or {})
    return next(cell for cell in planner.cells(dict(configuration)) if cell.area == area)


@pytest.mark.parametrize("other", [(), (replace(SECOND, fingerprint="print-3"),)], ids=["left out", "of other data"])
def test_a_twin_trained_with_another_recording_is_another_one(other: tuple[RecordingFacts, ...]) -> None:
    """The core has learned from both: a cell of the first recording depends on what the second one holds."""
    assert cell_of(TRAINED).cell_id != cell_of(TRAINED, FIRST, *other).cell_id
    assert cell_of(FROZEN).cell_id == cell_of(FROZEN, FIRST, *other).cell_id


def test_a_twin_trained_with_a_recording_of_another_split_is_another_one() -> None:
    uneven = replace(SECOND, split_basis=UNEVEN)
    assert cell_of(TRAINED).cell_id != cell_of(TRAINED, FIRST, uneven).cell_id
    assert cell_of(FROZEN).cell_id == cell_of(FROZEN, FIRST, uneven).cell_id
    assert cell_of(FROZEN, SECOND).cell_id != cell_of(FROZEN, uneven).cell_id


def test_groups_that_are_shared_belong_to_the_identity_of_what_they_split() -> None:
    groups = SharedGroups((2,), {"a": 0, "b": 1})
    assert cell_of(FROZEN, shared={"first": groups}).cell_id != cell_of(FROZEN).cell_id
    assert cell_of(FROZEN, shared={"second": groups}).cell_id == cell_of(FROZEN).cell_id
    assert cell_of(TRAINED, shared={"second": groups}).cell_id != cell_of(TRAINED).cell_id
    named = Split(report="published")
    plain = [cell_of(FROZEN, FIRST, split=named, shared=each) for each in ({}, {"first": groups})]
    assert plain[0].cell_id == plain[1].cell_id  # a report set that is named is not drawn from them


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("registry", "family"), [(BACKBONES, "backbone"), (READOUTS, "readout")], ids=str)
def test_a_raised_version_makes_another_cell(
    kind: str, registry: Registry[Component], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = KINDS[kind]
    name, before = configuration[family]["name"], cell_of(configuration)
    declare_version(monkeypatch, registry, name, registry[name].version + 1)
    assert cell_of(configuration).cell_id != before.cell_id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{"seed": 1}, {"report": 0.25}, {"select": 0.25}, {"confirm": 0.1}], ids=str)
def test_another_split_makes_another_cell(kind: str, changes: dict[str, Any]) -> None:
    assert cell_of(KINDS[kind], split=Split(**changes)).cell_id != cell_of(KINDS[kind]).cell_id


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_a_configuration_makes_another_cell(kind: str) -> None:
    base = KINDS[kind]
    registries = {"backbone": BACKBONES, "readout": READOUTS}
    pools = [{family: {**base[family], "pool": 3}} for family in registries if "pool" in base[family]]
    assert pools
    changed = [{"seed": 5}, {"depth": {"V1": 1, "V4": 0}}, {"depth": {"V1": [0, 1], "V4": 0}}, *pools]
    ids = [cell_of({**base, **change}).cell_id for change in ({}, *changed)]
    ids += [cell_of(base, area="V4").cell_id, cell_of(base, replace(FIRST, fingerprint="other"), SECOND).cell_id]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_depth_of_another_area_counts_where_both_are_trained_together(kind: str) -> None:
    same = cell_of({**KINDS[kind], "depth": {"V1": 0, "V4": 1}}).cell_id == cell_of(KINDS[kind]).cell_id
    assert same is (kind == "frozen")


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_recordings_do_not_count(kind: str) -> None:
    renamed = (replace(FIRST, name="a"), replace(SECOND, name="b"))
    assert cell_of(KINDS[kind], *renamed).cell_id == cell_of(KINDS[kind]).cell_id


def test_a_trial_is_its_cells_in_any_order() -> None:
    cells = Planner((FIRST, SECOND), Split()).cells(dict(FROZEN))
    assert [(cell.recording, cell.area) for cell in cells] == [("first", "V1"), ("first", "V4"), ("second", "V1")]
    assert Planner.trial_id(cells) == Planner.trial_id(cells[::-1]) != Planner.trial_id(cells[1:])
    swapped = [replace(cells[0], cell_id=cells[1].cell_id), replace(cells[1], cell_id=cells[0].cell_id), cells[2]]
    assert Planner.trial_id(swapped) != Planner.trial_id(cells)


def test_ids_do_not_move() -> None:
    """Rows of earlier runs stand under these: another id for the same thing has it fitted again."""
    shared = {"second": SharedGroups((2,), {"a": 0, "b": 1})}
    cells = [
        cell_of(FROZEN),
        cell_of(TRAINED),
        cell_of(TRAINED, FIRST, replace(SECOND, split_basis=UNEVEN)),
        cell_of(TRAINED, shared=shared),
    ]
    assert [cell.cell_id for cell in cells] == [
        "65ab632910b73341f362",
        "399ee8b0010722f0bb45",
        "e1f442230904e7e17bae",
        "3492d2d379fb6f7e3bf8",
    ]
    assert Planner.trial_id(cells[:1]) == "4ca10a82ff2d8d4987ba"
    assert cells[0].random_seed() == int(cells[0].cell_id[:12], 16)
