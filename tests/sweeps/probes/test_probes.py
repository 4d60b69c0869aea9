"""Probes by name and from folders, local and remote, and what is said about bad ones."""

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.probes import PROBES, Probe, open_probe

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
OBJECTS = "file,object,rotation_deg\na0.png,a,0\na1.png,a,5\na2.png,a,10\nb0.png,b,0\nb1.png,b,5\nb2.png,b,10\n"
NAMES = ("a0", "a1", "a2", "b0", "b1", "b2")


def png(value: int, size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), value).save(stream, "PNG")
    return stream.getvalue()


def archive(names: tuple[str, ...] = NAMES) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for i, name in enumerate(names):
            packed.writestr(zipfile.ZipInfo(f"{name}.png"), png(10 * i))
    return stream.getvalue()


def write(folder: Path, stimuli: str = OBJECTS, images: bytes | None = None, settings: str = "name: toy\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "probe.yaml").write_text(settings)
    (folder / "stimuli.csv").write_text(stimuli)
    (folder / "images.zip").write_bytes(archive() if images is None else images)
    return folder


@pytest.mark.parametrize("kind", PROBES)
def test_every_rendered_probe_keeps_the_contract(kind: str) -> None:
    probe = open_probe(kind, "rendered", "")
    pixels = probe.images(Geometry(32, crop=0.5))
    assert isinstance(probe, Probe)
    assert probe.kind == kind
    assert pixels.shape == (len(probe), 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert probe.fingerprint == open_probe(kind, {"rendered": {}}, "elsewhere").fingerprint
    assert probe.fingerprint != open_probe(kind, {"rendered": {"seed": 1}}, "").fingerprint
    assert np.array_equal(pixels, pickle.loads(pickle.dumps(probe)).images(Geometry(32)))


def test_the_defaults() -> None:
    objects, captions = open_probe("objects", "rendered"), open_probe("captions", "rendered")
    assert objects.table["object"].nunique() == 12
    assert sorted(set(objects.table["transform"])) == [24.0 * i for i in range(15)]
    assert len(objects) == 180
    assert list(captions.table.columns) == ["caption"]
    assert len(captions) == 240


def test_settings_of_rendered_probes() -> None:
    probe = open_probe("objects", {"rendered": {"kinds": ["key", "fish"], "rotations": 4, "seed": 2}})
    assert probe.table.to_dict("list") == {
        "object": ["key"] * 4 + ["fish"] * 4,
        "transform": [0.0, 90.0, 180.0, 270.0] * 2,
    }
    assert len(open_probe("captions", {"rendered": {"count": 7}})) == 7


def test_the_same_captions_and_pictures_whether_few_or_many() -> None:
    few, many = (open_probe("captions", {"rendered": {"count": n}}) for n in (5, 9))
    assert few.table["caption"].tolist() == many.table["caption"].tolist()[:5]
    assert np.array_equal(few.images(Geometry(24)), many.images(Geometry(24))[:5])


@pytest.mark.parametrize(
    ("kind", "value", "complaint"),
    [
        (
            "object",
            "rendered",
            r"probes = 'object': unknown kind of probe; allowed: objects, captions, search; did you mean",
        ),
        (
            "objects",
            {"rendered": {"rotation": 3}},
            r"probes\.objects\.rendered\.rotation: unknown key; allowed: kinds",
        ),
        (
            "objects",
            {"rendered": {"rotations": 1}},
            r"probes\.objects\.rendered\.rotations = 1: must be an integer from 2",
        ),
        (
            "objects",
            {"rendered": {"kinds": ["fish", "brd"]}},
            r"kinds = 'brd': unknown kind .*did you mean 'bird'",
        ),
        ("objects", {"rendered": {"kinds": ["fish", "fish"]}}, r"kinds = .*twice"),
        ("objects", {"rendered": {"kinds": ["fish"]}}, r"kinds = \['fish'\]: .*at least 2"),
        (
            "captions",
            {"rendered": {"kinds": ["fish"]}},
            r"probes\.captions\.rendered\.kinds: unknown key; allowed: count, seed",
        ),
        ("captions", {"rendered": {"count": "many"}}, r"probes\.captions\.rendered\.count = 'many'"),
        ("captions", {"rendered": {"seed": -1}}, r"seed = -1"),
        ("captions", {"rendered": 7}, r"probes\.captions\.rendered = 7"),
        ("objects", 5, r"probes\.objects = 5: must be `rendered`"),
        ("objects", "", r"probes\.objects = ''"),
        ("objects", {"path": "coil20"}, r"must be `rendered`"),
        ("objects", {"rendered": {}, "every": 2}, r"only `rendered`"),
        ("objects", {"folder": "toy", "every": 0}, r"probes\.objects\.every = 0"),
        ("objects", {"folder": 3}, r"probes\.objects\.folder = 3"),
        ("captions", {"folder": "toy", "every": 2}, r"probes of objects only"),
        ("objects", "nowhere", r"nowhere/probe\.yaml: no such file"),
    ],
)
def test_bad_values_are_answered_in_one_line(tmp_path: Path, kind: str, value: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        open_probe(kind, value, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_of_object_views(tmp_path: Path) -> None:
    write(tmp_path / "toy")
    probe = open_probe("objects", "toy", tmp_path)
    assert probe.name == "toy"
    assert probe.table.to_dict("list") == {"object": list("aaabbb"), "transform": [0.0, 5.0, 10.0] * 2}
    assert probe.images(Geometry(4, crop=0.3))[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert probe.fingerprint == open_probe("objects", str(tmp_path / "toy")).fingerprint


def test_every_keeps_every_kth_transform_of_each_object(tmp_path: Path) -> None:
    write(tmp_path / "toy")
    probe = open_probe("objects", {"folder": "toy", "every": 2}, tmp_path)
    assert probe.table.to_dict("list") == {"object": list("aabb"), "transform": [0.0, 10.0] * 2}
    assert probe.images(Geometry(4))[:, 0, 0, 0].tolist() == [0, 20, 30, 50]
    assert probe.fingerprint != open_probe("objects", "toy", tmp_path).fingerprint
    with pytest.raises(InputError, match=r"two transforms or more, after every: 3"):
        open_probe("objects", {"folder": "toy", "every": 3}, tmp_path)


@pytest.mark.parametrize("changed", ["probe.yaml", "stimuli.csv", "images.zip"])
def test_the_fingerprint_is_of_the_contents(tmp_path: Path, changed: str) -> None:
    first = open_probe("objects", str(write(tmp_path / "one"))).fingerprint
    folder = write(tmp_path / "two")
    assert open_probe("objects", str(folder)).fingerprint == first
    settings, stimuli, images = "name: toy2\n", OBJECTS.replace(",10", ",20"), archive(NAMES[::-1])
    replaced = {"probe.yaml": settings.encode(), "stimuli.csv": stimuli.encode(), "images.zip": images}
    (folder / changed).write_bytes(replaced[changed])
    assert open_probe("objects", str(folder)).fingerprint != first


def test_transforms_that_are_words_are_numbered(tmp_path: Path) -> None:
    words = OBJECTS.replace("rotation_deg", "position")
    for number, word in (("0", "lower"), ("5", "middle"), ("10", "upper")):
        words = words.replace(f",{number}\n", f",{word}\n")
    probe = open_probe("objects", str(write(tmp_path / "toy", words)))
    assert probe.table["transform"].tolist() == [0.0, 1.0, 2.0] * 2


def test_an_object_may_be_called_na_or_be_a_number(tmp_path: Path) -> None:
    table = OBJECTS.replace(",a,", ",NA,").replace(",b,", ",07,")
    assert set(open_probe("objects", str(write(tmp_path / "toy", table))).table["object"]) == {"NA", "07"}


def test_a_folder_of_captions(tmp_path: Path) -> None:
    stimuli = "file,caption\n" + "".join(f'{name}.png,"a fish, and {name}"\n' for name in NAMES)
    probe = open_probe("captions", str(write(tmp_path / "toy", stimuli)))
    assert probe.table["caption"].iloc[1] == "a fish, and a1"
    assert probe.images(Geometry(4)).shape == (6, 4, 4, 3)


@pytest.mark.parametrize(
    ("stimuli", "complaint"),
    [
        (OBJECTS.replace("object", "thing"), r"stimuli\.csv: has no column 'object'; it has file, thing"),
        (OBJECTS.replace("rotation_deg", "angle"), r"no column for the transform: one of rotation_deg"),
        (OBJECTS.replace("file", "picture"), r"has no column 'file'"),
        (OBJECTS.replace("b2.png", "b1.png"), r"file = 'b1\.png': lists a picture twice"),
        (OBJECTS.replace("b2.png", "b9.png"), r"there is no image 'b9\.png' among 6 files"),
        (
            OBJECTS.replace("b2.png,b,10\n", ""),
            r"lists 5 pictures of 5 lines, but there are 6, such as 'b2\.png'",
        ),
        (OBJECTS.replace("a1.png,a,5", "a1.png,,5"), r"object: is empty in line 3"),
        (OBJECTS.replace("a1.png,a,5", "a1.png,a,five"), r"rotation_deg = 'five': must be a finite number"),
        (OBJECTS.replace("a1.png,a,5", "a1.png,a,inf"), r"rotation_deg = 'inf'"),
        (OBJECTS.replace(",b,", ",a,"), r"needs two objects or more"),
        (OBJECTS.replace("a0.png", "../a0.png"), r"is not safe"),
        ("file,object,rotation_deg\n", r"lists no pictures"),
        ("", r"not a readable CSV"),
        ('file,object,rotation_deg\na,"b', r"not a readable CSV"),
    ],
)
def test_bad_tables(tmp_path: Path, stimuli: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_probe("objects", str(write(tmp_path / "toy", stimuli)))


@pytest.mark.parametrize("settings", ["- a\n", "name: [1\n", "title: toy\n", "name: 7\n"])
def test_bad_settings(tmp_path: Path, settings: str) -> None:
    with pytest.raises(InputError, match=r"probe\.yaml"):
        open_probe("objects", str(write(tmp_path / "toy", settings=settings)))


@pytest.mark.parametrize("missing", ["probe.yaml", "stimuli.csv", "images.zip"])
def test_missing_files(tmp_path: Path, missing: str) -> None:
    folder = write(tmp_path / "toy")
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing):
        open_probe("objects", str(folder))


def test_a_remote_folder_is_the_same_probe(tmp_path: Path, memory_scheme: None) -> None:
    folder = write(tmp_path / "toy")
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/probe-test/toy/{path.name}", path.read_bytes())
    local, remote = (
        open_probe("objects", "toy", tmp_path),
        open_probe("objects", "toy", "memory://probe-test"),
    )
    assert remote.fingerprint == local.fingerprint
    assert np.array_equal(remote.images(Geometry(6)), local.images(Geometry(6)))
    pd.testing.assert_frame_equal(remote.table, local.table)
    memory.rm("/probe-test", recursive=True)


def test_coil20() -> None:
    if not (DATA / "coil20" / "images.zip").exists():
        pytest.skip("COIL-20 is not in ../shared/data/coil20")
    whole = open_probe("objects", "coil20", DATA)
    assert len(whole) == 1440
    assert whole.table.groupby("object")["transform"].agg(["min", "max", "nunique"]).eq([0, 355, 72]).all(axis=None)
    part = open_probe("objects", {"folder": "coil20", "every": 8}, DATA)
    assert sorted(set(part.table["transform"])) == [40.0 * i for i in range(9)]
    pixels = part.images(Geometry(112, crop=0.5))
    assert pixels.shape == (180, 112, 112, 3)
    assert 20 < pixels.mean() < 120
    with zipfile.ZipFile(DATA / "coil20" / "images.zip") as packed:
        first = Image.open(io.BytesIO(packed.read("obj01-view08.png")))
    assert np.array_equal(pixels[1], Geometry(112).apply(first))


def test_probes_need_neither_torch_nor_ray() -> None:
    code = "import sys, sweeps.probes; print([m for m in ('torch', 'ray', 'transformers') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() == "[]"
