"""The table of mistakes: what was typed or put there, and the one line that answers it."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from sweeps import cli
from sweeps.errors import InputError
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import find_experiment, parse_experiment, read_experiment
from sweeps.recordings import describe, open_recording
from sweeps.recordings.examples import load_example

Answer = tuple[str, ...]
STIMULI = 24
ANNEX = b"/annex/objects/MD5E-s3123--439b33f3e4d39bb3502c0e7d2fc2c9b7.npy\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"


def png(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_folder(folder: Path, names: Callable[[int], str] = "im{:03d}.png".format) -> Path:
    """A recording of the format `folder`: 24 pictures, three units."""
    folder.mkdir(parents=True)
    responses = np.random.default_rng(0).random((STIMULI, 3))
    np.save(folder / "responses.npy", responses)
    (folder / "units.csv").write_text("unit,area\n0,V1\n1,V1\n2,V4\n")
    (folder / "stimuli.csv").write_text("file\n" + "".join(f"{names(i)}\n" for i in range(STIMULI)), encoding="utf-8")
    (folder / "images").mkdir()
    for index in range(STIMULI):
        (folder / "images" / f"im{index:03d}.png").write_bytes(png(index))
    return folder


def pack(folder: Path, name: Callable[[int], str]) -> None:
    """Put the pictures into images.zip, under other names."""
    with zipfile.ZipFile(folder / "images.zip", "w") as packed:
        for index in range(STIMULI):
            packed.writestr(zipfile.ZipInfo(name(index)), png(index))


def put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def dangling(name: str, target: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def save(array: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        held = np.load(folder / "responses.npy")
        np.save(folder / "responses.npy", array(held), allow_pickle=True)

    return change


def object_features(folder: Path) -> None:
    features = np.ones((STIMULI, 2)).astype(object)
    np.savez(folder / "features.npz", a=features)


Change = Callable[[Path], object]
FOLDERS: dict[str, tuple[Change, Answer]] = {
    "responses not fetched": (
        put("responses.npy", ANNEX),
        ("responses.npy: is a pointer of git-annex", "datalad get "),
    ),
    "table not fetched": (put("stimuli.csv", ANNEX), ("stimuli.csv: is a pointer of git-annex", "datalad get ")),
    "units in LFS": (put("units.csv", LFS), ("units.csv: is a pointer of Git LFS", "`git lfs pull`")),
    "responses in LFS": (put("responses.npy", LFS), ("responses.npy: is a pointer of Git LFS", "`git lfs pull`")),
    "picture not fetched": (put("images/im000.png", ANNEX), ("images/im000.png: is a pointer of git-annex",)),
    "zip not fetched": (put("images.zip", ANNEX), ("images.zip: is a pointer of git-annex", "images.zip`")),
    "features in LFS": (put("features.npz", LFS), ("features.npz: is a pointer of Git LFS",)),
    "a link of git without links": (
        put("responses.npy", b"../.git/annex/objects/xG/0p/MD5E-s3--1/MD5E-s3--1"),
        ("responses.npy: is a pointer of git-annex",),
    ),
    "a link that leads nowhere": (
        dangling("responses.npy", ".git/annex/objects/xG/0p/MD5E-s3--1/MD5E-s3--1"),
        ("responses.npy: is a pointer of git-annex", "datalad get "),
    ),
    "table as such a link": (
        dangling("stimuli.csv", "../.git/annex/objects/xG/0p/k/k"),
        ("stimuli.csv: is a pointer of git-annex",),
    ),
    "picture as such a link": (
        dangling("images/im000.png", "../../.git/annex/objects/xG/0p/k/k"),
        ("im000.png: is a pointer of git-annex",),
    ),
    "any other dangling link": (dangling("units.csv", "elsewhere.csv"), ("units.csv: is a link that leads nowhere",)),
    "objects as responses": (
        save(lambda held: held.astype(object)),
        ("responses.npy: is not a plain .npy array", "allow_pickle=True).astype(float))"),
    ),
    "texts as responses": (
        save(lambda held: held.astype(str)),
        ("responses.npy: must hold numbers, not <U", "np.load(file).astype(float))"),
    ),
    "objects as features": (object_features, ("features.npz", "np.savez(file", ".astype(float)")),
    "a picture of another name": (
        put("stimuli.csv", b"file\n" + b"".join(b"img%03d.png\n" % i for i in range(STIMULI))),
        ("there is no image 'img000.png' among 24 files; the nearest is 'im000.png'",),
    ),
    "a name in other case": (
        put("stimuli.csv", b"file\n" + b"".join(b"IM%03d.png\n" % i for i in range(STIMULI))),
        ("there is no image 'IM000.png' among 24 files; the nearest is 'im000.png'",),
    ),
    "a way out of the folder": (
        put("stimuli.csv", b"file\n" + b"../images/im000.png\n" * STIMULI),
        ("image name '../images/im000.png' is not safe",),
    ),
    "a way out with backslashes": (
        put("stimuli.csv", b"file\n" + b"..\\images\\im000.png\n" * STIMULI),
        ("is not safe",),
    ),
    "a drive": (put("stimuli.csv", b"file\n" + b"C:\\images\\im000.png\n" * STIMULI), ("is not safe",)),
}


def answer(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_pointer_that_was_packed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    with zipfile.ZipFile(folder / "images.zip", "w") as packed:
        for index in range(STIMULI):
            packed.writestr(f"im{index:03d}.png", LFS)
    line = answer(lambda: describe([{"format": "folder", "path": "data"}], str(tmp_path)))
    assert "im000.png: is a pointer of Git LFS" in line
    assert "pack it again" in line


@pytest.mark.parametrize("mistake", FOLDERS)
def test_mistakes_in_a_folder(mistake: str, tmp_path: Path) -> None:
    change, pieces = FOLDERS[mistake]
    folder = write_folder(tmp_path / "data")
    change(folder)
    line = answer(lambda: describe([{"format": "folder", "path": "data"}], str(tmp_path)))
    for piece in pieces:
        assert piece in line


# -- what is found all the same ---------------------------------------------------------------------

SPELLINGS: dict[str, tuple[Callable[[int], str], Callable[[int], str]]] = {
    "folder in the table": ("images/im{:03d}.png".format, "im{:03d}.png".format),
    "folder and archive": ("images/im{:03d}.png".format, "stim/im{:03d}.png".format),
    "backslashes in the table": ("images\\im{:03d}.png".format, "im{:03d}.png".format),
    "backslashes in the archive": ("im{:03d}.png".format, "stim\\im{:03d}.png".format),
    "a dot in front": ("./im{:03d}.png".format, "im{:03d}.png".format),
    "composed accents": ("caf\u00e9_{:03d}.png".format, "cafe\u0301_{:03d}.png".format),
    "accents apart": ("cafe\u0301_{:03d}.png".format, "caf\u00e9_{:03d}.png".format),
    "suffix in capitals": ("im{:03d}.png".format, "im{:03d}.PNG".format),
    "UTF-8 that is not said": (
        "caf\u00e9{:03d}.png".format,
        lambda i: f"cafe\u0301{i:03d}.png".encode().decode("cp437"),
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_pictures_are_found_where_only_the_spelling_differs(spelling: str, tmp_path: Path) -> None:
    listed, packed = SPELLINGS[spelling]
    folder = write_folder(tmp_path / "data", listed)
    pack(folder, packed)
    recording = open_recording({"format": "folder", "path": "data"}, str(tmp_path), tmp_path / "cache")
    assert recording is not None
    assert recording.fit.images is not None
    shown = recording.fit.images(slice(0, STIMULI)).mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(shown, np.arange(STIMULI))


# -- other formats ----------------------------------------------------------------------------------


def edit_yaml(path: Path, **values: Any) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def of_screen(**values: Any) -> Callable[[Path], object]:
    return lambda folder: edit_yaml(folder / "screen" / "meta.yml", **values)


def of_trial(**values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        trials = sorted((folder / "screen" / "meta").glob("*.yml"))
        edit_yaml(next(path for path in trials if yaml.safe_load(path.read_text())["modality"] == "video"), **values)

    return change


def named(**values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        of_screen(use_stimuli_names=True)(folder)
        for path in (folder / "screen" / "meta").glob("*.yml"):
            edit_yaml(path, stimulus_name=path.stem)
        of_trial(**values)(folder)

    return change


def grid(*tiers: str) -> bytes:
    """A TextGrid with tiers of these names, a word in each."""
    parts = "".join(f'"IntervalTier" "{name}" 0 9 1 0 9 "word{i}"\n' for i, name in enumerate(tiers))
    return f'File type = "ooTextFile"\n"TextGrid" 0 9 <exists> {len(tiers)}\n{parts}'.encode()


def every_grid(content: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for path in (folder / "derivative" / "TextGrids").iterdir():
            path.write_bytes(content)

    return change


def packed_with(code: int) -> Callable[[Path], object]:
    """Store a story's numbers behind a filter that is not installed (their bytes as they are)."""

    def change(folder: Path) -> None:
        path = sorted((folder / "derivative" / "preprocessed_data" / "UTS01").iterdir())[0]
        with h5py.File(path, "r+") as file:
            data = file["data"][:]
            del file["data"]
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_chunk(data.shape)
            plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple(data.shape)
            made = h5py.h5d.create(file.id, b"data", h5py.h5t.py_create(data.dtype), space, plan)
            made.write_direct_chunk((0, 0), data.tobytes(), filter_mask=0)

    return change


TREES: dict[str, tuple[str, dict[str, Any], Change, Answer]] = {
    "spikes": (
        "experanto",
        {},
        lambda folder: edit_yaml(folder / "responses" / "meta.yml", modality="spikes"),
        ("responses/meta.yml: modality = 'spikes': spikes are not read",),
    ),
    "an unknown switch": ("experanto", {}, of_screen(use_colour=True), ("meta.yml: use_colour = True: is a switch",)),
    "a switch of a trial": ("experanto", {}, of_trial(flip="vertical"), ("flip = 'vertical': is a switch",)),
    "names that are no switch": ("experanto", {}, of_screen(use_stimuli_names="yes"), ("must be true or false",)),
    "no name": ("experanto", {}, named(stimulus_name=None), ("stimulus_name: is missing",)),
    "a name outside": ("experanto", {}, named(stimulus_name="../00000"), ("stimulus_name = '../00000': must be",)),
    "a name of no file": ("experanto", {}, named(stimulus_name="none"), ("screen/data/none.npy: missing file",)),
    "a clock not fetched": ("experanto", {}, put("screen/timestamps.npy", ANNEX), ("is a pointer of git-annex",)),
    "settings in LFS": ("experanto", {}, put("responses/meta.yml", LFS), ("is a pointer of Git LFS",)),
    "tiers without words": ("lebel", {}, every_grid(grid("phones", "text")), ("`tier`", "'phones', 'text'")),
    "two speakers": ("lebel", {}, every_grid(grid("a - words", "b - words")), ("more than one", "'a - words'")),
    "no such tier": ("lebel", {"tier": "b"}, every_grid(grid("a", "word")), ("tier = 'b'", "allowed: a, word")),
    "a grid not fetched": ("lebel", {}, every_grid(ANNEX), (".TextGrid: is a pointer of git-annex",)),
    "no text": ("lebel", {}, every_grid("é".encode("latin-1") * 9), ("is no text in UTF-8 or UTF-16",)),
    "Blosc": ("lebel", {}, packed_with(32001), ("data: is packed with the HDF5 filter Blosc (32001)", "hdf5plugin")),
    "a filter of nobody": ("lebel", {}, packed_with(299), ("the HDF5 filter unknown (299)",)),
    "lengths in LFS": ("lebel", {}, put("derivative/respdict.json", LFS), ("respdict.json: is a pointer of Git LFS",)),
}


@pytest.mark.parametrize("mistake", TREES)
def test_mistakes_in_other_formats(mistake: str, tmp_path: Path) -> None:
    kind, options, change, pieces = TREES[mistake]
    folder = tmp_path / "data"
    folder.mkdir()
    load_example(kind)().write(folder, 0)
    change(folder)
    line = answer(lambda: describe([{"format": kind, "path": "data", **options}], str(tmp_path)))
    for piece in pieces:
        assert piece in line


# -- keys -------------------------------------------------------------------------------------------

RAW: dict[str, Any] = {
    "name": "a",
    "recordings": [{"format": "simulated"}],
    "space": {"backbone": "pixels", "readout": "ridge"},
}
KEYS = {
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "epochs": "epochs",
    "batch": "batch",
    "gpus": "'compute.gpus_per_pack'",
    "gpu": "'compute.gpus_per_pack'",
    "cpus": "'compute.cpus_per_pack'",
    "workers": "'compute.workers'",
    "model": "'space.backbone'",
    "network": "'space.backbone'",
    "layers": "'space.depth'",
    "data": "'recordings'",
    "dataset": "'recordings'",
    "metrics": "'scores'",
    "seeds": "'space.seed'",
    "n_trials": "'search.trials'",
    "num_samples": "'search.trials'",
    "output": "'storage'",
    "s3": "'storage'",
    "train": "'split'",
    "val": "'split.select'",
    "test": "'split.report'",
    "storge": "'storage'",
    "compute.gpus": "'compute.gpus_per_pack'",
    "compute.num_workers": "'compute.workers'",
    "split.val": "'split.select'",
    "search.sampler": "'search.method'",
    "search.num_samples": "'search.trials'",
}


@pytest.mark.parametrize("key", KEYS)
def test_common_names_of_keys_are_answered_with_the_real_one(key: str) -> None:
    section, _, word = key.rpartition(".")
    raw = {**RAW, section: {word: 1}} if section else {**RAW, word: 1}
    line = answer(lambda: parse_experiment(raw, "x.yaml"))
    assert line.startswith(f"x.yaml: {key}: unknown key; allowed: ")
    assert KEYS[key] in line.partition("did you mean")[2]


SPACES: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "pixels"}, "'space.backbone'"),
    "layers": ({"layers": [1]}, "'space.depth'"),
    "lr": ({"backbone": "pixels", "readout": {"gaussian": {"lr": 1}}}, "'space.readout.gaussian.learning_rate'"),
    "lambda": ({"backbone": "pixels", "readout": {"ridge": {"lambda": 1}}}, "'space.readout.ridge.alpha'"),
    "batch": (
        {"backbone": {"stacked2d": {"batch_size": 1}}, "readout": "gaussian"},
        "'space.backbone.stacked2d.batch'",
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_common_names_in_the_space(name: str) -> None:
    raw, meant = SPACES[name]
    assert meant in answer(lambda: read_space(raw, ["V1"])).partition("did you mean")[2]


def test_every_word_leads_to_a_place_that_there_is() -> None:
    """Sections and keys of the table are those of the experiment file."""
    from sweeps.experiment.schema import Experiment
    from sweeps.io.key_names import MEANT

    sections = {"space": {"backbone", "depth", "readout", "seed"}, "recordings": {"0"}}
    for place in MEANT:
        first, _, rest = place.partition(":")[0].partition(".")
        assert first in Experiment.model_fields
        if rest:
            model: Any = Experiment.model_fields[first].annotation
            keys = sections.get(first) or set(model.model_fields)
            assert rest.partition(".")[0] in keys, place


# -- the command line -------------------------------------------------------------------------------


def run(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["sweeps", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def experiment(folder: Path, **changes: Any) -> str:
    raw = {
        "name": "small",
        "recordings": [{"format": "folder", "path": "data", "image": {"size": 16}}],
        "probes": {"objects": None, "captions": None},
        "space": {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"ridge": {"pool": 2}}},
        "scores": ["prediction"],
        "storage": str(folder / "results"),
        **changes,
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(raw))
    return str(folder / "small.yaml")


def test_a_deep_check_names_every_bad_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data")
    file = experiment(tmp_path)
    code, out, _ = run("check", file, "--deep", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert "every stimulus can be read" in out
    for index in (7, 15):
        path = folder / "images" / f"im{index:03d}.png"
        path.write_bytes(path.read_bytes()[:50])
    assert run("check", file, capsys=capsys, monkeypatch=monkeypatch)[0] == 0
    code, _, err = run("check", file, "--deep", capsys=capsys, monkeypatch=monkeypatch)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert ["'im007.png' cannot be read" in lines[0], "'im015.png' cannot be read" in lines[1]] == [True, True]
    assert len(lines) == 2


def test_poisson_on_negative_responses_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data")
    responses = np.load(folder / "responses.npy")
    responses[:, 2] -= 3.0
    np.save(folder / "responses.npy", responses)
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"gaussian": {"loss": "poisson"}}}
    code, _, err = run("check", experiment(tmp_path, space=space), capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2
    least = responses[:, 2].min()
    assert "space.readout.gaussian.loss = 'poisson': allows no negative responses, and those of V4 in the" in err
    assert f"recording data go down to {least:.3g}" in err
    space["readout"] = {"gaussian": {"loss": "gaussian"}}
    assert run("check", experiment(tmp_path, space=space), capsys=capsys, monkeypatch=monkeypatch)[0] == 0


def test_the_home_folder_is_meant_by_a_tilde(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "data")
    recordings = [{"format": "folder", "path": "~/data", "image": {"size": 16}}]
    experiment(tmp_path, recordings=recordings, storage="~/rows")
    code, out, err = run("check", "~/small.yaml", "--cache", "~/kept", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0, err
    assert f"results: {tmp_path}/rows" in out.replace("\n", "")
    experiment(tmp_path)
    assert run("check", "~/small.yaml", "--data", "~", capsys=capsys, monkeypatch=monkeypatch)[0] == 0
    assert not os.path.exists("~")


def test_an_experiment_that_was_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(LFS)
    assert "a.yaml: is a pointer of Git LFS" in answer(lambda: read_experiment(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").symlink_to(".git/annex/objects/a/b/k/k")
    assert "b.yaml: is a pointer of git-annex" in answer(lambda: find_experiment(str(tmp_path / "b.yaml")))


def test_weights_that_were_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "vgg.safetensors").write_bytes(LFS)
    raw = {"backbone": {"vgg16": {"weights": str(tmp_path / "vgg.safetensors")}}, "readout": "ridge"}
    assert "vgg.safetensors: is a pointer of Git LFS" in answer(lambda: read_space(raw, ["V1"]))


def test_accents_compare_composed() -> None:
    from sweeps.stimuli.picture_names import plain

    for name in ("\u00c5ngstr\u00f6m.PNG", "na\u00efve/\u1ebft.jpg"):
        assert plain(unicodedata.normalize("NFD", name)) == plain(unicodedata.normalize("NFC", name))
