"""Cores that are trained on several recordings: nobody's report stimuli are learned from anybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.fitting.leakage import rows_without_leakage
from sweeps.fitting.twin_inputs import TwinInputs
from sweeps.recordings.splits import Fold, split_groups


def pictures(numbers: list[int]) -> TwinInputs:
    """One picture of a few pixels for every number; equal numbers are equal pictures."""
    held = torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    return TwinInputs(held, np.arange(len(numbers)))


def fold_of(groups: np.ndarray, seed: int) -> Fold:
    return split_groups(groups, 0.2, 0.2, seed, 0)[0]


def parts(numbers: list[int], labels: list[str], seed: int) -> tuple[TwinInputs, np.ndarray, Fold]:
    groups = np.array(labels)
    order = np.random.default_rng(seed).permutation(len(np.unique(groups)))
    cut = max(1, len(order) // 4)
    named = np.unique(groups)[order]
    report, select, train = named[:cut], named[cut : 2 * cut], named[2 * cut :]
    return pictures(numbers), groups, Fold(*(np.flatnonzero(np.isin(groups, part)) for part in (train, select, report)))


def kept(held: dict[str, tuple[TwinInputs, np.ndarray, Fold]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return rows_without_leakage(*({name: each[index] for name, each in held.items()} for index in range(3)))  # type: ignore[arg-type]


recordings = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=8, max_size=40)


@settings(max_examples=80, deadline=None)
@given(recordings, recordings, st.integers(0, 9))
def test_no_held_out_picture_is_learned_from(one: list[Any], two: list[Any], seed: int) -> None:
    held = {}
    for number, raw in enumerate((one, two)):
        extra = [(200 + 10 * number + group, group) for group in range(4)]  # every recording has groups enough
        rows = [*raw, *extra]
        held[str(number)] = parts([each for each, _ in rows], [str(group) for _, group in rows], seed + number)
    found = kept(held)
    for name, (train, select) in found.items():
        inputs, groups, fold = held[name]
        other_inputs, _, other = held["1" if name == "0" else "0"]
        assert set(train) <= set(fold.train)
        assert set(select) <= set(fold.select)
        value = inputs.stimuli[:, 0, 0, 0].numpy()
        others = other_inputs.stimuli[:, 0, 0, 0].numpy()
        assert not set(value[train]) & set(others[np.concatenate([other.report, other.select])])
        assert not set(value[select]) & set(others[other.report])
        dropped = set(groups[fold.train]) - set(groups[train])
        for group in dropped:  # for a reason, and whole
            mine = set(value[groups == group])
            assert mine & set(others[np.concatenate([other.report, other.select])]) or _alike(held, name, group)
        assert not dropped & set(groups[train])


def _alike(held: dict[str, tuple[TwinInputs, np.ndarray, Fold]], name: str, group: str) -> bool:
    """Whether a group shares a picture with a group of the other recording that is held out."""
    inputs, groups, _ = held[name]
    other_inputs, other_groups, other = held["1" if name == "0" else "0"]
    out = np.unique(other_groups[np.concatenate([other.report, other.select])])
    shown = other_inputs.stimuli[:, 0, 0, 0].numpy()[np.isin(other_groups, out)]
    return bool(set(inputs.stimuli[:, 0, 0, 0].numpy()[groups == group]) & set(shown))


def test_recordings_that_share_nothing_or_everything_alike_lose_nothing() -> None:
    labels = [f"{number:02d}" for number in range(40)]
    same = {name: parts(list(range(40)), labels, 3) for name in "ab"}
    apart = {"a": same["a"], "b": parts(list(range(100, 140)), labels, 4)}
    alone = {"a": same["a"]}
    for held in (same, apart, alone):
        for name, (train, select) in kept(held).items():
            assert np.array_equal(train, held[name][2].train)
            assert np.array_equal(select, held[name][2].select)


def test_clips_are_alike_by_their_frames_whatever_fills_them_up() -> None:
    """The same two frames, in one recording followed by their repetition up to the longest clip."""
    frames = torch.arange(2, dtype=torch.uint8)[None, None, :, None, None].expand(6, 3, 2, 2, 2).clone()
    frames += (torch.arange(6, dtype=torch.uint8) * 7)[:, None, None, None, None]
    short = TwinInputs(frames, np.arange(12).reshape(6, 2))
    rows = np.concatenate([np.arange(12).reshape(6, 2), np.full((6, 1), -1)], axis=1)
    long = TwinInputs(torch.cat([frames, frames[:, :, 1:]], dim=2), rows)
    groups = np.repeat(np.arange(6).astype(str), 2)
    first = Fold(np.arange(8), np.array([8, 9]), np.array([10, 11]))
    second = Fold(np.arange(4, 12), np.array([2, 3]), np.array([0, 1]))
    found = rows_without_leakage({"a": short, "b": long}, {"a": groups, "b": groups}, {"a": first, "b": second})
    assert found["a"][0].tolist() == [4, 5, 6, 7]
    assert found["b"][0].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("still", [True, False])
def test_pictures_that_are_held_still_are_alike_as_well(still: bool) -> None:
    numbers = list(range(8))
    held = {name: parts(numbers, [str(number) for number in numbers], seed) for name, seed in (("a", 0), ("b", 1))}
    if still:
        for name, (inputs, groups, fold) in held.items():
            rows = np.full((8, 5), -1)
            rows[:, -1] = np.arange(8)
            held[name] = (TwinInputs(inputs.stimuli[:, :, None].expand(-1, -1, 5, -1, -1), rows), groups, fold)
    found = kept(held)
    for name, other in (("a", "b"), ("b", "a")):
        assert not set(found[name][0]) & set(held[other][2].report)
