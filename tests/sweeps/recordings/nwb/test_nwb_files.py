"""NWB files: version 2 against what was planted, by the standard's own writer and by h5py; and what is no such file."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nwb_2 import Session

from sweeps.errors import InputError
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_example
from sweeps.recordings.recording import Recording

FIXTURES = Path(__file__).parents[3] / "fixtures" / "nwb-2"
"""Written by pynwb, see write.py there."""


def opened(path: Path, **options: Any) -> Recording:
    raw = {"format": "allen-nwb", "path": str(path), "image": {"size": 16}, **options}
    recording = open_recording(raw, "", path.parent / "cache")
    assert recording is not None
    return recording


def refused(path: Path, *pieces: str, **options: Any) -> None:
    with pytest.raises(InputError) as error:
        opened(path, **options)
    message = str(error.value)
    assert "\n" not in message
    for piece in (path.name, *pieces):
        assert piece in message, message


def check_planted(recording: Recording, scenes: list[int], cells: int, repeats: int, brightness: int) -> None:
    """Compare with what tests/nwb_2.py and the fixtures plant."""
    assert recording.fit.table["file"].tolist() == [f"scene{scene:03d}" for scene in scenes]
    answers = 10 * np.array(scenes)[:, None, None] + np.arange(cells)[:, None] + np.arange(repeats) / 4
    np.testing.assert_allclose(recording.fit.responses, answers, rtol=1e-6)
    assert recording.fit.images is not None
    pictures = recording.fit.images(slice(0, len(scenes)))
    assert (pictures == brightness * np.array(scenes)[:, None, None, None]).all()


def test_visual_coding_as_dandi_has_it() -> None:
    recording = opened(FIXTURES / "dandi.nwb")
    check_planted(recording, list(range(1, 12)), cells=5, repeats=3, brightness=20)
    assert set(recording.areas) == {"LM"}
    assert recording.fit.behaviour is not None
    middle = np.sort(recording.fit.behaviour, axis=None)  # running is the sample's number: windows of 7, 7 or 8 apart
    assert np.isin(np.diff(middle), [7, 8, 14, 15, 22, 23, 30]).all()
    assert "twice as often" in recording.notes["scene_0"]
    facts = describe([{"format": "allen-nwb", "path": str(FIXTURES / "dandi.nwb")}], "")[0]
    assert "0.25 s" in facts.notes["presentations"]
    refused(FIXTURES / "dandi.nwb", "blank = True", "cannot be told", blank=True)


def test_tables_regular_clocks_and_stated_orders() -> None:
    recording = opened(FIXTURES / "tables.nwb")
    check_planted(recording, list(range(12)), cells=5, repeats=3, brightness=20)
    assert set(recording.areas) == {"PM"}
    assert recording.fit.behaviour is not None
    middles = recording.fit.behaviour % 10  # starts are 20 + 10 n, the middle of seven samples; stored in m/s
    np.testing.assert_allclose(middles, 3, atol=1e-6)
    assert len(opened(FIXTURES / "tables.nwb", blank=True).fit.table) == 13


@pytest.mark.parametrize(
    "changes",
    [
        {"traces": "processing/brain_observatory_pipeline/Fluorescence/DfOverF"},
        {"traces": "processing/ophys/dff/traces", "version": None},
        {"indexed": False, "column": "image_index", "pictures": "stack"},
        {"indexed": False, "table": "intervals/epochs"},
        {"blank": "largest"},
    ],
)
def test_places_that_other_files_have(changes: dict[str, Any], tmp_path: Path) -> None:
    session = replace(Session(), **changes)
    session.write(tmp_path / "one.nwb")
    check_planted(opened(tmp_path / "one.nwb"), list(range(12)), 4, 2, 2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_layout_gives_what_was_planted(data: st.DataObject) -> None:
    draw = data.draw
    blank = draw(st.sampled_from(["none", "signed", "nan", "largest", "clipped"]))
    session = Session(
        traces=f"processing/{draw(st.sampled_from(['ophys', 'brain_observatory_pipeline']))}/"
        + draw(st.sampled_from(["DfOverF/DfOverF", "DfOverF/RoiResponseSeries", "Fluorescence/dff", "dff/traces"])),
        indexed=draw(st.booleans()),
        blank=blank,
        pictures=draw(st.sampled_from(["stack", "images", "ordered"])),
        regular=draw(st.booleans()),
        turned=draw(st.booleans()),
        pause=draw(st.integers(1, 9)),
        jitter=draw(st.sampled_from([0.0, 0.1])),
        location=draw(st.sampled_from(["VISp", "V1", "Area: VISp, depth 175 um", " VISp "])),
        scenes=draw(st.integers(5, 25)),
        repeats=draw(st.integers(2, 4)),
        cells=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 99)),
    )
    with tempfile.TemporaryDirectory() as folder:
        session.write(Path(folder) / "one.nwb")
        recording = opened(Path(folder) / "one.nwb")
    scenes = list(range(blank == "clipped", session.scenes))
    check_planted(recording, scenes, session.cells, session.repeats, 2)
    assert set(recording.areas) == {"V1"}
    behaviour = recording.fit.behaviour
    assert behaviour is not None
    steps = (behaviour - 13) / (7 + session.pause)  # the number of the presentation
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


def test_a_scene_shown_often_is_no_blank(tmp_path: Path) -> None:
    Session(blank="none").write(tmp_path / "one.nwb")
    with h5py.File(tmp_path / "one.nwb", "r+") as file:
        del file["stimulus/presentation/natural_scenes_stimulus/data"]
        order = np.array([0] * 10 + [1, 2, 3, 4, 5, 6, 7] * 2, np.uint32)  # all others twice, 0 five times as often
        file["stimulus/presentation/natural_scenes_stimulus/data"] = order
    recording = opened(tmp_path / "one.nwb")
    assert recording.fit.table["file"].iloc[0] == "scene000"
    assert "scene_0" not in recording.notes


# -- what is missing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "pieces"),
    [
        ("processing", ("is NWB 2.7.0", "lacks dF/F traces")),
        ("stimulus/presentation/natural_scenes_stimulus", ("is NWB 2.7.0", "natural_scenes", "has static_gratings")),
        ("stimulus/templates", ("is NWB 2.7.0", "lacks their pictures")),
        ("general", ("name it, such as `area: V1`",)),
        ("processing/ophys/DfOverF/DfOverF/timestamps", ("must have timestamps",)),
        ("stimulus/presentation/natural_scenes_stimulus/timestamps", ("must have timestamps",)),
        ("stimulus/templates/natural_scenes_template/NaturalScene3", ("without gaps",)),
    ],
)
def test_what_a_file_of_version_2_lacks_is_named(missing: str, pieces: tuple[str, ...], tmp_path: Path) -> None:
    Session().write(tmp_path / "one.nwb")
    with h5py.File(tmp_path / "one.nwb", "r+") as file:
        del file[missing]
    refused(tmp_path / "one.nwb", *pieces)


def test_an_area_may_be_named_instead(tmp_path: Path) -> None:
    Session(location="left hemisphere").write(tmp_path / "one.nwb")
    refused(tmp_path / "one.nwb", "plane/location", "names no visual area")
    assert set(opened(tmp_path / "one.nwb", area="VISal").areas) == {"AL"}


@pytest.mark.parametrize(
    ("name", "other", "piece"),
    [
        ("processing/ophys/DfOverF/DfOverF", "processing/ophys/DfOverF/Plane2", "several series of dF/F"),
        ("stimulus/presentation/natural_scenes_stimulus", "stimulus/presentation/natural_scenes_2", "several hold"),
        ("stimulus/templates/natural_scenes_template", "stimulus/templates/NaturalScenes", "several hold"),
    ],
)
def test_what_is_there_twice_is_refused(name: str, other: str, piece: str, tmp_path: Path) -> None:
    Session().write(tmp_path / "one.nwb")
    with h5py.File(tmp_path / "one.nwb", "r+") as file:
        file.copy(name, other)
    refused(tmp_path / "one.nwb", piece, name, other)


def test_a_table_without_numbers_of_pictures_says_what_it_needs(tmp_path: Path) -> None:
    Session(indexed=False, column="colour").write(tmp_path / "one.nwb")
    refused(tmp_path / "one.nwb", "a column such as frame or image_index", "has natural_scenes_presentations")


@pytest.mark.parametrize(("shift", "piece"), [(1e4, "lie outside of the traces"), (-13.0, "lie outside")])
def test_presentations_outside_of_the_traces_are_refused(shift: float, piece: str, tmp_path: Path) -> None:
    Session().write(tmp_path / "one.nwb")
    with h5py.File(tmp_path / "one.nwb", "r+") as file:
        file["stimulus/presentation/natural_scenes_stimulus/timestamps"][:] += shift
    refused(tmp_path / "one.nwb", piece)


def test_version_1_without_a_part_says_so(tmp_path: Path) -> None:
    load_example("allen-nwb")().write(tmp_path, 0)
    with h5py.File(tmp_path / "experiment.nwb", "r+") as file:
        file["nwb_version"] = "NWB-1.0.5"
        del file["stimulus/templates"], file["general"]
    refused(tmp_path / "experiment.nwb", "image_stack/data: missing dataset", "is NWB 1.0.5", "lacks general/opto")


def test_what_is_no_nwb_file_says_what_it_is(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.nwb", "w") as file:
        file["responses"] = [1.0]
    refused(tmp_path / "other.nwb", "is HDF5, but no NWB file", "holds responses")
    for name, marker in (("a.nwb", ".zgroup"), ("b.nwb.zarr", "zarr.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / marker).write_text("{}")
        refused(tmp_path / name, "is a Zarr folder", "only HDF5 files are read")
    folder = tmp_path / "subject"
    (folder / "session.zarr").mkdir(parents=True)
    (folder / "session.zarr" / ".zattrs").write_text("{}")
    refused(folder, "session.zarr: is a Zarr folder")
    for name in ("raw.nwb", "processed.nwb"):
        Session().write(folder / name)
    refused(folder, "it has 2: processed.nwb, raw.nwb")
