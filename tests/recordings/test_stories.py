"""fMRI formats: stories with words and TextGrids (`lebel`), movies with features (`shortclips`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from inline import plan_of, run_inline

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_writer
from sweeps.recordings.recording import Recording
from sweeps.recordings.textgrid import read_words
from sweeps.results import load


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def written(folder: Path, name: str, **sizes: Any) -> Path:
    load_writer(name)(folder, 0, **sizes)
    return folder


def opened(folder: Path, kind: str, **options: Any) -> Recording:
    before = listing(folder)
    raw = {"format": kind, "path": str(folder), **options}
    [facts] = describe([raw], "")
    found = open_recording(raw, "", folder / "cache")
    assert found is not None
    assert found.fingerprint == facts.fingerprint
    assert listing(folder) == before
    return found


def rewrite(path: Path, edit: Callable[[h5py.File], None]) -> None:
    """Change an HDF5 file in place."""
    with h5py.File(path, "r+") as held:
        edit(held)


# -- stories ----------------------------------------------------------------------------------------


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    return written(tmp_path / "data", "lebel", stories=4, samples=40)


def test_stories_are_trimmed_scored_and_placed_in_time(stories: Path) -> None:
    held = opened(stories, "lebel")
    table, lengths = held.fit.table, json.loads((stories / "derivative" / "respdict.json").read_text())
    assert table["run"].drop_duplicates().tolist() == sorted(lengths)
    for story, whole in lengths.items():
        with h5py.File(stories / "derivative" / "preprocessed_data" / "UTS01" / f"{story}.hf5") as file:
            stored = file["data"][:, :-1]  # the last voxel has no data in one story
        kept = stored[10 : whole - 5] if len(stored) == whole else stored  # one story was saved trimmed
        rows = (table["run"] == story).to_numpy()
        assert rows.sum() == whole - 15
        expected = (kept - kept.mean(axis=0)) / kept.std(axis=0)
        np.testing.assert_allclose(held.fit.responses[rows, :, 0], expected, atol=1e-5)
        np.testing.assert_allclose(table.loc[rows, "time"], 2.0 * np.arange(10, whole - 5))
    assert held.facts().texts
    assert set(held.areas) == {"cortex"}


def test_words_are_said_in_the_middle_of_their_interval_and_pauses_are_none(stories: Path) -> None:
    held = opened(stories, "lebel", sound_start=3.0)
    assert held.words is not None
    for story, words in held.words.groupby("run"):
        content = (stories / "derivative" / "TextGrids" / f"{story}.TextGrid").read_bytes()
        text = content.decode("utf-16" if content[:2] == b"\xff\xfe" else "utf-8")
        tier = text[text.index('name = "word"') :].split("intervals [")[1:]
        marks = [dict(line.strip().split(" = ") for line in part.splitlines() if " = " in line) for part in tier]
        said = [mark for mark in marks if mark["text"].strip('"').isalpha() and mark["text"] != '"sp"']
        assert words["word"].tolist() == [mark["text"].strip('"').lower() for mark in said]
        times = [3.0 + (float(mark["xmin"]) + float(mark["xmax"])) / 2 for mark in said]
        np.testing.assert_allclose(words["time"], times)


def test_fewer_voxels_and_stories(stories: Path) -> None:
    held = opened(stories, "lebel", units=5, stories=["story03", "story01"], area="AC", name="two")
    assert held.name == "two"
    assert held.area_names() == ["AC"]
    assert held.fit.responses.shape[1] == 5
    assert held.fit.table["run"].drop_duplicates().tolist() == ["story03", "story01"]


def drop_dictionary(folder: Path) -> None:
    (folder / "derivative" / "respdict.json").unlink()


def drop_grid(folder: Path) -> None:
    (folder / "derivative" / "TextGrids" / "story01.TextGrid").unlink()


def spoil_grid(folder: Path) -> None:
    (folder / "derivative" / "TextGrids" / "story01.TextGrid").write_text("0 1 word")


def cut_story(folder: Path) -> None:
    path = folder / "derivative" / "preprocessed_data" / "UTS01" / "story02.hf5"
    rewrite(path, lambda held: held.__setitem__("short", held["data"][:20]))
    rewrite(path, lambda held: (held.__delitem__("data"), held.move("short", "data")))  # type: ignore[func-returns-value]


def rename_data(folder: Path) -> None:
    rewrite(
        folder / "derivative" / "preprocessed_data" / "UTS01" / "story00.hf5", lambda held: held.move("data", "bold")
    )


def no_hdf5(folder: Path) -> None:
    (folder / "derivative" / "preprocessed_data" / "UTS01" / "story00.hf5").write_bytes(b"no")


BROKEN = [
    (drop_dictionary, {}, ("respdict.json", "missing file")),
    (drop_grid, {}, ("story01.TextGrid", "missing file")),
    (spoil_grid, {}, ("story01.TextGrid", "no TextGrid in the long text form")),
    (cut_story, {}, ("story02.hf5", "data = 20", "must be the 44 of respdict.json, or 29")),
    (rename_data, {}, ("story00.hf5", "data: missing dataset; allowed: bold")),
    (no_hdf5, {}, ("story00.hf5", "is no HDF5 file")),
    (None, {"subject": "UTS02"}, ("UTS02", "has no stories", "allowed: UTS01")),
    (None, {"stories": ["story99"]}, ("story99.hf5", "missing file")),
    (None, {"trim": [30, 20]}, ("trim = (30, 20)", "leaves none of the 40 samples of story00")),
    (None, {"area": None}, ("the data do not tell the area",)),
]


@pytest.mark.parametrize(("change", "options", "pieces"), BROKEN)
def test_broken_stories_are_refused(
    change: Any, options: dict[str, Any], pieces: tuple[str, ...], stories: Path
) -> None:
    if change is not None:
        change(stories)
    with pytest.raises(InputError) as error:
        opened(stories, "lebel", **options)
    for piece in pieces:
        assert piece in str(error.value)


def test_a_text_grid_without_words_of_that_tier() -> None:
    content = b'class = "IntervalTier"\nname = "phone"\nintervals [1]:\nxmin = 0\nxmax = 1\ntext = "AH"\n'
    with pytest.raises(InputError, match="tier = 'word': has no such tier; allowed: phone"):
        read_words(content, "x")


# -- movies -----------------------------------------------------------------------------------------


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    return written(tmp_path / "data", "shortclips")


def test_runs_are_groups_and_the_test_run_has_repeats(movies: Path) -> None:
    held = opened(movies, "shortclips")
    with h5py.File(movies / "responses" / "S01_responses.hdf") as file:
        train, test, onsets = file["Y_train"][:], file["Y_test"][:], file["run_onsets"][:]
    voxels = [voxel for voxel in range(train.shape[1]) if voxel not in (3, 5)]  # no numbers, and never another one
    assert held.fit.responses.shape == (len(train) + test.shape[1], len(voxels), len(test))
    for index, start in enumerate(onsets):
        rows = (held.groups == f"run{index:02d}").nonzero()[0]
        run = train[start : start + 50][:, voxels].astype(np.float64)
        assert rows.tolist() == list(range(start, start + 50))
        np.testing.assert_allclose(held.fit.responses[rows, :, 0], (run - run.mean(0)) / run.std(0), atol=1e-5)
        assert np.isnan(held.fit.responses[rows, :, 1:]).all()
    last = test[:, :, voxels].astype(np.float64)
    expected = (last - last.mean(1, keepdims=True)) / last.std(1, keepdims=True)
    np.testing.assert_allclose(held.fit.responses[len(train) :].transpose(2, 0, 1), expected, atol=1e-5)
    for space in ("motion_energy", "wordnet"):
        with h5py.File(movies / "features" / f"{space}.hdf") as file:
            assert np.array_equal(held.features[space], np.concatenate([file["X_train"][:], file["X_test"][:]]))
    [facts] = describe([{"format": "shortclips", "path": str(movies)}], "")
    assert facts.notes == {"voxels_left_out": 2}


def other_onsets(held: h5py.File) -> None:
    held["run_onsets"][0] = 7


def fewer_features(held: h5py.File) -> None:
    del held["X_test"]
    held["X_test"] = np.zeros((40, 3))


MOVIE_FILES = [
    ("responses/S01_responses.hdf", other_onsets, ("run_onsets", "must be the rising first samples")),
    ("responses/S01_responses.hdf", lambda held: held.move("Y_test", "Y"), ("Y_test: missing dataset",)),
    ("features/wordnet.hdf", fewer_features, ("wordnet.hdf", "have 8 and 3 features")),
    ("features/wordnet.hdf", lambda held: held["X_train"].write_direct(np.full((300, 8), np.nan)), ("holds NaN",)),
]


@pytest.mark.parametrize(("file", "change", "pieces"), MOVIE_FILES)
def test_broken_movies_are_refused(file: str, change: Any, pieces: tuple[str, ...], movies: Path) -> None:
    rewrite(movies / file, change)
    with pytest.raises(InputError) as error:
        opened(movies, "shortclips")
    for piece in pieces:
        assert piece in str(error.value)


def test_delayed_features_predict_the_voxels_that_follow_them(movies: Path, tmp_path: Path) -> None:
    """Responses come two samples later: without delays there is nothing to be read; each half has its own features."""
    raw = {
        "name": "movies",
        "recordings": [{"format": "shortclips", "path": str(movies)}],
        "probes": {},
        "scores": ["prediction"],
        "space": {
            "backbone": {"features": {"set": ["motion_energy", "wordnet", "motion_energy+wordnet"]}},
            "depth": {"shared": "all"},
            "readout": [{"ridge": {"delays": [0, 4]}}, {"banded-ridge": {"delays": 4, "iterations": 5}}],
        },
    }
    plan = plan_of(raw, tmp_path)
    run_inline(plan)
    cells = load(plan.storage, "cells")
    assert set(cells["status"]) == {"done"}, cells["error"].tolist()
    found = cells.set_index(["config.readout", "config.readout.delays", "config.backbone.set"])["score.prediction"]
    both = "motion_energy+wordnet"
    for name in ("motion_energy", "wordnet"):
        assert found["ridge", 0, name] < 0.3 < found["ridge", 4, name]
        assert found["ridge", 4, both] > found["ridge", 4, name] + 0.15
    assert found["banded-ridge", 4, both] > found["ridge", 4, "wordnet"] + 0.15
