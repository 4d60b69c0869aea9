"""fMRI formats: stories with words and TextGrids (`lebel`), movies with features (`shortclips`)."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from inline import plan_of, run_inline

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_example
from sweeps.recordings.readers.textgrid import read_words
from sweeps.recordings.recording import Recording
from sweeps.storage.load import load


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def written(folder: Path, name: str, **sizes: Any) -> Path:
    load_example(name)(**sizes).write(folder, 0)
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


def peak_of(read: Callable[[], Any]) -> int:
    """Most bytes that are held while something is read."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def notes_of(folder: Path, kind: str) -> dict[str, Any]:
    [facts] = describe([{"format": kind, "path": str(folder)}], "")
    return facts.notes


# -- stories ----------------------------------------------------------------------------------------


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    return written(tmp_path / "data", "lebel", stories=4, samples=40)


def story_file(folder: Path, story: str) -> Path:
    return folder / "derivative" / "preprocessed_data" / "UTS01" / f"{story}.hf5"


def test_stories_are_trimmed_and_scored(stories: Path) -> None:
    """Files are 20 samples shorter than respdict.json says, one is 5 shorter; what is kept is the same."""
    held = opened(stories, "lebel")
    table, lengths = held.fit.table, json.loads((stories / "derivative" / "respdict.json").read_text())
    assert table["run"].drop_duplicates().tolist() == sorted(lengths)
    assert list(lengths.values()) == [40, 42, 44, 46]
    for story, whole in list(lengths.items())[:3]:
        with h5py.File(story_file(stories, story)) as file:
            stored = file["data"][:, :-1]  # the last voxel has no data in one story
        assert len(stored) == (whole - 5 if story == "story01" else whole - 20)
        kept = stored[10:-5] if story == "story01" else stored
        rows = (table["run"] == story).to_numpy()
        expected = (kept - kept.mean(axis=0)) / kept.std(axis=0)
        np.testing.assert_allclose(held.fit.responses[rows, :, 0], expected, atol=1e-5)
        assert np.isnan(held.fit.responses[rows, :, 1:]).all()
    assert held.facts().texts
    assert set(held.areas) == {"cortex"}
    assert notes_of(stories, "lebel") == {"voxels_left_out": 1, "tier_read": "word"}


def test_individual_repeats_are_read_in_place_of_their_mean(stories: Path) -> None:
    held = opened(stories, "lebel")
    raw = opened(stories, "lebel", zscore=False)
    with h5py.File(story_file(stories, "story03")) as file:
        mean, repeats = file["data"][:, :-1], file["individual_repeats"][:, :, :-1]
    rows = (held.fit.table["run"] == "story03").to_numpy()
    assert held.fit.responses.shape[2] == len(repeats) == 3
    for repeat, samples in enumerate(repeats):
        expected = (samples - samples.mean(axis=0)) / samples.std(axis=0)
        np.testing.assert_allclose(held.fit.responses[rows, :, repeat], expected, atol=1e-5)
    np.testing.assert_allclose(raw.fit.responses[rows].mean(axis=2), mean, atol=1e-5)


def test_without_repeats_the_mean_of_every_story_is_read(stories: Path) -> None:
    held = opened(stories, "lebel", repeats=False, zscore=False)
    assert held.fit.responses.shape[2] == 1
    assert np.isfinite(held.fit.responses).all()
    mean = np.nanmean(opened(stories, "lebel", zscore=False).fit.responses, axis=2)
    np.testing.assert_allclose(held.fit.responses[:, :, 0], mean, rtol=1e-4, atol=1e-4)


def by_hand(folder: Path, data: np.ndarray, whole: int, said: tuple[tuple[float, float, str], ...]) -> Path:
    """A story that is written line by line."""
    home = folder / "derivative"
    (home / "preprocessed_data" / "UTS01").mkdir(parents=True)
    (home / "TextGrids").mkdir()
    (home / "respdict.json").write_text(json.dumps({"tale": whole}))
    with h5py.File(story_file(folder, "tale"), "w") as held:
        held["data"] = data
    entries = "".join(f'2 {start} {end} "{text}"\n' for start, end, text in said)
    head = (
        '"Praat chronological TextGrid text file"\n0 60\n2\n"IntervalTier" "phone" 0 60\n"IntervalTier" "word" 0 60\n'
    )
    (home / "TextGrids" / "tale.TextGrid").write_text(head + entries)
    return folder


def test_the_clock_is_that_of_the_published_code(tmp_path: Path) -> None:
    """Sample i lies at 2 i + 1 - 10 seconds of the sound: of 30 in respdict.json, the 10 from number 10 on are kept.

    The first of these covers seconds 10 to 12 of the sound, so a word in their middle is said at its time.
    """
    data = np.random.default_rng(0).standard_normal((10, 3))
    folder = by_hand(tmp_path / "data", data, 30, ((10.5, 11.5, "first"), (12.0, 14.0, "second"), (28.0, 30.0, "last")))
    held = opened(folder, "lebel")
    assert held.fit.table["time"].tolist() == [21, 23, 25, 27, 29, 31, 33, 35, 37, 39]
    assert held.words is not None
    assert held.words["time"].tolist() == [21, 23, 39]
    later = opened(folder, "lebel", sound_start=9.0, tr=1.5)
    assert later.words is not None
    assert later.words["time"].tolist() == [20, 22, 38]
    assert later.fit.table["time"].tolist()[:2] == [15.75, 17.25]


def test_files_are_read_in_parts_after_the_guard_of_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).standard_normal((40, 65_000))
    folder = by_hand(tmp_path / "data", data, 60, ((1.0, 2.0, "word"),))
    size = story_file(folder, "tale").stat().st_size
    assert size > 20e6
    raw = {"format": "lebel", "path": str(folder)}
    assert peak_of(lambda: open_recording({**raw, "units": 5}, "", folder)) < size / 2
    monkeypatch.setattr("sweeps.recordings.readers.fmri.LARGEST", 1e6)
    monkeypatch.setattr("sweeps.recordings.formats.lebel.chosen", None)
    with pytest.raises(InputError, match=r"65000 voxels, 40 samples, 1 repeats are 0\.0 GB: ask for fewer"):
        open_recording(raw, "", folder)


def test_an_archive_of_the_derivatives_is_the_same_recording(stories: Path, tmp_path: Path) -> None:
    """Of a zip, the only folder at its top (here `derivative`) is not part of names."""
    known = opened(stories, "lebel")
    shutil.make_archive(str(tmp_path / "packed"), "zip", stories)
    for place in (tmp_path / "packed", tmp_path / "packed.zip", stories / "derivative"):
        found = open_recording({"format": "lebel", "path": str(place)}, "", tmp_path)
        assert found is not None
        assert found.fingerprint == known.fingerprint
        assert np.array_equal(found.fit.responses, known.fit.responses, equal_nan=True)


def test_words_are_said_in_the_middle_of_their_interval_and_pauses_are_none(stories: Path) -> None:
    held = opened(stories, "lebel", sound_start=3.0)
    assert held.words is not None
    for story in ("story00", "story03"):  # in the long form
        words = held.words[held.words["run"] == story]
        content = (stories / "derivative" / "TextGrids" / f"{story}.TextGrid").read_bytes()
        text = content.decode("utf-16" if content[:2] == b"\xff\xfe" else "utf-8")
        tier = text[text.index('name = "word"') :].split("intervals [")[1:]
        marks = [dict(line.strip().split(" = ") for line in part.splitlines() if " = " in line) for part in tier]
        said = [mark for mark in marks if mark["text"].strip('"').isalpha() and mark["text"] != '"sp"']
        assert words["word"].tolist() == [mark["text"].strip('"').lower() for mark in said]
        times = [3.0 + (float(mark["xmin"]) + float(mark["xmax"])) / 2 for mark in said]
        np.testing.assert_allclose(words["time"], times)
    assert held.words["run"].nunique() == 4


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
    rewrite(path, lambda held: held.__setitem__("short", held["data"][:23]))
    rewrite(path, lambda held: (held.__delitem__("data"), held.move("short", "data")))  # type: ignore[func-returns-value]


def rename_data(folder: Path) -> None:
    rewrite(
        folder / "derivative" / "preprocessed_data" / "UTS01" / "story00.hf5", lambda held: held.move("data", "bold")
    )


def drop_length(folder: Path) -> None:
    (folder / "derivative" / "respdict.json").write_text(json.dumps({"story00": 40}))


def spoil_repeats(folder: Path) -> None:
    rewrite(story_file(folder, "story03"), lambda held: held.__delitem__("individual_repeats"))
    rewrite(story_file(folder, "story03"), lambda held: held.__setitem__("individual_repeats", np.ones((2, 26, 5))))


def no_voxel(folder: Path) -> None:
    rewrite(story_file(folder, "story02"), lambda held: held["data"].write_direct(np.full((24, 30), np.nan)))


def no_hdf5(folder: Path) -> None:
    (folder / "derivative" / "preprocessed_data" / "UTS01" / "story00.hf5").write_bytes(b"no")


LESS = "the 44 of respdict.json less pad = 5 and trim = 10 + 5"
BROKEN = [
    (drop_dictionary, {}, ("respdict.json", "missing file")),
    (drop_grid, {}, ("story01.TextGrid", "missing file")),
    (spoil_grid, {}, ("story01.TextGrid", "is no TextGrid: 0 stands where a text must")),
    (
        cut_story,
        {},
        ("story02.hf5", "data = 23", "must be 24 (the 44 of respdict.json less pad = 5 and trim = 10 + 5), or 39"),
    ),
    (rename_data, {}, ("story00.hf5", "data: missing dataset; allowed: bold")),
    (drop_length, {}, ("/data/derivative/respdict.json: story01: does not tell the number of samples",)),
    (
        spoil_repeats,
        {},
        ("story03.hf5", "individual_repeats = (2, 26, 5)", "data (samples, voxels), which is (26, 30)"),
    ),
    (no_voxel, {}, ("UTS01", "no voxel holds data")),
    (no_hdf5, {}, ("story00.hf5", "is no HDF5 file")),
    (None, {"subject": "UTS02"}, ("UTS02", "has no stories", "allowed: UTS01")),
    (None, {"stories": ["story99"]}, ("story99.hf5", "missing file")),
    (None, {"trim": [30, 20]}, ("trim = (30, 20)", "leaves none of the 35 samples of story00")),
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


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 1.5
            mark = "ding"
    item [2]:
        class = "IntervalTier"
        name = "phone"
        xmin = 0
        xmax = 3
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 3
            text = "AH"
    item [3]:
        class = "IntervalTier"
        name = "word"
        xmin = 0
        xmax = 3
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = .5
            text = "sl"
        intervals [2]:
            xmin = .5
            xmax = 1
            text = "He said ""7"" ! "
        intervals [3]:
            xmin = 1
            xmax = 2.5e0
            text = "NS_AP"
        intervals [4]:
            xmin = 2.5
            xmax = 3
            text = "World"
"""
SHORT = """File type = "ooTextFile short"
"TextGrid"

0
3
<exists>
3
"TextTier"
"bell"
0
3
1
1.5
"ding"
"IntervalTier"
"phone"
0
3
1
0
3
"AH"
"IntervalTier"
"word"
0
3
4
0
.5
"sl"
.5
1
"He said ""7"" ! "
1
2.5e0
"NS_AP"
2.5
3
"World"
"""
CHRONOLOGICAL = """"Praat chronological TextGrid text file"
0 3   ! Time domain of 60 "seconds".
3   ! Number of tiers.
"TextTier" "bell" 0 3
"IntervalTier" "phone" 0 3
"IntervalTier" "word" 0 3

! phone:
2 0 3
"AH"
3 0 .5 "sl"

3 .5 1
"He said ""7"" ! "
1 1.5
"ding"
3 1 2.5e0
"NS_AP"
3 2.5 3
"World"
"""


@pytest.mark.parametrize("form", [LONG, SHORT, CHRONOLOGICAL], ids=["long", "short", "chronological"])
def test_text_grids_are_read_in_all_text_forms(form: str) -> None:
    for content in (form.encode(), form.replace("\n", "\r\n").encode("utf-16"), form.encode("utf-8-sig")):
        found = [(word.text, word.start, word.end) for word in read_words(content, "x")]
        assert found == [('he said "7" !', 0.5, 1.0), ("world", 2.5, 3.0)]


def test_marks_of_upstream_are_no_words() -> None:
    marks = "sentence_start sentence_end br lg ls ns sp sl ig ns_ap {LG} [laughs] sp. a"
    said = "".join(f'2 {start} {start + 1} "{mark.upper()}"\n' for start, mark in enumerate(marks.split()))
    content = (
        '"Praat chronological TextGrid text file" 0 9 2 "IntervalTier" "phone" 0 9 "IntervalTier" "word" 0 9\n' + said
    )
    assert [word.text for word in read_words(content.encode(), "x")] == ["sp.", "a"]


ODD = [
    ('"IntervalTier" "phone" 0 1 1 0 1 "AH"', "has no tier of intervals whose name says .* `tier`.*: 'phone'$"),
    ('"TextTier" "word" 0 1 1 0 "AH"', "has no tier of intervals whose name says .*: none$"),
    ('"IntervalTier" "word" 0 1 2 0 1 "AH"', "is no TextGrid: it ends where a number must follow"),
    ('"IntervalTier" "word" 0 1 1 0 1', "is no TextGrid: it ends where a text must follow"),
    ('"IntervalTier" "word" 0 1 1.5 0 1', "is no TextGrid: 1.5 stands where a whole number must"),
    ('"IntervalTier" 0 1 1 0 1 "AH"', "is no TextGrid: 0 stands where a text must, at character 66"),
]


@pytest.mark.parametrize(("tiers", "problem"), ODD)
def test_odd_text_grids_are_refused(tiers: str, problem: str) -> None:
    content = f'File type = "ooTextFile"\n"TextGrid" 0 1 <exists> 1\n{tiers}'
    with pytest.raises(InputError, match=problem):
        read_words(content.encode(), "x")
    with pytest.raises(InputError, match="does not begin as one of Praat's text forms"):
        read_words(b'"OtherGrid"' + content.encode(), "x")
    with pytest.raises(InputError, match="an entry of tier 3, there are 1"):
        read_words(b'"Praat chronological TextGrid text file" 0 1 1 "IntervalTier" "word" 0 1 3 0 1 "a"', "x")


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
    assert notes_of(movies, "shortclips") == {"voxels_left_out": 2}


def test_movies_are_read_in_parts_after_the_guard_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "data", "shortclips", runs=3, samples=100, test=20, repeats=2, voxels=16_000)
    size = (folder / "responses" / "S01_responses.hdf").stat().st_size
    assert size > 20e6
    raw = {"format": "shortclips", "path": str(folder)}
    assert peak_of(lambda: open_recording({**raw, "units": 5}, "", folder)) < size / 2
    monkeypatch.setattr("sweeps.recordings.readers.fmri.LARGEST", 1e6)
    monkeypatch.setattr("sweeps.recordings.formats.shortclips.chosen", None)
    with pytest.raises(InputError, match=r"15998 voxels, 320 samples, 2 repeats are 0\.0 GB: ask for fewer"):
        open_recording(raw, "", folder)


@pytest.mark.parametrize("chunks", [(7, 5), (300, 1), (1, 24), True])
def test_chunks_do_not_matter(chunks: Any, movies: Path) -> None:
    known = opened(movies, "shortclips", units=6).fit.responses

    def chunked(held: h5py.File) -> None:
        values = held["Y_train"][:]
        del held["Y_train"]
        held.create_dataset("Y_train", data=values, chunks=chunks, compression="gzip")

    rewrite(movies / "responses" / "S01_responses.hdf", chunked)
    assert np.array_equal(opened(movies, "shortclips", units=6).fit.responses, known, equal_nan=True)


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
