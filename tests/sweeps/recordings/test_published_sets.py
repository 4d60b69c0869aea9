"""The published report set of every format that has one, and its split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.errors import InputError
from sweeps.recordings import FORMATS, describe, open_recording, published_sets
from sweeps.recordings.examples import load_example
from sweeps.recordings.formats.lebel import TEST_STORY
from sweeps.recordings.formats.nsd import INFORMATION
from sweeps.recordings.formats.sensorium import TIERS
from sweeps.recordings.readers.trial_tables import published_set
from sweeps.recordings.recording import Recording
from sweeps.recordings.split_rows import PUBLISHED, folds_of
from sweeps.recordings.split_settings import Split

SPLIT = Split(report="published")


def opened(raw: dict[str, Any], cache: Path) -> Recording:
    recording = open_recording(raw, "", cache)
    assert recording is not None
    return recording


def report_of(recording: Recording) -> np.ndarray:
    [fold] = folds_of(recording.split_basis, SPLIT, 0)
    assert not set(recording.groups[fold.train]) & set(recording.groups[fold.report])
    return fold.report


def test_every_format_with_a_published_set_says_what_it_is() -> None:
    names = {"sensorium-static", "sensorium-dynamic", "experanto", "nsd", "lebel", "shortclips"}
    assert set(published_sets()) == names
    assert all(FORMATS[name].published for name in names)


def test_the_test_run_of_shortclips(tmp_path: Path) -> None:
    load_example("shortclips")().write(tmp_path / "data")
    recording = opened({"format": "shortclips", "path": str(tmp_path / "data")}, tmp_path)
    assert np.array_equal(report_of(recording), np.flatnonzero(recording.fit.table["run"] == "test"))


def test_the_test_story_of_lebel(tmp_path: Path) -> None:
    load_example("lebel")().write(tmp_path / "data")
    raw = {"format": "lebel", "path": str(tmp_path / "data")}
    with pytest.raises(InputError, match="holds no stimulus of its published report set"):
        folds_of(opened(raw, tmp_path).split_basis, SPLIT, 0)
    folder = tmp_path / "data" / "derivative"
    (folder / "respdict.json").write_text((folder / "respdict.json").read_text().replace("story05", TEST_STORY))
    for file in sorted(folder.rglob("story05.*")):
        file.rename(file.with_name(f"{TEST_STORY}{file.suffix}"))
    recording = opened(raw, tmp_path)
    assert np.array_equal(report_of(recording), np.flatnonzero(recording.fit.table["run"] == TEST_STORY))


@pytest.mark.parametrize(("name", "tier"), [("sensorium-static", "test"), ("sensorium-dynamic", "oracle")])
def test_the_tiers_of_sensorium(name: str, tier: str, tmp_path: Path) -> None:
    load_example(name)().write(tmp_path / "data")
    recording = opened({"format": name, "path": str(tmp_path / "data")}, tmp_path)
    assert np.array_equal(report_of(recording), np.flatnonzero(recording.fit.table["tier"] == tier))


@pytest.mark.parametrize("report", ["test", "oracle"])
def test_held_out_tiers_that_are_not_reported_are_in_no_set(report: str) -> None:
    for tier, name in zip(TIERS, published_set(np.array(TIERS), report), strict=True):
        expected = "report" if tier == report else "train" if tier in ("train", "validation") else "unused"
        assert name == expected


def test_the_shared_pictures_of_nsd_and_the_list_changes_no_identity(tmp_path: Path) -> None:
    load_example("nsd")().write(tmp_path / "data")
    raw = {"format": "nsd", "path": str(tmp_path / "data")}
    before = opened(raw, tmp_path)
    assert PUBLISHED not in before.fit.table
    pictures = [int(name.removeprefix("nsd-")) for name in before.fit.table["file"]]
    shared = pictures[1::3]
    rows = [f"{i},{i},{i in shared}" for i in range(max(pictures) + 5)]
    file = tmp_path / "data" / INFORMATION
    file.parent.mkdir(parents=True)
    file.write_text("\n".join([",nsdId,shared1000", *rows]) + "\n")
    recording = opened(raw, tmp_path)
    assert recording.fingerprint == before.fingerprint == describe([raw], "")[0].fingerprint
    assert recording.fit.key == before.fit.key
    assert [pictures[row] for row in report_of(recording)] == shared
    file.write_text("nsdId,shared\n1,True\n")
    with pytest.raises(InputError, match="has no column shared1000; allowed: nsdId, shared"):
        opened(raw, tmp_path)
