"""Recordings that show the same hold the same out, whatever else each of them shows."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_recording
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.experiment.cells import Planner
from sweeps.experiment.schema import Split
from sweeps.experiment.worker_context import WorkerContext
from sweeps.features.worker_data import WorkerData
from sweeps.planning.plan import Plan, make_plan
from sweeps.recordings.contents import Contents
from sweeps.recordings.recording import RecordingFacts
from sweeps.recordings.shared_groups import shared_groups
from sweeps.recordings.shared_splits import SharedGroups, split_shared
from sweeps.recordings.splits import FOLDED_BELOW_GROUPS, Fold, split_groups


def facts(name: str, groups: list[str], contents: list[str], stimuli: int = 400, **more: Any) -> RecordingFacts:
    known = Contents.known(groups, contents)
    return RecordingFacts(name, f"print of {name}", {"V1": 3}, stimuli, len(set(groups)), 1, ("fit",), contents=known)


def recording(name: str, contents: range | list[int], stimuli: int = 400) -> RecordingFacts:
    """A recording whose groups have names of its own, in another order than its contents."""
    shown = [f"c{number}" for number in contents]
    labels = np.random.default_rng(len(name) + len(shown)).permutation(len(shown))
    return facts(name, [f"{name}{label:04d}" for label in labels], shown, stimuli)


def labels_of(one: RecordingFacts) -> np.ndarray:
    assert one.contents is not None
    distinct = np.unique(one.contents.groups)
    return distinct[np.arange(one.stimuli) % len(distinct)]


def sides(one: RecordingFacts, folds: list[Fold]) -> dict[str, tuple[int, int]]:
    """Fold in which each content is reported, and that in which it is selected; -1 for neither."""
    assert one.contents is not None
    groups = labels_of(one)
    fold_of = np.full((len(groups), 2), -1)
    for number, fold in enumerate(folds):
        fold_of[fold.report, 0], fold_of[fold.select, 1] = number, number
        assert sorted(np.concatenate([fold.train, fold.select, fold.report])) == list(range(len(groups)))
    places: dict[str, set[tuple[int, int]]] = {}
    for group, place in zip(groups.tolist(), fold_of.tolist(), strict=True):
        places.setdefault(group, set()).add((place[0], place[1]))
    assert all(len(found) == 1 for found in places.values())
    content = dict(zip(one.contents.groups.tolist(), one.contents.sketches.tolist(), strict=True))
    return {content[group]: found.pop() for group, found in places.items()}


def split(one: RecordingFacts, shared: dict[str, SharedGroups], seed: int, split_seed: int = 0) -> list[Fold]:
    groups = labels_of(one)
    if one.name in shared:
        return split_shared(groups, shared[one.name], 0.2, 0.2, split_seed, seed)
    return split_groups(groups, 0.2, 0.2, split_seed, seed)


contents = st.tuples(st.integers(0, 80), st.integers(FOLDED_BELOW_GROUPS + 5, 120)).map(
    lambda pair: range(pair[0], sum(pair))
)


@settings(max_examples=40, deadline=None)
@given(st.lists(contents, min_size=2, max_size=4), st.integers(0, 50), st.integers(0, 50))
def test_shared_contents_are_on_one_side(shown: list[range], split_seed: int, seed: int) -> None:
    known = [recording("abcd"[index], numbers) for index, numbers in enumerate(shown)]
    shared = shared_groups(known)
    found = [sides(one, split(one, shared, seed, split_seed)) for one in known]
    for one, two in itertools.combinations(found, 2):
        assert all(one[content] == two[content] for content in set(one) & set(two))


@settings(max_examples=60, deadline=None)
@given(contents, contents, st.integers(0, 50))
def test_the_parts_keep_their_sizes(one: range, two: range, split_seed: int) -> None:
    """Up to one group for each of the (at most two) strata and for rounding."""
    assume(set(one) & set(two))
    known = [recording("a", one), recording("b", two)]
    shared = shared_groups(known)
    for each in known:
        [fold] = split(each, shared, 0, split_seed)
        groups = labels_of(each)
        parts = [fold.train, fold.select, fold.report]
        assert sorted(np.concatenate(parts)) == list(range(len(groups)))
        sizes = [len(np.unique(groups[part])) for part in parts]
        assert abs(sizes[2] - 0.2 * each.groups) <= 2
        assert abs(sizes[1] - 0.2 * each.groups) <= 3


def test_the_report_set_depends_on_the_split_seed_alone() -> None:
    known = [recording("a", range(60)), recording("b", range(30, 120))]
    shared = shared_groups(known)
    reports = [split(known[0], shared, seed)[0].report.tolist() for seed in range(4)]
    selects = [split(known[0], shared, seed)[0].select.tolist() for seed in range(4)]
    assert all(report == reports[0] for report in reports)
    assert len({tuple(select) for select in selects}) == 4
    assert split(known[0], shared, 0, split_seed=1)[0].report.tolist() != reports[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 25), st.integers(0, 5), st.integers(6, 25), st.integers(0, 20))
def test_outer_folds_agree(first: int, start: int, second: int, seed: int) -> None:
    known = [recording("a", range(first), 100), recording("b", range(start, start + second), 100)]
    shared = shared_groups(known)
    folds = [split(one, shared, seed) for one in known]
    assert [len(parts) for parts in folds] == [5, 5]
    one, two = (sides(each, parts) for each, parts in zip(known, folds, strict=True))
    assert all(one[content] == two[content] for content in set(one) & set(two))
    for each, parts in zip(known, folds, strict=True):
        reported = np.concatenate([fold.report for fold in parts])
        assert sorted(reported) == list(range(each.stimuli))
        assert all(len(fold.train) and len(fold.select) and len(fold.report) for fold in parts)


def test_recordings_of_the_same_groups_are_split_as_they_were() -> None:
    names = [f"movie{index:02d}" for index in range(10)]
    known = [facts(name, names, names, 100) for name in "abc"]
    assert shared_groups(known) == {}
    assert shared_groups(known[:1]) == {}
    assert shared_groups([recording("a", range(40)), recording("b", range(50, 90))]) == {}


def test_a_recording_of_which_nothing_is_known_is_left_alone() -> None:
    unknown = RecordingFacts("c", "print of c", {"V1": 3}, 400, 400, 1, ("fit",))
    shared = shared_groups([recording("a", range(60)), unknown, recording("b", range(30, 90))])
    assert sorted(shared) == ["a", "b"]


def test_one_group_that_shows_what_two_of_another_do() -> None:
    """The two are held out together."""
    names = [f"g{index:02d}" for index in range(40)]
    one = facts("a", names, [f"c{index}" for index in range(40)])
    two = facts("b", [f"h{index // 2:02d}" for index in range(80)], [f"c{index}" for index in range(80)])
    shared = shared_groups([one, two])
    found = [sides(each, split(each, shared, 0)) for each in (one, two)]
    assert all(found[0][f"c{2 * index}"] == found[0][f"c{2 * index + 1}"] for index in range(20))
    assert all(found[0][f"c{2 * index + 1}"] == found[1][f"c{2 * index + 1}"] for index in range(20))


def test_equal_sketches_of_other_contents_share_nothing() -> None:
    def shown(name: str) -> Contents:
        groups = np.array([f"{name}{index:02d}" for index in range(40)])
        return Contents(groups, np.array(["sketch"] * 40), lambda entries: [f"{name} {entry}" for entry in entries])

    known = [RecordingFacts(name, name, {"V1": 3}, 400, 40, 1, ("fit",), contents=shown(name)) for name in ("a", "b")]
    assert shared_groups(known) == {}


def test_near_copies_of_clips_are_shared() -> None:
    random = np.random.default_rng(0)
    signatures = random.uniform(0, 255, (50, 10, 16))
    names = np.array([f"{index:02d}" for index in range(50)])

    def shown(shift: float, prefix: str) -> Contents:
        pairs = [(f"{prefix}{index}",) * 2 for index in range(50)]
        return Contents.of(names if prefix == "a" else names[::-1], pairs, list(signatures + shift))

    known = [
        RecordingFacts(name, name, {"V1": 3}, 400, 50, 1, ("fit",), contents=shown(shift, name))
        for name, shift in (("a", 0.0), ("b", 1.0))
    ]
    places = {name: groups.places for name, groups in shared_groups(known).items()}
    assert all(places["a"][names[index]] == places["b"][names[49 - index]] for index in range(50))


def test_names_and_order_of_recordings_do_not_matter() -> None:
    one, two, three = recording("a", range(60)), recording("b", range(30, 120)), recording("c", range(100, 140))
    forward, backward = shared_groups([one, two, three]), shared_groups([three, two, one])
    assert {name: groups.key for name, groups in forward.items()} == {
        name: groups.key for name, groups in backward.items()
    }


def test_a_part_that_would_be_empty_is_refused() -> None:
    known = [recording("a", range(30)), recording("b", range(30)), recording("c", range(60))]
    shared = SharedGroups((1000,), {f"a{index:04d}": 0 for index in range(30)})
    with pytest.raises(InputError, match="a part of the split is empty"):
        split_shared(labels_of(known[0]), shared, 0.2, 0.2, 0, 0)


# -- in an experiment -------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two recordings, the second of which shows 40 pictures of the first under other names."""
    one = write_recording(tmp_path / "one", stimuli=60, size=8)
    two = write_recording(tmp_path / "two", stimuli=60, size=8, seed=1)
    with zipfile.ZipFile(one / "images.zip") as first, zipfile.ZipFile(two / "images.zip") as second:
        shown = [first.read(f"{index + 20:04d}.png") for index in range(40)]
        shown += [second.read(f"{index:04d}.png") for index in range(40, 60)]
    with zipfile.ZipFile(two / "images.zip", "w") as archive:
        for index, content in enumerate(shown):
            archive.writestr(zipfile.ZipInfo(f"{index:04d}.png"), content)
    return plan_of(tmp_path, "one", "two")


def plan_of(folder: Path, *names: str) -> Plan:
    experiment = {
        "name": "shared",
        "recordings": [{"format": "folder", "path": name} for name in names],
        "probes": {},
        "space": {"backbone": ["pixels", "conv"], "depth": {"shared": [0]}, "readout": ["ridge", "gaussian"]},
        "scores": ["prediction"],
    }
    return make_plan(experiment, data=str(folder), storage=str(folder / "out"), cache=str(folder / "cache"))


def test_a_worker_comes_to_the_same_split(plan: Plan) -> None:
    worker = WorkerData(WorkerContext.from_config(plan.context().as_config()))
    folds = {name: worker.folds(worker.recording(name), 3) for name in ("one", "two")}
    assert len(folds["one"]) == len(folds["two"]) == 5
    for one, two in zip(folds["one"], folds["two"], strict=True):
        for part in ("train", "select", "report"):
            mine, other = getattr(one, part), getattr(two, part)
            assert set(mine[mine >= 20] - 20) == set(other[other < 40])


def test_cells_are_other_cells_than_without_the_other_recording(plan: Plan, tmp_path: Path) -> None:
    """And those of recordings that share nothing are the same as ever."""
    alone = plan_of(tmp_path, "one")
    configuration = next(iter(plan.space.grid()))
    assert plan.shared
    assert not alone.shared
    shared = {cell.recording: cell.cell_id for cell in plan.planner.cells(configuration)}
    plain = {cell.recording: cell.cell_id for cell in Planner(plan.facts, Split()).cells(configuration)}
    own = {cell.recording: cell.cell_id for cell in alone.planner.cells(configuration)}
    assert own["one"] == plain["one"]
    assert all(shared[name] != plain[name] for name in shared)


def test_an_equal_recording_under_another_name_is_split_as_ever(tmp_path: Path) -> None:
    one = write_recording(tmp_path / "one", stimuli=60, size=8)
    shutil.copytree(one, tmp_path / "two")
    plan = plan_of(tmp_path, "one", "two")
    assert not plan.shared
    assert json.loads(plan.context().as_config())["shared"] == {}
