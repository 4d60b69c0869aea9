"""Recordings in the `folder` format: real ones, and what their readers must not lose."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from s3 import S3Server, seaweedfs

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.recordings.formats.folder import FolderSpec
from sweeps.recordings.recording import Recording

Writer = Callable[..., Path]


def spec(path: object, **settings: Any) -> FolderSpec:
    return FolderSpec.model_validate({"format": "folder", "path": str(path)} | settings)


def opened(path: object, **settings: Any) -> Recording:
    return spec(path, **settings).open("", Path())


# -- the real ones ----------------------------------------------------------------------------------

REAL = {
    "macaque-v4-201025": ({"V4": 89}, 1200, 1, True),
    "macaque-v4-210225": ({"V4": 55}, 1200, 1, True),
    "macaque-v4-210325": ({"V4": 50}, 640, 10, True),
    "macaque-v1-ay3_u002": ({"V1": 53}, 400, 50, True),
    "macaque-v1-ay3_u001": ({"V1": 47}, 400, 50, True),
    "macaque-v1-ay4_u005": ({"V1": 46}, 400, 60, True),
    "macaque-it-objects": ({"IT": 132}, 21, 20, False),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name: str, shared_data: Path) -> None:
    areas, stimuli, repeats, pictures = REAL[name]
    facts = spec(name).describe(str(shared_data))
    assert (facts.name, facts.areas, facts.stimuli, facts.repeats) == (name, areas, stimuli, repeats)
    assert facts.pictures is pictures
    assert facts.groups == (10 if "v1" in name else len(np.unique(opened(shared_data / name).groups)))


def test_movies_are_groups(shared_data: Path) -> None:
    groups = opened(shared_data / "macaque-v1-ay3_u002").groups
    assert dict(zip(*np.unique(groups, return_counts=True), strict=True)) == {
        f"movie{index:02d}": 40 for index in range(1, 11)
    }


def test_missing_repeats_of_a_real_recording(shared_data: Path) -> None:
    responses = opened(shared_data / "macaque-v4-210325").fit.responses
    assert np.isnan(responses).mean() == pytest.approx(0.24, abs=0.005)


def test_split_half_reliability_of_a_real_recording(shared_data: Path) -> None:
    """V1 of ay3_u002: the median over units of the correlation of even with odd repeats is .81."""
    responses = opened(shared_data / "macaque-v1-ay3_u002").fit.responses
    halves = [np.nanmean(responses[:, :, start::2], axis=2) for start in (0, 1)]
    found = [np.corrcoef(one, two)[0, 1] for one, two in zip(halves[0].T, halves[1].T, strict=True)]
    assert np.median(found) == pytest.approx(0.81, abs=0.03)


def test_concepts_have_features_of_two_kinds_and_no_pictures(shared_data: Path) -> None:
    held = opened(shared_data / "human-fmri-81concepts")
    assert {name: array.shape for name, array in held.features.items()} == {"vision": (81, 20), "language": (81, 30)}
    facts = held.facts()
    assert list(facts.areas) == ["EVC", "OPA", "PPA", "LOC", "PFS", "OFA", "FFA"]
    assert sum(facts.areas.values()) == 696
    assert (facts.pictures, facts.features) == (False, ("vision", "language"))


def test_objects_have_positions_as_transforms(shared_data: Path) -> None:
    table = opened(shared_data / "macaque-it-objects").fit.table
    assert set(table["transform"]) == {"lower", "middle", "upper"}
    assert table["object"].nunique() == 7


# -- what must hold ---------------------------------------------------------------------------------


def test_units_of_areas(recording: Path) -> None:
    held = opened(recording)
    assert held.area_names() == ["V1", "V4"]
    assert held.units("V1").tolist() == [0, 1, 2, 3]
    assert held.units("V4").tolist() == [4, 5, 6, 7, 8]
    assert held.facts().areas == {"V1": 4, "V4": 5}


def test_excluded_units_are_gone(recording: Path) -> None:
    whole, held = opened(recording), opened(recording, exclude_units=[8, 0])
    assert held.facts().areas == {"V1": 3, "V4": 4}
    assert np.array_equal(held.fit.responses, whole.fit.responses[:, 1:8])
    assert held.fingerprint != whole.fingerprint
    assert held.fingerprint == opened(recording, exclude_units=[0, 8]).fingerprint


def test_a_bad_unit_can_be_excluded(recording: Path) -> None:
    responses = np.load(recording / "responses.npy")
    responses[:, 2], responses[:, 5] = np.nan, 3.0
    np.save(recording / "responses.npy", responses)
    with pytest.raises(InputError, match="units 2 are NaN throughout"):
        opened(recording)
    assert opened(recording, exclude_units=[2, 5]).facts().areas == {"V1": 3, "V4": 4}


def test_a_bad_unit_has_its_number_in_the_file(recording: Path) -> None:
    responses = np.load(recording / "responses.npy")
    responses[:, 2], responses[:, 5], responses[3:, 7] = np.nan, 0.3, np.nan
    np.save(recording / "responses.npy", responses)
    for excluded, problem in {(0, 1): "units 2 are", (0, 2): "units 5 respond", (0, 2, 5): "units 7 have"}.items():
        with pytest.raises(InputError, match=problem):
            opened(recording, exclude_units=excluded)


def test_the_average_is_over_the_repeats_that_are_there(recording: Path) -> None:
    responses = np.load(recording / "responses.npy")
    responses[3, 1] = [1.0, np.nan, 4.0]
    responses[4, 1] = np.nan
    np.save(recording / "responses.npy", responses)
    average = opened(recording).fit.average
    assert average.shape == (60, 9)
    assert average[3, 1] == 2.5
    assert np.isnan(average[4, 1])
    assert np.isnan(average).sum() == 1


def test_responses_without_repeats(recording: Path) -> None:
    responses = np.load(recording / "responses.npy")[:, :, 0]
    np.save(recording / "responses.npy", responses)
    held = opened(recording)
    assert held.facts().repeats == 1
    assert np.array_equal(held.fit.average, responses.astype(float))


@pytest.mark.parametrize("kind", ["float64", "float16", "int16", "uint8", "bool"])
def test_responses_of_every_kind_of_number(recording: Path, kind: str) -> None:
    counts = np.random.default_rng(0).integers(0, 2, (60, 9, 3)).astype(kind)
    np.save(recording / "responses.npy", counts)
    responses = opened(recording).fit.responses
    assert responses.dtype == np.float32
    assert np.array_equal(responses, counts.astype(np.float32))


def test_responses_in_column_order(recording: Path) -> None:
    before = opened(recording).fit.responses
    np.save(recording / "responses.npy", np.asfortranarray(np.load(recording / "responses.npy")))
    assert np.array_equal(opened(recording).fit.responses, before)


def test_features_follow_the_fitted_stimuli(recording: Path) -> None:
    names = [f"{index:04d}.png" for index in range(60)]
    roles = ["objects" if index % 3 == 0 else "" for index in range(60)]
    lines = [f"{name},{role},cup,{index}" for index, (name, role) in enumerate(zip(names, roles, strict=True))]
    (recording / "stimuli.csv").write_text("file,role,object,transform\n" + "\n".join(lines) + "\n")
    np.savez(recording / "features.npz", vision=np.arange(120.0).reshape(60, 2))
    held = opened(recording)
    fitted = [index for index in range(60) if index % 3]
    assert np.array_equal(held.features["vision"][:, 0], 2.0 * np.array(fitted))
    assert held.fit.table["file"].tolist() == [names[index] for index in fitted]
    assert len(held.sets["objects"].table) == 20
    assert held.facts().roles == ("fit", "objects")


def write_roles(recording: Path, text: tuple[int, ...] = (50, 51, 52, 53, 54)) -> None:
    """40 stimuli to fit, 10 object views, 5 captioned scenes, and the captions of the scenes `text` as text."""
    roles = ["fit"] * 40 + ["objects"] * 10 + ["captions"] * 5 + ["text"] * 5
    shown = [*range(55), *text]
    rows = [f"{i:04d}.png,{role},cup,{i},caption {i}" for i, role in zip(shown, roles, strict=True)]
    (recording / "stimuli.csv").write_text("file,role,object,transform,caption\n" + "\n".join(rows) + "\n")


def test_text_in_another_order_than_its_pictures_is_refused(recording: Path) -> None:
    write_roles(recording, text=(51, 50, 52, 53, 54))
    with pytest.raises(InputError, match="file by file in the same order"):
        opened(recording)


@pytest.mark.parametrize("column", ["object", "transform", "caption"])
def test_roles_without_their_labels_are_refused(recording: Path, column: str) -> None:
    write_roles(recording)
    table = (recording / "stimuli.csv").read_text()
    (recording / "stimuli.csv").write_text(table.replace(column, "other", 1))
    with pytest.raises(InputError, match=f"need a {column}"):
        opened(recording)


def test_a_unit_seen_in_few_groups_is_refused(recording: Path) -> None:
    responses = np.load(recording / "responses.npy")
    responses[3:, 2] = np.nan
    np.save(recording / "responses.npy", responses)
    with pytest.raises(InputError, match="units 2 have responses in fewer than 4 groups"):
        opened(recording)


def test_the_geometry_of_pictures_counts_beside_features(recording: Path) -> None:
    np.savez(recording / "features.npz", vision=np.arange(120.0).reshape(60, 2))
    prints = {opened(recording, image={"size": size}).fingerprint for size in (32, 48)}
    assert len(prints) == 2


def test_the_roles_share_responses_and_pictures(recording: Path) -> None:
    whole = opened(recording)
    assert whole.fit.images is not None
    pictures = whole.fit.images(slice(None))
    write_roles(recording)
    held = opened(recording)
    assert np.array_equal(held.sets["objects"].responses, whole.fit.responses[40:50])
    shown = held.sets["objects"].images
    assert shown is not None
    assert np.array_equal(shown(slice(2, 4)), pictures[42:44])
    assert held.sets["text"].images is None


def test_without_groups_every_file_is_its_own(recording: Path) -> None:
    names = "\n".join(f"{index:04d}.png" for index in range(60))
    (recording / "stimuli.csv").write_text(f"file\n{names}\n")
    assert opened(recording).facts().groups == 60


def test_a_picture_of_two_names_is_one_group(recording: Path) -> None:
    with zipfile.ZipFile(recording / "images.zip") as archive:
        archive.extractall(recording / "images" / "sub")
    (recording / "images.zip").unlink()
    names = [f"{'sub/' if index % 2 else ''}{index // 2:04d}.png" for index in range(60)]
    (recording / "stimuli.csv").write_text("file\n" + "\n".join(names) + "\n")
    groups = opened(recording).groups
    assert groups.tolist() == [f"{index // 2:04d}.png" for index in range(60)]  # the name that comes first


def write_columns(recording: Path, clips: list[str], frames: list[Any] | None, role: str = "") -> None:
    """stimuli.csv with a column `clip`, and one of frames where there are any; the first ten rows have a role."""
    table = {"file": [f"{index:04d}.png" for index in range(60)], "group": clips, "clip": clips}
    table |= {"role": [role if index < 10 else "" for index in range(60)]} if role else {}
    table |= {"frame": frames} if frames else {}
    table |= {name: ["1"] * 60 for name in ("object", "transform")} if role else {}
    pd.DataFrame({**table, "group": [clip or "none" for clip in clips]}).to_csv(recording / "stimuli.csv", index=False)


CLIPS = [f"film{index // 10}" for index in range(60)]


def test_clips_have_a_label_and_frames(recording: Path) -> None:
    write_columns(recording, CLIPS, [index % 10 for index in range(60)])
    fit = opened(recording).fit
    assert [rows.tolist() for rows in fit.clips] == np.arange(60).reshape(6, 10).tolist()
    assert fit.table["frame"].tolist() == [index % 10 for index in range(60)]
    assert opened(recording).facts().clips == 6


def test_a_clip_is_a_group_where_none_is_given(recording: Path) -> None:
    write_columns(recording, [f"c{index // 10}" for index in range(60)], list(range(10)) * 6)
    table = pd.read_csv(recording / "stimuli.csv").drop(columns="group")
    table.to_csv(recording / "stimuli.csv", index=False)
    assert opened(recording).groups.tolist() == [f"c{index // 10}" for index in range(60)]


def test_a_column_clip_alone_leaves_pictures(recording: Path) -> None:
    write_columns(recording, [f"from film {index % 7}" for index in range(60)], None)
    assert opened(recording).fit.clips == []
    assert opened(recording).facts().clips == 0


def test_pictures_beside_clips(recording: Path) -> None:
    write_columns(recording, ["" if i < 10 else CLIPS[i] for i in range(60)], [i % 10 for i in range(60)], "objects")
    held = opened(recording)
    assert len(held.fit.clips) == 5
    assert held.sets["objects"].clips == []
    assert np.array_equal(held.fit.responses, np.load(recording / "responses.npy")[10:])


@pytest.mark.parametrize(
    ("clips", "frames", "line"),
    [
        (CLIPS, [index % 10 + 1 for index in range(60)], 2),  # from 1
        (CLIPS, [index % 10 for index in range(59)] + ["last"], 61),
        (CLIPS, [index % 10 if index != 33 else "" for index in range(60)], 35),
        ([*CLIPS[:55], *CLIPS[:5]], [index % 10 if index < 55 else index - 55 for index in range(60)], 57),  # again
        ([f"film{index % 6}" for index in range(60)], [index // 6 for index in range(60)], 8),  # in turn
        ([*CLIPS[:30], *[""] * 30], [index % 10 for index in range(60)], 32),
    ],
)
def test_clips_in_pieces_are_refused(recording: Path, clips: list[str], frames: list[Any], line: int) -> None:
    write_columns(recording, clips, frames)
    with pytest.raises(InputError, match=rf"stimuli.csv: frame = .*line {line} is not the next frame of a clip"):
        opened(recording)


def test_a_spreadsheet_that_writes_a_byte_order_mark(recording: Path) -> None:
    for name in ("stimuli.csv", "units.csv"):
        (recording / name).write_bytes(b"\xef\xbb\xbf" + (recording / name).read_bytes().replace(b"\n", b"\r\n"))
    assert opened(recording).facts().areas == {"V1": 4, "V4": 5}


def test_the_geometry_is_that_of_the_experiment(recording: Path) -> None:
    shown = opened(recording, image={"size": 20, "crop": 0.5}).fit.images
    assert shown is not None
    with zipfile.ZipFile(recording / "images.zip") as archive:
        picture = Image.open(io.BytesIO(archive.read("0007.png")))
    assert np.array_equal(shown(slice(7, 8))[0], Geometry(20, 0.5).apply(picture))


def test_the_name_is_the_folder_s_or_given(recording: Path) -> None:
    assert spec("a/b/").recording_name() == "b"
    assert spec("s3://a/b").recording_name() == "b"
    assert spec("a/b", name="c").recording_name() == "c"


# -- identity and places ----------------------------------------------------------------------------


def test_the_fingerprint_is_of_the_contents_not_of_the_place(recording: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(recording, elsewhere)
    (elsewhere / "notes.txt").write_text("not part of the recording")
    assert opened(recording).fingerprint == opened(elsewhere, name="other").fingerprint


@pytest.mark.parametrize("name", ["responses.npy", "stimuli.csv", "units.csv", "images.zip"])
def test_the_fingerprint_follows_every_file(name: str, recording: Path) -> None:
    before = opened(recording).fingerprint
    if name == "responses.npy":
        np.save(recording / name, np.load(recording / name) + 1)
    elif name == "images.zip":
        with zipfile.ZipFile(recording / name, "a") as archive:
            archive.writestr("another.txt", b"x")
    else:
        (recording / name).write_text((recording / name).read_text().replace("group001", "one").replace("V4", "IT"))
    assert opened(recording).fingerprint != before


def test_the_fingerprint_follows_the_geometry(recording: Path) -> None:
    found = {opened(recording, image=image).fingerprint for image in ({}, {"size": 64}, {"crop": 0.5})}
    assert len(found) == 3


def test_a_folder_of_pictures_is_as_good_as_a_zip(recording: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    shutil.copytree(recording, unpacked)
    with zipfile.ZipFile(unpacked / "images.zip") as archive:
        archive.extractall(unpacked / "images")
    (unpacked / "images.zip").unlink()
    one, two = opened(recording).fit, opened(unpacked).fit
    assert one.images is not None
    assert two.images is not None
    assert np.array_equal(one.images(slice(None)), two.images(slice(None)))
    assert np.array_equal(one.responses, two.responses)


@pytest.fixture
def memory(memory_scheme: None) -> Iterator[str]:
    yield "memory://folder-test"
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists("/folder-test"):
        filesystem.rm("/folder-test", recursive=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


def same(one: Recording, two: Recording) -> bool:
    assert one.fit.images is not None
    assert two.fit.images is not None
    pixels = np.array_equal(one.fit.images(slice(3, 9)), two.fit.images(slice(3, 9)))
    return pixels and one.facts() == two.facts() and np.array_equal(one.fit.responses, two.fit.responses)


@pytest.mark.parametrize("packed", [True, False])
def test_in_memory_as_on_disk(packed: bool, recording: Path, memory: str) -> None:
    if not packed:
        with zipfile.ZipFile(recording / "images.zip") as archive:
            archive.extractall(recording / "images")
        (recording / "images.zip").unlink()
    fsspec.filesystem("memory").put(str(recording), "/folder-test/small", recursive=True)
    assert same(opened(recording), opened(f"{memory}/small"))


def test_in_a_bucket_as_on_disk(recording: Path, server: S3Server) -> None:
    s3fs = pytest.importorskip("s3fs")
    for path in recording.iterdir():
        server.client().upload_file(str(path), server.bucket, f"lab/small/{path.name}")
    with server.reached():
        local, remote = opened(recording), spec("small").open(f"{server.uri}/lab", Path())
        assert same(local, remote)
        store = fsspec.filesystem("s3", use_listings_cache=False)
        s3fs.S3FileSystem.close_session(store.loop, store.s3)  # the server waits for open connections when it ends


def test_a_data_set_is_never_written_to(recording: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [recording, *recording.rglob("*")]}
    spec(recording).describe("")
    assert {path: path.stat().st_mtime_ns for path in [recording, *recording.rglob("*")]} == before
