"""Rows of one stimulus are its repeats, unless they say that they are stimuli of their own."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import write_recording
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.recordings import open_recording
from sweeps.recordings.readers.presentations import presentations_of, stacked, stimulus_columns
from sweeps.recordings.recording import Recording


def opened(folder: Path, **settings: Any) -> Recording:
    recording = open_recording({"format": "folder", "path": str(folder), **settings}, "", Path())
    assert recording is not None
    return recording


def rewrite(folder: Path, **columns: list[Any]) -> None:
    pd.DataFrame(columns).to_csv(folder / "stimuli.csv", index=False)


def name(number: int) -> str:
    return f"{number:04d}.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve rows of six pictures, each shown twice, the second time in another order."""
    small = write_recording(tmp_path / "small", stimuli=12, repeats=1)
    rewrite(small, file=[name(number) for number in SHOWN])
    return small


SHOWN = [0, 1, 2, 3, 4, 5, 5, 3, 1, 0, 2, 4]


def test_presentations_are_repeats(folder: Path) -> None:
    raw = np.load(folder / "responses.npy")[:, :, 0]
    recording = opened(folder)
    assert recording.fit.responses.shape == (6, 9, 2)
    assert recording.fit.table["file"].tolist() == [name(number) for number in range(6)]
    again = [SHOWN[6:].index(number) + 6 for number in range(6)]
    assert np.array_equal(recording.fit.responses, np.stack([raw[:6], raw[again]], axis=2))
    assert recording.notes["presentations"].startswith("12 rows are presentations of 6 stimuli")
    shown = recording.fit.images
    assert shown is not None
    assert shown(slice(None)).shape[0] == 6


def test_they_can_be_kept_apart(folder: Path) -> None:
    """Then a recording is what it was before rows were taken as repeats, its key and fingerprint too."""
    apart, together = opened(folder, presentations="separate"), opened(folder)
    assert apart.fit.responses.shape == (12, 9, 1)
    assert apart.groups.tolist() == [name(number) for number in SHOWN]
    assert apart.notes == {}
    assert apart.fingerprint != together.fingerprint
    assert apart.fit.key != together.fit.key


def test_the_fingerprint_follows_the_setting_only_where_it_matters(tmp_path: Path) -> None:
    small = write_recording(tmp_path / "small", stimuli=12)
    assert opened(small).fingerprint == opened(small, presentations="separate").fingerprint


def test_repeats_of_rows_stand_side_by_side(tmp_path: Path) -> None:
    small = write_recording(tmp_path / "small", stimuli=12, repeats=3)
    rewrite(small, file=[name(0), name(1), name(0), *map(name, range(2, 11))])
    raw, responses = np.load(small / "responses.npy"), opened(small).fit.responses
    assert responses.shape == (11, 9, 6)
    assert np.array_equal(responses[0], np.concatenate([raw[0], raw[2]], axis=1))
    assert np.array_equal(responses[1, :, :3], raw[1])
    assert np.isnan(responses[1:, :, 3:]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.integers(1, 3), st.integers(0, 2**16))
def test_every_number_is_kept_in_its_place(shown: list[int], repeats: int, seed: int) -> None:
    """The reference: lists of the presentations of every stimulus, in order of the rows."""
    responses = np.random.default_rng(seed).standard_normal((len(shown), 2, repeats))
    table = pd.DataFrame({"file": [name(number) for number in shown], "trial": range(len(shown))})
    presentations = presentations_of(table, table["file"].to_numpy(dtype=str))
    lists: dict[int, list[np.ndarray]] = defaultdict(list)
    for number, values in zip(shown, responses, strict=True):
        lists[number].append(values)
    together = stacked(responses, presentations)
    assert len(together) == len(lists)
    for stimulus, values in zip(together, lists.values(), strict=True):
        there = np.concatenate(values, axis=1)
        assert np.array_equal(stimulus[:, : there.shape[1]], there)
        assert np.isnan(stimulus[:, there.shape[1] :]).all()


@pytest.mark.parametrize(
    "column", ["trial", "session_id", "Onset (s)", "trialIndex", "presentation time", "Unnamed: 0"]
)
def test_what_tells_of_a_presentation_does_not_matter(folder: Path, column: str) -> None:
    rewrite(folder, file=[name(number) for number in SHOWN], **{column: list(range(12))})
    assert len(opened(folder).groups) == 6


@pytest.mark.parametrize("column", ["object", "position", "position_index", "contrast", "caption", "noise_level"])
def test_what_tells_of_the_stimulus_keeps_rows_apart(folder: Path, column: str) -> None:
    rewrite(folder, file=[name(number) for number in SHOWN], **{column: [0] * 6 + [1] * 6})
    recording = opened(folder)
    assert recording.fit.responses.shape[0] == 12
    assert recording.facts().groups == 6
    assert f"12 rows show what another shows, but differ in {column}" in recording.notes["apart"]


def test_columns_of_stimuli() -> None:
    table = pd.DataFrame(columns=["file", "clip", "frame", "group", "run", "runner", "view time", "eyeColour"])
    assert stimulus_columns(table) == ["group", "runner", "view time"]


def test_rows_of_two_groups_stay_rows_of_one_group(folder: Path) -> None:
    """The groups of a user say that they are apart; a split that cut them would hold out what it trains on."""
    groups = [f"g{number}" for number in range(6)] + ["other", *(f"g{number}" for number in SHOWN[7:])]
    rewrite(folder, file=[name(number) for number in SHOWN], group=groups)
    recording = opened(folder)
    assert len(recording.groups) == 7
    assert recording.fit.table["group"].tolist() == [f"g{number}" for number in range(6)] + ["g5"]


def test_rows_of_other_features_are_other_stimuli(folder: Path) -> None:
    features = np.random.default_rng(0).standard_normal((12, 3))
    features[8] = features[1]
    np.savez(folder / "features.npz", one=features)
    recording = opened(folder)
    assert len(recording.groups) == 11
    assert np.array_equal(recording.features["one"], np.delete(features, 8, axis=0))


def test_rows_of_other_roles_are_left_as_they_are(folder: Path) -> None:
    files = [name(number) for number in [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9]]
    roles, objects = ["fit"] * 8 + ["objects"] * 4, [""] * 8 + ["cup"] * 4
    rewrite(folder, file=files, role=roles, object=objects, transform=[""] * 8 + ["1", "2", "3", "4"])
    recording = opened(folder)
    assert (len(recording.groups), len(recording.sets["objects"].table)) == (8, 4)


# -- clips ------------------------------------------------------------------------------------------


def clips(folder: Path, *shown: tuple[str, list[int]]) -> None:
    """Runs of frames: the label of each, and its pictures."""
    rows = [(label, frame, name(number)) for label, numbers in shown for frame, number in enumerate(numbers)]
    labels, frames, files = (list(column) for column in zip(*rows, strict=True))
    rewrite(folder, file=files, clip=labels, frame=frames)


FOUR = [("a", [0, 1]), ("b", [2, 3]), ("c", [4, 5]), ("d", [6, 7])]


@pytest.mark.parametrize("place", range(5))
def test_a_clip_that_stands_again_is_a_repeat(folder: Path, place: int) -> None:
    runs = [*FOUR, ("e", [8, 9])]
    clips(folder, *runs[: place + 1], runs[place], *runs[place + 1 :])
    recording, raw = opened(folder), np.load(folder / "responses.npy")[:, :, 0]
    assert recording.fit.responses.shape == (10, 9, 2)
    assert [len(rows) for rows in recording.fit.clips] == [2] * 5
    assert recording.fit.table["frame"].tolist() == [0, 1] * 5
    mine = slice(2 * place, 2 * place + 2)
    assert np.array_equal(recording.fit.responses[mine, :, 0], raw[mine])
    assert np.array_equal(recording.fit.responses[mine, :, 1], raw[2 * place + 2 : 2 * place + 4])
    apart = opened(folder, presentations="separate")
    assert len(apart.fit.clips) == 6
    assert apart.facts().groups == 5


def test_a_clip_may_end_early_when_it_stands_again(folder: Path) -> None:
    clips(folder, *FOUR[:3], ("d", [6, 7, 8]), ("d", [6, 7]), ("b", [2]))
    recording = opened(folder)
    assert [len(rows) for rows in recording.fit.clips] == [2, 2, 2, 3]
    assert np.isfinite(recording.fit.responses[:, 0, 1]).tolist() == [False] * 2 + [True, False] + [False] * 2 + [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("other", [[0, 9], [9, 1], [1, 0]])
def test_a_clip_of_another_content_under_one_name_is_refused(folder: Path, other: list[int]) -> None:
    clips(folder, *FOUR, ("e", [8, 10]), ("a", other))
    with pytest.raises(InputError, match="line 12 is not the next frame of a clip"):
        opened(folder)
