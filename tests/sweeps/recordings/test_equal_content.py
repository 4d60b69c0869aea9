"""Stimuli that show the same are one group, whatever they are called; padded labels are the labels themselves."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import write_recording
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.recordings import open_recording
from sweeps.recordings.contents import Contents, content_labels, row_keys
from sweeps.recordings.examples import load_example
from sweeps.recordings.formats.folder import Folder
from sweeps.recordings.recording import Recording


def opened(folder: Path, **settings: Any) -> Recording:
    recording = open_recording({"format": "folder", "path": str(folder), **settings}, "", Path())
    assert recording is not None
    return recording


def plain_fingerprint(folder: Path) -> str:
    """The fingerprint of a folder in which no rule changed anything: of bytes and geometry."""
    reader = Folder(str(folder))
    pictures = reader.pictures()
    digest = pictures.digest() if pictures else ""
    return content_id([reader.digest(digest), Geometry(112).key() if pictures else "", []])


def stored(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def write_pictures(folder: Path, pictures: dict[str, bytes], groups: list[str] | None = None) -> None:
    """The stimuli of a recording anew: pictures by name, one row each, and groups where they are given."""
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, content in pictures.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    table = pd.DataFrame({"file": list(pictures)})
    (table if groups is None else table.assign(group=groups)).to_csv(folder / "stimuli.csv", index=False)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)


# -- pictures ---------------------------------------------------------------------------------------


def test_a_picture_under_two_names_is_one_group(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small", stimuli=12)
    ways: list[tuple[str, dict[str, int]]] = [("PNG", {}), ("PNG", {"compress_level": 0}), ("BMP", {}), ("TIFF", {})]
    names = {f"{index % 6}-{index // 6}.{ways[index % 4][0].lower()}": index for index in range(12)}
    contents = {
        name: stored(pixels(index % 6), ways[index % 4][0], **ways[index % 4][1]) for name, index in names.items()
    }
    write_pictures(folder, contents)
    recording = opened(folder)
    assert recording.groups.tolist() == [list(names)[index % 6] for index in range(12)]
    assert recording.facts().stimuli == 12
    assert recording.notes["joined"].startswith("12 stimuli joined")
    assert "12 groups became 6" in recording.notes["joined"]
    assert recording.fingerprint != plain_fingerprint(folder)


def test_pictures_that_differ_stay_apart_and_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    """They share their first row, so that they are decoded and compared."""
    folder = write_recording(tmp_path / "small", stimuli=12)
    shown = [np.concatenate([pixels(0)[:1], pixels(index)[1:]]) for index in range(12)]
    write_pictures(folder, {f"{index}.png": stored(picture, "PNG") for index, picture in enumerate(shown)})
    recording = opened(folder)
    assert len(set(recording.groups)) == 12
    assert recording.notes == {}
    assert recording.fingerprint == plain_fingerprint(folder)


def test_equal_pictures_of_one_group_change_nothing(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small", stimuli=12)
    contents = {f"{index}.png": stored(pixels(index // 2), "PNG") for index in range(12)}
    write_pictures(folder, contents, [f"movie{index // 2}" for index in range(12)])
    recording = opened(folder)
    assert recording.groups.tolist() == [f"movie{index // 2}" for index in range(12)]
    assert recording.fingerprint == plain_fingerprint(folder)


def components(groups: list[int], contents: list[int]) -> list[set[int]]:
    """Sets of rows that hang together by groups and contents: an independent flood."""
    left, found = set(range(len(groups))), []
    while left:
        front, reached = {min(left)}, set()
        while front:
            reached |= front
            names, shown = {groups[row] for row in front}, {contents[row] for row in front}
            front = {row for row in left if groups[row] in names or contents[row] in shown} - reached
        found.append(reached)
        left -= reached
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=40))
def test_groups_are_joined_through_others(rows: list[tuple[int, int, int]]) -> None:
    """Contents of equal sketch (the remainder of 3) that differ join nothing."""
    groups, contents = [row[0] for row in rows], [row[1] for row in rows]
    names = np.array([f"g{group}" for group in groups])
    known = Contents(
        names,
        np.array([f"sketch{content % 3}" for content in contents]),
        lambda entries: [str(contents[entry]) for entry in entries],
    )
    joined = known.joined_groups()
    after = np.array([joined.get(name, name) for name in names])
    for rows_together in components(groups, contents):
        assert set(after[list(rows_together)]) == {names[min(rows_together)]}
    assert len(set(after)) == len(components(groups, contents))


def test_exact_keys_are_asked_for_only_where_groups_share_a_sketch() -> None:
    asked: list[int] = []

    def exact(entries: np.ndarray) -> list[str]:
        asked.extend(entries.tolist())
        return [str(entry) for entry in entries]

    content_labels(np.array(["a", "a", "b", "c", "c"]), np.array([1, 1, 2, 3, 4]), exact)
    assert asked == [3, 4]


def test_too_few_groups_are_left(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small", stimuli=12)
    contents = {f"{index}.png": stored(pixels(index % 3), "PNG") for index in range(12)}
    write_pictures(folder, contents, [f"session{index // 3}" for index in range(12)])
    with pytest.raises(InputError, match="group: 4 groups show the same stimuli, so that only 1 can be told apart"):
        opened(folder)


def test_clips_of_equal_frames_are_one_group(tmp_path: Path) -> None:
    """Clips that share a frame are not."""
    folder = write_recording(tmp_path / "small", stimuli=12)
    shown = [0, 1, 2, 3, 4, 5, 0, 1, 0, 6, 7, 8]
    contents = {f"{index:02d}.png": stored(pixels(number), "PNG") for index, number in enumerate(shown)}
    write_pictures(folder, contents)
    table = pd.read_csv(folder / "stimuli.csv").assign(clip=[f"c{i // 2}" for i in range(12)], frame=[0, 1] * 6)
    table.to_csv(folder / "stimuli.csv", index=False)
    assert opened(folder).groups.tolist() == ["c0", "c0", "c1", "c1", "c2", "c2", "c0", "c0", "c4", "c4", "c5", "c5"]


# -- features ---------------------------------------------------------------------------------------


def features_only(folder: Path, rows: list[int]) -> None:
    (folder / "images.zip").unlink()
    random = np.random.default_rng(1)
    one, two = random.standard_normal((20, 3)), random.standard_normal((20, 2))
    one[9], two[9], one[8] = 0, 0, one[7]
    np.savez(folder / "features.npz", one=one[rows], two=two[rows])


def test_equal_rows_of_all_feature_sets_are_one_group(tmp_path: Path) -> None:
    """7 and 8 differ in one set only; 9 is zero throughout, which says nothing."""
    folder = write_recording(tmp_path / "small", stimuli=12)
    features_only(folder, [0, 1, 2, 3, 4, 5, 0, 1, 7, 8, 9, 9])
    names = [f"group{index:03d}" for index in range(12)]
    assert opened(folder).groups.tolist() == [*names[:6], *names[:2], *names[8:]]


def test_keys_of_rows() -> None:
    keys = row_keys({"b": np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 0.0]]), "a": np.zeros((3, 1))})
    assert keys[0] == keys[1] != ""
    assert keys[2] == ""
    assert row_keys({}) == []


# -- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [" ", "\t", "\0", "\xa0", "  \0"])
def test_padded_groups_are_the_same_groups(tmp_path: Path, padding: str) -> None:
    clean = write_recording(tmp_path / "clean", groups=6)
    padded = write_recording(tmp_path / "padded", groups=6)
    lines = (padded / "stimuli.csv").read_text().splitlines()
    lines[1::2] = [f'{line.split(",")[0]},"{line.split(",")[1]}{padding}"' for line in lines[1::2]]
    (padded / "stimuli.csv").write_text("\n".join(lines) + "\n")
    assert opened(padded).groups.tolist() == opened(clean).groups.tolist()
    assert opened(clean).fingerprint == plain_fingerprint(clean)
    assert opened(padded).fingerprint != plain_fingerprint(padded)


def test_areas_are_cleaned_and_blanks_after_commas_are_read(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small")
    text = (folder / "units.csv").read_text().replace(",", ", ").replace("V1\n", "V1 \n", 2)
    (folder / "units.csv").write_text(text)
    assert opened(folder).facts().areas == {"V1": 4, "V4": 5}


@pytest.mark.parametrize(
    ("file", "old", "new", "key"),
    [("units.csv", "1,V1", "1,v1", "area"), ("stimuli.csv", "group003", "GROUP002", "group")],
)
def test_labels_that_differ_by_case_are_refused(tmp_path: Path, file: str, old: str, new: str, key: str) -> None:
    folder = write_recording(tmp_path / "small")
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    with pytest.raises(InputError, match=f"{file}: {key} = .* only by case"):
        opened(folder)


def test_a_unit_that_stands_twice_is_refused(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small")
    (folder / "units.csv").write_text((folder / "units.csv").read_text().replace("\n5,", "\n4 ,"))
    with pytest.raises(InputError, match=r"units\.csv: unit = '4': duplicate"):
        opened(folder)


def test_a_label_of_blanks_is_empty(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "small")
    (folder / "stimuli.csv").write_text((folder / "stimuli.csv").read_text().replace("group002", "  "))
    with pytest.raises(InputError, match="group: is empty in line 4"):
        opened(folder)


def example(name: str, folder: Path, **sizes: int) -> Path:
    folder.mkdir()
    load_example(name)(**sizes).write(folder, 0)
    return folder


def read(name: str, folder: Path) -> Recording:
    recording = open_recording({"format": name, "path": str(folder)}, "", folder.parent / "cache")
    assert recording is not None
    return recording


def test_padded_areas_and_tiers_of_sensorium(tmp_path: Path) -> None:
    folder = example("sensorium-static", tmp_path / "a", train=8, validation=2, test=2, repeats=2, units=4)
    before = read("sensorium-static", folder)
    for name in ("meta/neurons/area.npy", "meta/trials/tiers.npy"):
        labels = np.load(folder / name).astype("U20")
        labels[::2] = np.char.add(labels[::2], " ")
        np.save(folder / name, labels)
    after = read("sensorium-static", folder)
    assert after.areas.tolist() == before.areas.tolist()
    assert after.fit.table["tier"].tolist() == before.fit.table["tier"].tolist()


def test_areas_of_sensorium_that_differ_by_case(tmp_path: Path) -> None:
    folder = example("sensorium-static", tmp_path / "a", train=8, validation=2, test=2, repeats=2, units=4)
    np.save(folder / "meta/neurons/area.npy", np.array(["V1", "v1", "LM", "LM"]))
    with pytest.raises(InputError, match=r"area\.npy: 'v1': differs from 'V1' only by case"):
        read("sensorium-static", folder)


def test_padded_tiers_of_experanto(tmp_path: Path) -> None:
    sizes = {"clips": 4, "repeated": 2, "repeats": 2, "stills": 5, "frames": 20, "units": 4, "height": 9, "width": 16}
    folder = example("experanto", tmp_path / "a", **sizes)
    before = read("experanto", folder).fit.table
    for path in sorted((folder / "screen/meta").glob("*.yml"))[::2]:
        lines = path.read_text().splitlines()
        path.write_text("\n".join(f"tier: '{line[6:]} '" if line.startswith("tier: ") else line for line in lines))
    assert read("experanto", folder).fit.table.equals(before)


def test_names_of_rois_that_are_padded(tmp_path: Path) -> None:
    folder = example("algonauts", tmp_path / "a", images=8, vertices=6)
    masks = folder / "subj01/roi_masks"
    labels = {int(label) for path in masks.glob("*.npy") for label in np.unique(np.load(path)) if label > 0}
    for path in masks.glob("mapping_*"):
        path.unlink()
    names = {label: ("V1 " if index % 2 else "V1") for index, label in enumerate(sorted(labels))}
    rows = ", ".join(f'"{label}": "{name}"' for label, name in names.items())
    (masks / "mapping_prf-visualrois.json").write_text("{" + rows + "}")
    assert set(read("algonauts", folder).areas) == {"V1"}


# -- other formats ----------------------------------------------------------------------------------


def test_equal_pictures_of_algonauts_are_one_group_and_equal_images_repeats(tmp_path: Path) -> None:
    folder = example("algonauts", tmp_path / "a", images=8, vertices=6)
    before = read("algonauts", folder)
    files = sorted((folder / "subj01/training_split/training_images").glob("*.png"))
    files[1].write_bytes(files[0].read_bytes())
    recording = read("algonauts", folder)
    assert recording.groups[1] == recording.groups[0] == before.groups[0]
    assert recording.groups[2:].tolist() == before.groups[2:].tolist()
    files[1].rename(files[1].with_name(files[1].name.split("_")[0] + "_" + files[0].name.split("_")[1]))
    recording = read("algonauts", folder)
    assert recording.fit.responses.shape == (7, before.fit.responses.shape[1], 2)
    assert np.array_equal(recording.fit.responses[0].T, before.fit.responses[:2, :, 0])
    assert np.isnan(recording.fit.responses[1:, :, 1]).all()
    shown = recording.fit.images
    assert shown is not None
    assert shown(slice(0, 7)).shape[0] == 7


def test_equal_scenes_of_allen_are_one_group(tmp_path: Path) -> None:
    import h5py

    folder = example("allen-nwb", tmp_path / "a", scenes=8, repeats=2, cells=4)
    before = read("allen-nwb", folder)
    with h5py.File(next(folder.glob("*.nwb")), "r+") as file:
        scenes = file["stimulus/templates/natural_scenes_image_stack/data"]
        scenes[3] = scenes[1]
    after = read("allen-nwb", folder)
    assert after.groups[3] == before.groups[1]
    assert np.delete(after.groups, 3).tolist() == np.delete(before.groups, 3).tolist()
    assert "2 stimuli joined" in after.notes["joined"]
