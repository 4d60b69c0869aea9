"""Splits by group: what must hold for any recording."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.recordings.splits import FOLDED_BELOW_GROUPS, FOLDED_BELOW_STIMULI, is_folded, split_groups


@st.composite
def grouped(draw: st.DrawFn, fewest: int, most: int, stimuli: int = 0) -> np.ndarray:
    """Labels of groups of unequal size, in any order."""
    count = draw(st.integers(fewest, most))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    extra = random.integers(0, count, max(stimuli, draw(st.integers(0, 3 * count))))
    return np.char.add("g", random.permutation(np.concatenate([np.arange(count), extra])).astype(str))


shares = st.floats(0.05, 0.4)
seeds = st.integers(0, 1000)
large = grouped(FOLDED_BELOW_GROUPS, 120, FOLDED_BELOW_STIMULI)
small = grouped(4, FOLDED_BELOW_GROUPS - 1)


@settings(deadline=None)
@given(large, shares, shares, seeds, seeds)
def test_one_split_of_a_large_recording(
    groups: np.ndarray, report: float, select: float, split_seed: int, seed: int
) -> None:
    assert not is_folded(groups)
    [fold] = split_groups(groups, report, select, split_seed, seed)
    parts = [fold.train, fold.select, fold.report]
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    names = [set(groups[part]) for part in parts]
    assert all(names)
    assert sum(map(len, names)) == len(set(groups))
    assert len(names[2]) == max(1, round(report * len(set(groups))))


@settings(deadline=None)
@given(large, seeds, seeds, seeds)
def test_the_report_set_is_the_same_for_every_trial(groups: np.ndarray, split_seed: int, one: int, two: int) -> None:
    [first] = split_groups(groups, 0.2, 0.2, split_seed, one)
    [second] = split_groups(groups, 0.2, 0.3, split_seed, two)
    assert np.array_equal(first.report, second.report)


@settings(deadline=None)
@given(small, st.floats(0.05, 0.28), shares, seeds, seeds)
def test_outer_folds_of_a_small_recording(
    groups: np.ndarray, report: float, select: float, split_seed: int, seed: int
) -> None:
    assert is_folded(groups)
    folds = split_groups(groups, report, select, split_seed, seed)
    assert len(folds) == min(round(1 / report), len(set(groups)))
    everyone = list(range(len(groups)))
    assert sorted(np.concatenate([fold.report for fold in folds])) == everyone
    assert sorted(np.concatenate([fold.select for fold in folds])) == everyone
    for fold in folds:
        parts = [fold.train, fold.select, fold.report]
        assert sorted(np.concatenate(parts)) == everyone
        assert sum(len(set(groups[part])) for part in parts) == len(set(groups))
        assert len(set(groups[fold.train])) >= 2


@settings(deadline=None)
@given(small, seeds, seeds, seeds)
def test_the_folds_are_the_same_for_every_trial(groups: np.ndarray, split_seed: int, one: int, two: int) -> None:
    first = split_groups(groups, 0.2, 0.2, split_seed, one)
    second = split_groups(groups, 0.2, 0.2, split_seed, two)
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left.report, right.report)


@given(grouped(4, 60, 100), seeds, seeds)
@settings(max_examples=30, deadline=None)
def test_the_same_seeds_give_the_same_split(groups: np.ndarray, split_seed: int, seed: int) -> None:
    first, second = (split_groups(groups, 0.2, 0.2, split_seed, seed) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left.train, right.train)
        assert np.array_equal(left.select, right.select)


def test_seeds_matter() -> None:
    groups = np.arange(300)
    [base] = split_groups(groups, 0.2, 0.2, 0, 0)
    [other] = split_groups(groups, 0.2, 0.2, 1, 0)
    [drawn] = split_groups(groups, 0.2, 0.2, 0, 1)
    assert not np.array_equal(base.report, other.report)
    assert not np.array_equal(base.select, drawn.select)


@pytest.mark.parametrize(
    ("groups", "stimuli", "folded"), [(29, 400, True), (30, 400, False), (50, 199, True), (50, 200, False)]
)
def test_when_a_recording_is_folded(groups: int, stimuli: int, folded: bool) -> None:
    assert is_folded(np.arange(stimuli) % groups) is folded


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_groups_than_splits(count: int) -> None:
    with pytest.raises(InputError, match=rf"group = {count}: fewer groups than splits: .* 2 are needed"):
        split_groups(np.arange(40) % count, 0.2, 0.2, 0, 0)


def test_four_groups_are_enough() -> None:
    assert len(split_groups(np.arange(40) % 4, 0.2, 0.2, 0, 0)) == 4


@pytest.mark.parametrize(("groups", "enough"), [(4, False), (5, False), (6, True)])
def test_three_folds_leave_two_groups_to_train_on(groups: int, enough: bool) -> None:
    """The two largest folds are selected on and reported; what is left is one group where they have two each."""
    if enough:
        assert len(split_groups(np.arange(60) % groups, 0.333, 0.2, 0, 0)) == 3
        return
    with pytest.raises(InputError, match="1 would be left to train on"):
        split_groups(np.arange(60) % groups, 0.333, 0.2, 0, 0)


def test_two_folds_would_leave_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match="1/2 leaves nothing to train on"):
        split_groups(np.arange(40) % 20, 0.5, 0.2, 0, 0)


def test_shares_that_leave_one_group_of_a_large_recording() -> None:
    with pytest.raises(InputError, match="fewer groups than splits"):
        split_groups(np.arange(300) % 30, 0.5, 0.49, 0, 0)
