"""What formats make of picture files and of brightness: pixels, identity, and refusal when they are opened."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.probes import open_probe
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_example
from sweeps.recordings.formats.folder import Folder
from sweeps.recordings.readers.screens import Brightness
from sweeps.recordings.recording import Recording

Writer = Callable[..., Path]
PICTURE = np.random.default_rng(3).integers(0, 256, (32, 32), dtype=np.uint8)


def opened(raw: dict[str, Any]) -> Recording:
    recording = open_recording(raw, "", Path("nowhere"))
    assert recording is not None
    return recording


def shown(recording: Recording, row: int) -> np.ndarray:
    assert recording.fit.images is not None
    return recording.fit.images(slice(row, row + 1))[0]


def file(pixels: np.ndarray, kind: str = "PNG", orientation: int = 1, **options: Any) -> bytes:
    tag, stream = Image.Exif(), io.BytesIO()
    tag[0x112] = orientation
    Image.fromarray(pixels).save(stream, kind, **({"exif": tag} if orientation != 1 else {}), **options)
    return stream.getvalue()


def replaced(archive: Path, contents: dict[str, bytes]) -> None:
    """The same zip with other contents for some names."""
    with zipfile.ZipFile(archive) as held:
        entries = {name: held.read(name) for name in held.namelist()} | contents
    with zipfile.ZipFile(archive, "w") as changed:
        for name, content in entries.items():
            changed.writestr(zipfile.ZipInfo(name), content)


def identity(folder: Path, recording: Recording) -> str:
    """The fingerprint of a folder as it was before pictures were turned or scaled."""
    home = Folder(str(folder))
    pictures = home.pictures()
    assert pictures is not None
    assert recording.geometry is not None
    return content_id([home.digest(pictures.digest()), recording.geometry.key(), []])


# -- identity ---------------------------------------------------------------------------------------

TURNED = file(PICTURE, orientation=6)
DEEP = file(np.round(PICTURE * (4095 / 255)).astype(np.uint16))
SBIT = b"sBIT" + bytes([12])
DEEP = DEEP[:33] + struct.pack(">I", 1) + SBIT + struct.pack(">I", zlib.crc32(SBIT)) + DEEP[33:]


@pytest.mark.parametrize("packed", [True, False])
def test_recordings_without_such_pictures_keep_their_fingerprint(
    make_recording: Writer, tmp_path: Path, packed: bool
) -> None:
    folder = make_recording(tmp_path / "plain", stimuli=30)
    if not packed:
        zipfile.ZipFile(folder / "images.zip").extractall(folder / "images")
        (folder / "images.zip").unlink()
    recording = opened({"format": "folder", "path": str(folder), "image": {"size": 32}})
    assert recording.fingerprint == identity(folder, recording)
    assert recording.notes == {}
    ignored = opened({"format": "folder", "path": str(folder), "image": {"size": 32, "exif": "ignore"}})
    assert (ignored.fingerprint, ignored.fit.key) == (recording.fingerprint, recording.fit.key)


@pytest.mark.parametrize("packed", [True, False])
def test_a_turned_picture_makes_another_recording_unless_the_tag_is_ignored(
    make_recording: Writer, tmp_path: Path, packed: bool
) -> None:
    folder = make_recording(tmp_path / "turned", stimuli=30)
    replaced(folder / "images.zip", {"0004.png": TURNED})
    if not packed:
        zipfile.ZipFile(folder / "images.zip").extractall(folder / "images")
        (folder / "images.zip").unlink()
    raw = {"format": "folder", "path": str(folder), "image": {"size": 32}}
    recording, ignored = opened(raw), opened(raw | {"image": {"size": 32, "exif": "ignore"}})
    assert np.array_equal(shown(recording, 4)[..., 0], np.rot90(PICTURE, -1))
    assert np.array_equal(shown(ignored, 4)[..., 0], PICTURE)
    assert recording.notes == {"pictures_turned_upright": 1}
    assert ignored.fingerprint == identity(folder, ignored)
    assert recording.fingerprint != ignored.fingerprint
    assert recording.fit.key != ignored.fit.key
    assert describe([raw], "")[0].fingerprint == recording.fingerprint


def test_a_picture_of_few_bits_makes_another_recording(make_recording: Writer, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "deep", stimuli=30)
    replaced(folder / "images.zip", {"0004.png": DEEP})
    recording = opened({"format": "folder", "path": str(folder), "image": {"size": 32}})
    assert np.abs(shown(recording, 4)[..., 0].astype(int) - PICTURE).max() <= 1
    assert recording.notes == {"pictures_scaled_by_their_own_bits": 1}
    assert recording.fingerprint != identity(folder, recording)


def test_a_picture_that_no_stimulus_names_changes_nothing(make_recording: Writer, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "unused", stimuli=30)
    replaced(folder / "images.zip", {"unused.png": TURNED, "stack.gif": stack()})
    recording = opened({"format": "folder", "path": str(folder), "image": {"size": 32}})
    assert recording.fingerprint == identity(folder, recording)


def stack() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, "GIF", save_all=True, append_images=[Image.fromarray(255 - PICTURE)])
    return stream.getvalue()


def test_a_stack_is_refused_at_opening_and_a_damaged_picture_when_it_is_shown(
    make_recording: Writer, tmp_path: Path
) -> None:
    folder = make_recording(tmp_path / "data", stimuli=30)
    raw = {"format": "folder", "path": str(folder), "image": {"size": 32}}
    replaced(folder / "images.zip", {"0004.png": b"no picture", "0005.png": TURNED[:90]})
    recording = opened(raw)
    for row in (4, 5):
        with pytest.raises(InputError, match=f"images.zip: image '000{row}.png' cannot be read"):
            shown(recording, row)
    replaced(folder / "images.zip", {"0004.png": stack()})
    with pytest.raises(InputError, match=r"images.zip: image '0004.png' is a stack of 2 pictures: save one file a"):
        opened(raw)


def test_an_unknown_choice_is_refused(make_recording: Writer, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data", stimuli=30)
    with pytest.raises(InputError, match=r"image.exif = 'no': .*allowed: obey, ignore"):
        opened({"format": "folder", "path": str(folder), "image": {"exif": "no"}})


def test_probes_are_turned_and_known_by_it(tmp_path: Path) -> None:
    """Two probes of equal pixels, one of which says that it lies on its side."""
    prints, pixels = [], []
    for orientation in (1, 6, 8):
        folder = tmp_path / str(orientation)
        (folder / "images").mkdir(parents=True)
        (folder / "probe.yaml").write_text("name: mine\n")
        lines = ["file,object,rotation_deg"]
        for name in "abcd":
            place = folder / "images" / f"{name}.png"
            place.write_bytes(file(PICTURE, orientation=orientation if name == "d" else 1))
            lines.append(f"{name}.png,{'first' if name in 'ab' else 'second'},{'0' if name in 'ac' else '90'}")
        (folder / "stimuli.csv").write_text("\n".join(lines) + "\n")
        probe = open_probe("objects", str(folder))
        prints.append(probe.fingerprint)
        pixels.append(probe.images(Geometry(32))[3, ..., 0])
    assert len(set(prints)) == 3
    assert np.array_equal(pixels[1], np.rot90(pixels[0], -1))
    assert np.array_equal(pixels[2], np.rot90(pixels[0]))


def example(kind: str, folder: Path) -> Path:
    folder.mkdir()
    load_example(kind)().write(folder, 0)
    return folder


def test_pictures_of_algonauts_are_turned(tmp_path: Path) -> None:
    folder = example("algonauts", tmp_path / "data")
    raw = {"format": "algonauts", "path": str(folder), "image": {"size": 32}}
    plain = opened(raw)
    pixels = shown(plain, 2)
    place = folder / "subj01" / "training_split" / "training_images" / plain.fit.table["file"][2]
    stored = np.asarray(Image.open(place))
    place.write_bytes(file(stored, orientation=3))
    recording, ignored = opened(raw), opened(raw | {"image": {"size": 32, "exif": "ignore"}})
    assert np.array_equal(shown(recording, 2), pixels[::-1, ::-1])
    assert np.array_equal(shown(ignored, 2), pixels)
    assert recording.notes["pictures_turned_upright"] == 1
    assert len({plain.fingerprint, recording.fingerprint, ignored.fingerprint}) == 3
    place.write_bytes(file(stored, "PNG", save_all=True, append_images=[Image.new("L", (9, 9))]))
    with pytest.raises(InputError, match="is a stack of 2 pictures"):
        opened(raw)


CLEAR = np.dstack([PICTURE, PICTURE, PICTURE, np.where(PICTURE > 99, 255, 0)]).astype(np.uint8)
ON_GREY = np.where(PICTURE > 99, PICTURE, 128)
OF_EXPERANTO = {
    "turned": (TURNED, np.rot90(PICTURE, -1), "pictures_turned_upright"),
    "16 bits": (file(PICTURE * np.uint16(257)), PICTURE, "pictures_scaled_by_their_own_bits"),
    "transparent": (file(CLEAR), ON_GREY, "pictures_laid_on_mid_grey"),
    "opaque": (file(np.maximum(CLEAR, np.array([0, 0, 0, 255], np.uint8))), PICTURE, None),
    "palette": (file(np.asarray(Image.fromarray(PICTURE).convert("P"))), PICTURE, None),
    "grey": (file(PICTURE), PICTURE, None),
}


@pytest.mark.parametrize("name", OF_EXPERANTO)
def test_pictures_of_experanto(name: str, tmp_path: Path) -> None:
    content, expected, note = OF_EXPERANTO[name]
    folder = example("experanto", tmp_path / "mouse")
    raw = {"format": "experanto", "path": str(folder), "modality": "image", "image": {"size": 32, "width": 32}}
    files = opened(raw).fit.table["file"]
    place = next(folder / name for name in files if name.endswith(".png"))
    place.write_bytes(content)
    recording = opened(raw)
    row = [folder / name for name in recording.fit.table["file"]].index(place)
    assert np.array_equal(shown(recording, row)[..., 0], expected)
    assert dict(recording.notes) == ({note: 1} if note else {})
    if note == "pictures_turned_upright":
        ignored = opened(raw | {"image": {"size": 32, "width": 32, "exif": "ignore"}})
        assert np.array_equal(shown(ignored, row)[..., 0], PICTURE)
        assert ignored.fingerprint != recording.fingerprint


# -- brightness -------------------------------------------------------------------------------------


def brightness_files(kind: str, folder: Path) -> list[Path]:
    inner = {"sensorium-static": "data/images", "sensorium-dynamic": "data/videos", "experanto": "screen/data"}[kind]
    return sorted((folder / inner).glob("*.npy"))


@pytest.mark.parametrize("kind", ["sensorium-static", "sensorium-dynamic", "experanto"])
def test_brightness_of_0_to_1_where_white_is_255_is_refused(kind: str, tmp_path: Path) -> None:
    folder = example(kind, tmp_path / "data")
    raw = {"format": kind, "path": str(folder), "area": "V1"}
    pixels = shown(opened(raw), 0)
    for place in brightness_files(kind, folder):
        np.save(place, (np.load(place) / 255).astype(np.float32))
    with pytest.raises(
        InputError, match=r"data.*: white: no value is above [0-9.]+, but white is 255: set `white: 1`$"
    ):
        describe([raw], "")
    assert np.array_equal(shown(opened(raw | {"white": 1}), 0), pixels)


@pytest.mark.parametrize("kind", ["sensorium-static", "sensorium-dynamic", "experanto"])
def test_one_file_on_another_scale_is_refused_and_a_dark_one_is_not(kind: str, tmp_path: Path) -> None:
    folder = example(kind, tmp_path / "data")
    raw = {"format": kind, "path": str(folder), "area": "V1"}
    if kind == "sensorium-static":
        (folder / "meta" / "trials" / "frame_image_id.npy").unlink()
    shown_first = opened(raw).fit.table["file"].iloc[0]
    place = folder / shown_first
    values = np.load(place)
    np.save(place, np.where(np.isnan(values), values, 0).astype(np.float32))
    opened(raw)
    np.save(place, (values / np.nanmax(values)).astype(np.float32))
    with pytest.raises(InputError, match=f"{place.name}: white: holds fractions up to 1, but others reach"):
        opened(raw)


def test_scenes_of_an_experiment_on_another_scale_are_refused(tmp_path: Path) -> None:
    folder = example("allen-nwb", tmp_path / "data")
    place = "stimulus/templates/natural_scenes_image_stack/data"
    with h5py.File(next(folder.glob("*.nwb")), "r+") as held:
        stored = held.pop(place)[:]
        held[place] = stored / 255
    with pytest.raises(InputError, match=r"no value is above .*, but white is 255: store the pictures as 0 to 255"):
        opened({"format": "allen-nwb", "path": str(folder)})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=4),
    st.sampled_from([1.0, 100.0, 255.0, 65535.0]),
    st.sampled_from([1.0, 255.0, 65535.0]),
)
def test_white_fits_exactly_where_something_is_brighter_than_one_step(
    pictures: list[list[float]], white: float, scale: float
) -> None:
    """On one scale; files of all depths of grey are remembered, and black ones fit any white."""
    files = [np.round(np.array(picture) * scale, 6) for picture in pictures]
    brightest = max(picture.max() for picture in files)
    if brightest * 255 > white * 255.5:
        return
    seen = Brightness(white, "here")
    for number, picture in enumerate(files):
        seen.pixels(picture, f"file{number}")
    if 0 < brightest * 255 / white <= 1:
        with pytest.raises(InputError, match="here: white: no value is above"):
            seen.check()
    elif white == 1 or (scale > 1 and all(picture.max() > 1 or picture.max() < 0.5 for picture in files)):
        seen.check()
