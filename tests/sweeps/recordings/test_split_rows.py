"""Splits of a whole recording: named sets, kept sets, and report sets with their share of every number of repeats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline import plan_of
from rich.console import Console

from sweeps.errors import InputError
from sweeps.hashing import canonical
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.split_rows import SplitBasis, confirm_fold, folds_of, left_out, split_identity
from sweeps.recordings.split_settings import Split
from sweeps.recordings.splits import Fold, split_groups
from sweeps.report.preview import preview

NAMED = {"column": "tier", "values": ["test"]}
seeds = st.integers(0, 500)


@st.composite
def bases(draw: st.DrawFn, fewest: int = 30, most: int = 70, tiers: bool = True, uneven: bool = True) -> SplitBasis:
    """Groups of unequal size, in any order, some of several tiers and numbers of repeats."""
    count = draw(st.integers(fewest, most))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    extra = random.integers(0, count, max(210 - count, count))
    groups = np.char.add("g", random.permutation(np.concatenate([np.arange(count), extra])).astype(str))
    of_group = dict(zip(np.unique(groups), random.choice(["train", "train", "test", "validation"], count), strict=True))
    own = np.array([of_group[group] for group in groups]) if tiers else np.full(len(groups), "train")
    strange = random.random(len(groups)) < 0.02 * tiers  # a few pictures whose copies are of another tier
    own[strange] = "test"
    repeats = random.choice([1, 2, 10], len(groups)) if uneven else np.full(len(groups), 3)
    return SplitBasis("r", groups, repeats, pd.DataFrame({"group": groups, "tier": own}))


def sets_of(fold: Fold) -> list[np.ndarray]:
    return [fold.train, fold.select, fold.report, fold.confirm]


def check_apart(basis: SplitBasis, fold: Fold) -> None:
    """No stimulus and no group is in two sets."""
    names = [set(basis.groups[rows]) for rows in sets_of(fold)]
    assert sum(map(len, names)) == len(set.union(*names))
    assert all(len(rows) == len(np.unique(rows)) for rows in sets_of(fold))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(bases(), seeds, seeds, st.sampled_from([0.0, 0.1, 0.3]), st.booleans())
def test_a_named_report_set_is_whole_and_nothing_of_its_groups_is_trained_on(
    basis: SplitBasis, split_seed: int, seed: int, confirm: float, both: bool
) -> None:
    assert basis.table is not None
    named = {"column": "tier", "values": ["validation"]}
    split = Split(seed=split_seed, report=NAMED, confirm=confirm, **({"select": named} if both else {}))
    tiers = basis.table["tier"].to_numpy()
    reported = basis.groups[tiers == "test"]
    if both and not len(set(basis.groups[tiers == "validation"]) - set(reported)):
        return
    [fold] = folds_of(basis, split, seed)
    check_apart(basis, fold)
    assert np.array_equal(fold.report, np.flatnonzero(tiers == "test"))
    assert np.array_equal(fold.report, folds_of(basis, split, seed + 1)[0].report)
    if both:
        own = (tiers == "validation") & ~np.isin(basis.groups, reported)
        assert np.array_equal(fold.select, np.flatnonzero(own))
    lost = np.isin(basis.groups, reported) & (tiers != "test")  # copies of report stimuli in other tiers
    if both:
        lost |= np.isin(basis.groups, basis.groups[fold.select]) & (tiers == "train")
    assert left_out(basis, [fold]) == lost.sum()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(bases(fewest=4, tiers=False), seeds, seeds, st.floats(0.05, 0.3))
def test_what_is_kept_is_as_if_it_had_not_been_recorded(
    basis: SplitBasis, split_seed: int, seed: int, confirm: float
) -> None:
    split = Split(seed=split_seed, confirm=confirm)
    try:
        folds = folds_of(basis, split, seed)
    except InputError:
        return  # too few groups are left
    kept = folds[0].confirm
    distinct = len(np.unique(basis.groups))
    assert len(np.unique(basis.groups[kept])) == max(1, round(confirm * distinct))
    rest = np.setdiff1d(np.arange(len(basis.groups)), kept)
    assert basis.repeats is not None
    alone = split_groups(basis.groups[rest], 0.2, 0.2, split_seed, seed, basis.repeats[rest])
    assert len(alone) == len(folds)
    for own, fold in zip(alone, folds, strict=True):
        check_apart(basis, fold)
        assert all(np.array_equal(rest[a], b) for a, b in zip(sets_of(own)[:3], sets_of(fold)[:3], strict=True))
        assert np.array_equal(fold.confirm, kept)
    other = folds_of(basis, split, seed + 1)[0].confirm
    assert np.array_equal(other, kept)  # by the split's seed alone
    opened = confirm_fold(folds)
    assert np.array_equal(opened.report, kept)
    fitted = opened.fitted_on("report")
    assert np.array_equal(fitted, rest if len(folds) > 1 else folds[0].fitted_on("report"))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(bases(tiers=False), seeds, st.floats(0.05, 0.45))
def test_a_random_report_set_has_its_share_of_every_number_of_repeats(
    basis: SplitBasis, split_seed: int, report: float
) -> None:
    assert basis.repeats is not None
    [fold] = split_groups(basis.groups, report, 0.1, split_seed, 0, basis.repeats)
    check_apart(basis, fold)
    most = pd.Series(basis.repeats).groupby(basis.groups).max()
    reported = most[np.unique(basis.groups[fold.report])]
    count = max(1, round(report * len(most)))
    assert len(reported) == count
    for repeats, groups in most.groupby(most):
        share = count * len(groups) / len(most)
        assert np.floor(share) <= (reported == repeats).sum() <= np.ceil(share)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(bases(fewest=6, most=29, tiers=False), seeds, seeds)
def test_outer_folds_have_their_share_of_every_number_of_repeats(basis: SplitBasis, split_seed: int, seed: int) -> None:
    assert basis.repeats is not None
    folds = split_groups(basis.groups, 0.2, 0.2, split_seed, seed, basis.repeats)
    most = pd.Series(basis.repeats).groupby(basis.groups).max()
    for repeats, groups in most.groupby(most):
        counts = [(most[np.unique(basis.groups[fold.report])] == repeats).sum() for fold in folds]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == len(groups)


def before(groups: np.ndarray, report: float, select: float, split_seed: int, seed: int) -> list[list[np.ndarray]]:
    """Splits as they were drawn before there were strata, written down again from the description of the draws."""
    names = np.unique(groups)
    order = np.random.default_rng([split_seed, 1]).permutation(len(names))

    def rows(chosen: np.ndarray) -> np.ndarray:
        return np.flatnonzero([group in set(names[chosen]) for group in groups])

    if len(names) >= 30 and len(groups) >= 200:
        cut = max(1, round(report * len(names)))
        rest = np.random.default_rng([split_seed, 2, seed]).permutation(np.array(sorted(order[cut:])))
        chosen = max(1, round(select * len(names)))
        return [[rows(rest[chosen:]), rows(rest[:chosen]), rows(order[:cut])]]
    count = min(round(1 / report), len(names))
    ring = np.random.default_rng([split_seed, 2, seed]).permutation(count)
    parts = [order[start::count] for start in range(count)]
    folds = {}
    for place, fold in enumerate(ring):
        select_part = ring[(place + 1) % count]
        train = np.concatenate([part for i, part in enumerate(parts) if i not in (fold, select_part)])
        folds[fold] = [rows(train), rows(parts[select_part]), rows(parts[fold])]
    return [folds[fold] for fold in range(count)]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(bases(fewest=6, tiers=False, uneven=False), seeds, seeds)
def test_recordings_of_equal_repeats_keep_their_split_and_its_identity(
    basis: SplitBasis, split_seed: int, seed: int
) -> None:
    split = Split(seed=split_seed)
    expected = before(basis.groups, 0.2, 0.2, split_seed, seed)
    for folds in (folds_of(basis, split, seed), split_groups(basis.groups, 0.2, 0.2, split_seed, seed)):
        assert len(folds) == len(expected)
        for fold, parts in zip(folds, expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(sets_of(fold)[:3], parts, strict=True))
    text = f'{{"report":0.2,"seed":{split_seed},"select":0.2}}'
    assert canonical(split_identity(basis, split)) == canonical(split.model_dump()) == text


def test_identity_says_what_the_settings_do_not() -> None:
    groups = np.array([f"g{i}" for i in range(240)])
    table = pd.DataFrame({"tier": ["test" if i % 6 == 0 else "train" for i in range(240)]})
    even, uneven = np.full(240, 2), np.where(np.arange(240) % 6, 1, 10)
    plain, named, kept = Split(), Split(report=NAMED), Split(confirm=0.1)
    assert split_identity(SplitBasis("r", groups, uneven, table), plain) == {**plain.model_dump(), "strata": 1}
    assert "strata" not in split_identity(SplitBasis("r", groups, even, table), plain)
    assert "strata" not in split_identity(SplitBasis("r", groups, uneven, table), named)
    other = table.assign(tier=table["tier"].where(table.index != 6, "train"))
    one, two = (split_identity(SplitBasis("r", groups, even, own), named)["rows"] for own in (table, other))
    assert one != two
    assert split_identity(SplitBasis("r", groups, even, table), kept)["confirm"] == 0.1
    assert Split(**kept.model_dump()) == kept
    assert Split(**named.model_dump()) == named


def test_repeats_are_counted_where_any_unit_was_recorded() -> None:
    responses = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    responses[1, :, 2:] = np.nan
    responses[2, 1:, 3] = np.nan
    responses[3] = np.nan
    stimuli = StimulusSet(pd.DataFrame({"group": list("aabbc")}), responses, "key")
    assert stimuli.repeats.tolist() == [4, 2, 4, 0, 4]
    recording = Recording("r", "print", np.array(["V1"] * 3), {"fit": stimuli})
    assert not recording.split_basis.uneven  # of a group the most count: skipped frames are no stratum of their own
    assert recording.facts().split_basis is recording.split_basis


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": (
        {"report": {"column": "teir", "values": ["test"]}},
        "split.report.column = 'teir': recording r has no such column; allowed: group, tier, time",
    ),
    "no such value": (
        {"report": {"column": "tier", "values": ["test", "orcale"]}},
        "split.report.values = 'orcale': no stimulus of recording r has it in the column tier; allowed: train, test",
    ),
    "select too": (
        {"report": NAMED, "select": {"column": "time", "values": [7]}},
        "split.select.values = 7: no stimulus of recording r has it in the column time; allowed: 0.5, 1.5",
    ),
    "nothing published": ({"report": "published"}, "split.report = 'published': recording r has no published report"),
    "select is report": (
        {"report": NAMED, "select": NAMED},
        "split.select: every such stimulus of recording r shares a group with a report stimulus",
    ),
    "all is report": (
        {"report": {"column": "tier", "values": ["test", "train"]}, "select": 0.2},
        "fewer groups than splits",
    ),
    "outer folds": ({"select": {"column": "tier", "values": ["test"]}}, "split.select: recording r is small: outer"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_table_does_not_have_is_refused_with_what_it_has(case: str) -> None:
    given_split, words = BAD[case]
    table = pd.DataFrame(
        {"group": [f"g{i}" for i in range(60)], "tier": ["train", "test"] * 30, "time": [0.5, 1.5] * 30}
    )
    basis = SplitBasis("r", table["group"].to_numpy(dtype=str), np.ones(60, dtype=int), table)
    with pytest.raises(InputError) as caught:
        folds_of(basis, Split(**given_split), 0)
    assert words in str(caught.value)


def test_numbers_name_rows_of_numbers_and_of_texts() -> None:
    groups = np.array([f"g{i}" for i in range(12)])
    for column in ([1, 2, 3] * 4, ["1", "2", "3"] * 4, [1.0, 2.0, 3.0] * 4):
        basis = SplitBasis("r", groups, None, pd.DataFrame({"run": column}))
        [fold] = folds_of(basis, Split(report={"column": "run", "values": [3]}), 0)
        assert np.array_equal(fold.report, np.arange(2, 12, 3))


def test_check_says_what_is_wrong_and_how_large_the_sets_are(make_recording: Any, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data" / "lab", stimuli=60, areas={"V1": 3})
    lines = (folder / "stimuli.csv").read_text().splitlines()
    tiers = ["oracle" if i < 12 else "validation" if i < 20 else "train" for i in range(60)]
    rows = [f"{line},{tier}" for line, tier in zip(lines[1:], tiers, strict=True)]
    rows[0] = rows[0].replace("group000", "group059")  # a picture of the report set that was trained on, too
    (folder / "stimuli.csv").write_text("\n".join([f"{lines[0]},tier", *rows]) + "\n")
    experiment = {
        "name": "tiers",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": "pixels", "readout": {"ridge": {"pool": 4}}},
        "scores": ["prediction"],
    }

    def printed(split: dict[str, Any]) -> str:
        console = Console(width=200, record=True, file=io.StringIO())
        preview(plan_of({**experiment, "split": split}, tmp_path), console)
        return console.export_text()

    oracle = {"column": "tier", "values": ["oracle"]}
    text = printed({"report": oracle, "select": {"column": "tier", "values": ["validation"]}})
    assert "split of lab: train 39 (39), select 8 (8), report 12 (12) stimuli (groups); 1 left out" in text
    assert "confirm 5 (5)" in printed({"report": oracle, "confirm": 0.1})
    assert "5 outer folds, each with train" in printed({})
    with pytest.raises(InputError, match=r"Formats whose data have one: .*nsd .*shortclips .the test run"):
        printed({"report": "published"})
    with pytest.raises(InputError, match=r"split\.report.values: is missing"):
        printed({"report": {"column": "tier"}})
    with pytest.raises(InputError, match=r"split\.report.valeus: unknown key; allowed: column, values"):
        printed({"report": {"column": "tier", "valeus": ["oracle"]}})
