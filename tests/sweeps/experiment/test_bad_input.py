"""Every bad input: one line that names file, key, value and what is allowed; exit code 2; nothing written."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import write_recording
from s3 import S3Server, seaweedfs

from sweeps import cli

ROOT = Path(__file__).resolve().parents[3]
Change = Callable[[dict[str, Any], Path], object]
Outcome = tuple[int, str]


# -- how a case is built and run --------------------------------------------------------------------


def put(path: str, value: Any) -> Change:
    """Set a key of the experiment, given as `a.b.0.c`."""

    def change(raw: dict[str, Any], data: Path) -> None:
        held: Any = raw
        *outer, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in outer:
            held = held[part] if isinstance(part, int) else held.setdefault(part, {})
        held[last] = value

    return change


def drop(key: str) -> Change:
    """Leave a key of the experiment out."""
    return lambda raw, data: raw.__delitem__(key)


def both(*changes: Change) -> Change:
    def change(raw: dict[str, Any], data: Path) -> None:
        for each in changes:
            each(raw, data)

    return change


def remove(name: str) -> Change:
    """Delete a file of the recording."""
    return lambda raw, data: (data / name).unlink()


def text(name: str, content: str) -> Change:
    """Replace a file of the recording."""
    return lambda raw, data: (data / name).write_text(content)


def content(name: str, content: bytes) -> Change:
    return lambda raw, data: (data / name).write_bytes(content)


def responses(edit: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Replace the recording's responses."""

    def change(raw: dict[str, Any], data: Path) -> None:
        held = np.load(data / "responses.npy")
        np.save(data / "responses.npy", edit(held), allow_pickle=True)

    return change


def assigned(unit: int, value: float) -> Change:
    def edit(held: np.ndarray) -> np.ndarray:
        held[:, unit] = value
        return held

    return responses(edit)


def picture(name: str | None, data_of: bytes | None, compression: int = zipfile.ZIP_STORED) -> Change:
    """Replace (or, without content, remove) one picture in images.zip."""

    def change(raw: dict[str, Any], data: Path) -> None:
        with zipfile.ZipFile(data / "images.zip") as archive:
            held = {entry: archive.read(entry) for entry in archive.namelist() if entry != name}
        if name is not None and data_of is not None:
            held[name] = data_of
        with zipfile.ZipFile(data / "images.zip", "w", compression) as archive:
            for entry, bytes_of in held.items():
                archive.writestr(entry, bytes_of)

    return change


def recording_again(raw: dict[str, Any], data: Path) -> None:
    raw["recordings"].append(dict(raw["recordings"][0]))


def features(**arrays: Any) -> Change:
    return lambda raw, data: np.savez(data / "features.npz", **arrays)


def groups(count: int) -> Change:
    return lambda raw, data: write_recording(data, groups=count)


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("unpickled"), "trap")


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size if path.is_file() else 0, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that is also the home folder, where the default cache would lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.fixture
def written(place: Path, experiment: dict[str, Any], recording: Path) -> Callable[[Change], Path]:
    """The function that writes the experiment of a case."""

    def write(change: Change) -> Path:
        change(experiment, recording)
        file = place / "small.yaml"
        file.write_text(yaml.safe_dump(experiment))
        return file

    return write


@pytest.fixture
def command(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command in this process: (exit code, stderr)."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sweeps", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return int(exit.value.code or 0), capsys.readouterr().err

    return run


def outside(place: Path, *arguments: str, environment: dict[str, str] | None = None, timeout: float = 60) -> Outcome:
    """Runs the command in a process of its own: (exit code, stderr)."""
    held = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    held |= {"PYTHONPATH": str(ROOT), **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", *arguments],
        cwd=place,
        env=held,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stderr


def assert_refused(outcome: Outcome, pieces: tuple[str, ...]) -> None:
    code, said = outcome
    assert code == 2, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    for piece in pieces:
        assert piece in said, f"{piece!r} is not in {said!r}"


# -- the table --------------------------------------------------------------------------------------

RANGE = {"low": 0.001, "high": 1}
READOUT = "space.readout"
DATA_CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "no recording": (put("recordings.0.path", "nowhere"), ("nowhere", "no such recording")),
    "no responses": (remove("responses.npy"), ("small/responses.npy: missing file",)),
    "no units": (remove("units.csv"), ("small/units.csv: missing file",)),
    "no pictures": (remove("images.zip"), ("small.yaml", "recording small has no pictures", "features")),
    "empty stimuli": (text("stimuli.csv", ""), ("stimuli.csv: is not a CSV table",)),
    "no stimuli": (text("stimuli.csv", "file,group\n"), ("stimuli.csv: has no rows",)),
    "no column file": (text("stimuli.csv", "name,group\na,b\n"), ("no column `file`; it has name, group",)),
    "cells beyond the header": (text("stimuli.csv", "file,group\na,b,c\n"), ("more cells than its header (2)",)),
    "ragged stimuli": (text("stimuli.csv", "file,group\na,b\nc,d,e,f\n"), ("stimuli.csv: is not a CSV table",)),
    "binary stimuli": (content("stimuli.csv", b"\xff\xfe\x00\x01"), ("stimuli.csv: is not a CSV table",)),
    "stimulus without group": (
        lambda raw, data: text("stimuli.csv", (data / "stimuli.csv").read_text().replace("group002", ""))(raw, data),
        ("stimuli.csv: group: is empty in line 4",),
    ),
    "unknown role": (
        lambda raw, data: text("stimuli.csv", "file,role\n" + "".join(f"{i:04d}.png,fitt\n" for i in range(60)))(
            raw, data
        ),
        ("role = 'fitt'", "allowed: fit, objects, captions, text", "did you mean 'fit'?"),
    ),
    "no role fit": (
        text("stimuli.csv", "file,role\n" + "".join(f"{i:04d}.png,objects\n" for i in range(60))),
        ("stimuli.csv: role: no stimulus has the role `fit`",),
    ),
    "more responses than stimuli": (
        responses(lambda held: np.concatenate([held, held[:2]])),
        ("responses.npy: has 62 stimuli, but stimuli.csv has 60 rows",),
    ),
    "fewer responses than units": (
        responses(lambda held: held[:, 1:]),
        ("responses.npy: has 8 units, but units.csv has 9 rows",),
    ),
    "flat responses": (responses(lambda held: held[:, 0, 0]), ("responses.npy", "(60,)", "(stimuli, units")),
    "constant unit": (assigned(3, 1.5), ("responses.npy: units 3 respond the same", "exclude_units")),
    "silent unit": (assigned(0, 0.0), ("responses.npy: units 0 respond the same", "exclude_units")),
    "missing unit": (assigned(4, np.nan), ("responses.npy: units 4 are NaN throughout", "exclude_units")),
    "infinite unit": (assigned(5, np.inf), ("responses.npy: infinite responses in units 5",)),
    "beyond 32 bits": (responses(lambda held: held.astype(float) * 1e300), ("responses.npy: infinite responses",)),
    "responses of text": (responses(lambda held: held.astype(str)), ("responses.npy: must hold numbers, not <U",)),
    "complex responses": (responses(lambda held: held * 1j), ("responses.npy: must hold numbers, not complex",)),
    "responses of objects": (
        responses(lambda held: np.array([Trap()] * 60, dtype=object)),
        ("responses.npy: is not a plain .npy array",),
    ),
    "pickle as responses": (
        content("responses.npy", pickle.dumps(Trap())),
        ("responses.npy: is not a plain .npy array",),
    ),
    "npz as responses": (
        lambda raw, data: shutil.copy(data / "images.zip", data / "responses.npy"),
        ("responses.npy: is not a plain .npy array",),
    ),
    "torn responses": (
        lambda raw, data: content("responses.npy", (data / "responses.npy").read_bytes()[:900])(raw, data),
        ("responses.npy: is not a plain .npy array",),
    ),
    "empty responses": (content("responses.npy", b""), ("responses.npy: is not a plain .npy array",)),
    "no column area": (
        text("units.csv", "unit,region\n" + "".join(f"{i},V1\n" for i in range(9))),
        ("units.csv: has no column `area`; it has unit, region",),
    ),
    "unit without area": (
        lambda raw, data: text("units.csv", (data / "units.csv").read_text().replace("2,V1", "2,"))(raw, data),
        ("units.csv: area: is empty in line 4",),
    ),
    "excluded unit beyond": (
        put("recordings.0.exclude_units", [9]),
        ("small.yaml: ", "exclude_units = 9", "units.csv, 0 to 8"),
    ),
    "all units excluded": (put("recordings.0.exclude_units", list(range(9))), ("exclude_units", "none of the 9")),
    "no zip": (content("images.zip", b"not a zip"), ("images.zip: not a readable zip archive",)),
    "unreadable picture": (picture("0000.png", b"no picture"), ("images.zip: image '0000.png' cannot be read",)),
    "missing picture": (picture("0031.png", None), ("images.zip: there is no image '0031.png' among 59 files",)),
    "zip bomb": (
        picture("0000.png", bytes(400 * 2**20), zipfile.ZIP_DEFLATED),
        ("images.zip: image '0000.png' unpacks to 419430400 bytes, which is too large",),
    ),
    "picture outside": (
        lambda raw, data: text("stimuli.csv", (data / "stimuli.csv").read_text().replace("0000.png", "../x.png"))(
            raw, data
        ),
        ("image name '../x.png' is not safe",),
    ),
    "features of another length": (features(a=np.zeros((5, 2))), ("features.npz: a = (5, 2): must be (60, features)",)),
    "features with NaN": (features(a=np.full((60, 2), np.nan)), ("features.npz: a: holds NaN",)),
    "features of objects": (
        features(a=np.array([Trap()] * 60, dtype=object)),
        ("features.npz: a: is not a plain .npy array: it holds pickled objects",),
    ),
    "no npz": (content("features.npz", b"PK\x03\x04torn"), ("features.npz: is not a plain .npz file",)),
    "array as features": (
        lambda raw, data: shutil.copy(data / "responses.npy", data / "features.npz"),
        ("features.npz: is not a plain .npz file",),
    ),
    "no such feature set": (
        both(
            features(vision=np.ones((60, 2))),
            put("space.backbone", {"features": {"set": "visoin"}}),
            put("space.depth", {"shared": "all"}),
        ),
        (
            "small.yaml: space.backbone.features.set = 'visoin'",
            "recording small",
            "allowed: vision",
            "did you mean 'vision'?",
        ),
    ),
    "fewer groups than splits": (groups(3), ("small.yaml: recordings.small.group = 3: fewer groups than splits",)),
    "a share that leaves nothing": (
        both(groups(20), put("split.report", 0.5)),
        ("small.yaml: recordings.small.group: ", "split.report of 1/2 leaves nothing to train on"),
    ),
}

FILE_CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "unknown key": (put("splt", {}), ("splt: unknown key", "allowed: name, recordings", "did you mean 'split'?")),
    "unknown key of a section": (put("split.reprot", 0.2), ("split.reprot: unknown key", "did you mean 'report'?")),
    "unknown key of a recording": (
        put("recordings.0.imgae", {}),
        ("recordings.0.imgae: unknown key; allowed: format, name, path", "did you mean 'image'?"),
    ),
    "unknown key of an image": (
        put("recordings.0.image.sise", 1),
        ("recordings.0.image.sise: unknown key; allowed: size, crop, exif; did you mean 'size'?",),
    ),
    "unknown key of the space": (
        put("space.readuot", "ridge"),
        ("space.readuot: unknown key", "did you mean 'readout'?"),
    ),
    "unknown key of a contrast": (
        put("contrasts", [{"name": "a", "area": "V1", "left": {"deph": [1]}}]),
        ("contrasts.0.left.deph: unknown key; allowed: depth, map, where; did you mean 'depth'?",),
    ),
    "unknown parameter": (
        put(READOUT, {"ridge": {"alhpa": 1}}),
        ("space.readout.ridge.alhpa: unknown key; allowed: alpha, pool, delays, layer, refit; did you mean 'alpha'?",),
    ),
    "parameter of another choice": (
        put(READOUT, {"ridge": {"l1": 1}}),
        ("space.readout.ridge.l1: unknown key; allowed: alpha, pool",),
    ),
    "unknown key of a range": (
        put(READOUT, {"ridge": {"alpha": {**RANGE, "step": 3}}}),
        ("space.readout.ridge.alpha.step: unknown key", "did you mean 'steps'?"),
    ),
    "misspelt key that is needed": (
        both(drop("recordings"), put("recordngs", [])),
        ("recordngs: unknown key", "did you mean 'recordings'?"),
    ),
    "name left out": (drop("name"), ("name: is missing; it must be a text",)),
    "space left out": (drop("space"), ("space: is missing; it must be a mapping",)),
    "path left out": (
        put("recordings", [{"format": "folder"}]),
        ("recordings.0.path: is missing; it must be a text",),
    ),
    "readout left out": (
        lambda raw, data: raw["space"].pop("readout"),
        ("space.readout: at least one is needed; allowed: ridge, srp-ridge, pls, banded-ridge, gaussian",),
    ),
    # wrong types
    "name of a number": (put("name", 3), ("name = 3: must be a text",)),
    "name of a path": (put("name", "a/b"), ("name = 'a/b': must be a text of letters, digits",)),
    "seed of a text": (put("split.seed", "0"), ("split.seed = '0': must be an integer from 0",)),
    "seed of a fraction": (put("split.seed", 0.5), ("split.seed = 0.5: must be an integer from 0",)),
    "share of a truth": (put("split.report", True), ("split.report = True: must be a number above 0 up to 0.5",)),
    "split of a number": (put("split", 0.2), ("split = 0.2: must be a mapping",)),
    "recordings of a text": (put("recordings", "a"), ("recordings = 'a': must be a list with at least 1 entry",)),
    "recording of a text": (put("recordings", ["a"]), ("recordings.0 = 'a': must be a mapping",)),
    "no recordings": (put("recordings", []), ("recordings = []: must be a list with at least 1 entry",)),
    "space of a list": (put("space", ["ridge"]), ("space = ['ridge']: must be a mapping",)),
    "score of a text": (put("scores", "prediction"), ("scores = 'prediction': must be a list",)),
    "score of a number": (put("scores", [1]), ("scores.0 = 1: must be a text",)),
    "cores of a text": (
        put("compute.cpus_per_pack", "two"),
        ("compute.cpus_per_pack = 'two': must be a number above",),
    ),
    "devices of a text": (
        put("compute.gpus_per_pack", "all"),
        ("compute.gpus_per_pack = 'all': must be a number from 0 or auto",),
    ),
    "workers of a text": (put("compute.workers", "many"), ("compute.workers = 'many': must be an integer from 1 or",)),
    "trials of a text": (put("search.trials", "many"), ("search.trials = 'many': must be an integer from 1",)),
    "size of a fraction": (
        put("recordings.0.image.size", 112.5),
        ("recordings.0.image.size = 112.5: must be an integer from 16 up to 1024",),
    ),
    "excluded units of text": (
        put("recordings.0.exclude_units", [0, "a"]),
        ("recordings.0.exclude_units.1 = 'a': must be an integer",),
    ),
    "format of a list": (put("recordings.0.format", ["folder"]), ("recordings.0.format = ['folder']: unknown format",)),
    "parameter of a text": (
        put(READOUT, {"ridge": {"alpha": "much"}}),
        ("space.readout.ridge.alpha = 'much': must be a number above 0, or auto",),
    ),
    "pool of a fraction": (
        put(READOUT, {"ridge": {"pool": 1.5}}),
        ("space.readout.ridge.pool = 1.5: must be an integer from 1",),
    ),
    "parameters of a list": (
        put(READOUT, {"ridge": [1]}),
        ("space.readout.ridge = [1]: must be {parameter: value}",),
    ),
    "choice of two": (
        put(READOUT, {"ridge": {}, "gaussian": {}}),
        ("space.readout", "must be a name or {name: {parameter: ...}}"),
    ),
    "depth of a text": (put("space.depth", {"V1": "deep"}), ("space.depth.V1 = 'deep': must be `all`, a block index",)),
    "depth of a list": (put("space.depth", [0, 1]), ("space.depth = [0, 1]: must be {area: all | list}",)),
    "initialisation of a text": (put("space.seed", ["a"]), ("space.seed = 'a': must be an integer from 0",)),
    "loss of a number": (
        put(READOUT, {"gaussian": {"loss": 1}}),
        ("space.readout.gaussian.loss = 1: must be poisson | gaussian",),
    ),
    # impossible ranges
    "share too large": (put("split.report", 0.9), ("split.report = 0.9: must be a number above 0 up to 0.5",)),
    "share of nothing": (put("split.select", 0), ("split.select = 0: must be a number above 0 up to 0.5",)),
    "shares of everything": (
        both(put("split.report", 0.5), put("split.select", 0.5)),
        ("split.select = 0.5", "must leave stimuli to train on"),
    ),
    "crop too large": (
        put("recordings.0.image.crop", 1.5),
        ("recordings.0.image.crop = 1.5: must be a number above 0 up to 1",),
    ),
    "no trials": (
        put("search", {"method": "random", "trials": 0}),
        ("search.trials = 0: must be an integer from 1",),
    ),
    "no workers": (put("compute.workers", 0), ("compute.workers = 0: must be an integer from 1 or auto",)),
    "less than no devices": (
        put("compute.gpus_per_pack", -1),
        ("gpus_per_pack = -1: must be a number from 0 or auto",),
    ),
    "a device and a half": (
        put("compute.gpus_per_pack", 1.5),
        ("gpus_per_pack = 1.5: must be a whole number above 1",),
    ),
    "infinite cores": (put("compute.cpus_per_pack", float("inf")), ("compute.cpus_per_pack = inf: must be a number",)),
    "negative parameter": (
        put(READOUT, {"ridge": {"alpha": -1}}),
        ("space.readout.ridge.alpha = -1: must be a number above 0, or auto",),
    ),
    "infinite parameter": (put(READOUT, {"ridge": {"alpha": float("inf")}}), ("alpha = inf: must be a number",)),
    "parameter not a number": (put(READOUT, {"ridge": {"alpha": float("nan")}}), ("alpha = nan: must be a number",)),
    "high below low": (
        put(READOUT, {"ridge": {"alpha": {"low": 1, "high": 0.1, "steps": 3}}}),
        ("space.readout.ridge.alpha.low = 1: low must be below high (0.1)",),
    ),
    "range without high": (
        put(READOUT, {"ridge": {"alpha": {"low": 1, "steps": 3}}}),
        ("space.readout.ridge.alpha.high = None: must be a number above 0",),
    ),
    "logarithm of zero": (
        put(READOUT, {"gaussian": {"l1": {"low": 0, "high": 1, "log": True, "steps": 3}}}),
        ("space.readout.gaussian.l1.low = 0: a logarithmic range needs low above 0",),
    ),
    "one step": (
        put(READOUT, {"ridge": {"alpha": {**RANGE, "steps": 1}}}),
        ("space.readout.ridge.alpha.steps = 1: must be an integer from 2",),
    ),
    "logarithm of a text": (
        put(READOUT, {"ridge": {"alpha": {**RANGE, "log": "yes", "steps": 2}}}),
        ("space.readout.ridge.alpha.log = 'yes': must be true or false",),
    ),
    "range of words": (
        put(READOUT, {"gaussian": {"loss": {"low": 0, "high": 1}}}),
        ("space.readout.gaussian.loss", "takes no range, only poisson | gaussian"),
    ),
    "even kernel": (
        both(put("space.backbone", {"conv": {"kernel": 4}}), put(READOUT, "gaussian")),
        ("space.backbone.conv.kernel = 4: must be an odd integer from 1",),
    ),
    "range without steps": (
        put(READOUT, {"ridge": {"alpha": RANGE}}),
        ("space.readout.ridge.alpha.steps: a grid needs `steps` for every range",),
    ),
    # depths
    "unknown area": (
        put("space.depth", {"V4": [0], "V2": [1]}),
        ("space.depth.V2: no recording has this area; allowed: V1, V4",),
    ),
    "beyond the backbone": (
        put("space.depth", {"V1": [0, 16]}),
        ("space.depth.V1 = 16: beyond the backbone: efficientnet-lite0 has blocks 0 to 15",),
    ),
    "shared beyond the backbone": (put("space.depth", {"shared": [99]}), ("space.depth.shared = 99: beyond the",)),
    "beyond one of the backbones": (
        put("space.backbone", ["efficientnet-lite0", "pixels"]),
        ("space.depth.V1 = 2: beyond the backbone: pixels has blocks 0 to 0",),
    ),
    "beyond the layers": (
        both(
            put("space.backbone", {"conv": {"layers": [2, 4]}}),
            put(READOUT, "gaussian"),
            put("space.depth", {"V1": [3]}),
        ),
        ("space.depth.V1 = 3: beyond the backbone: conv has blocks 0 to 1",),
    ),
    "negative depth": (put("space.depth", {"V1": [-1]}), ("space.depth.V1 = [-1]: must be `all`, a block index",)),
    "no depths": (put("space.depth", {"V1": []}), ("space.depth.V1 = []: must be `all` or a list of block indices",)),
    "blocks together that are no blocks": (
        put("space.depth", {"V1": [[0, "deep"]]}),
        ("space.depth.V1 = [[0, 'deep']]: must be `all`, a block index", "read together"),
    ),
    "blocks together beyond the backbone": (
        put("space.depth", {"V1": [[0, 16]]}),
        ("space.depth.V1 = 16: beyond the backbone: efficientnet-lite0 has blocks 0 to 15",),
    ),
    "maps and more": (put("space.depth", {"maps": {"a": "last"}, "V1": 1}), ("space.depth", "`maps` stands alone")),
    "maps of a list": (put("space.depth", {"maps": ["last"]}), ("space.depth.maps = ['last']: must be {name:",)),
    "map of an unknown word": (
        put("space.depth", {"maps": {"a": "lost"}}),
        ("space.depth.maps.a = 'lost': unknown map; allowed: last, every, anatomical, random; did you mean 'last'?",),
    ),
    "map of an unknown area": (
        put("space.depth", {"maps": {"a": {"V2": 1}}}),
        ("space.depth.maps.a.V2: no recording has this area; allowed: V1, V4",),
    ),
    "map of all": (
        put("space.depth", {"maps": {"a": {"V1": "all", "V4": 1}}}),
        ("space.depth.maps.a", "a map has one depth for every area, not `all`"),
    ),
    "maps of other areas": (
        put("space.depth", {"maps": {"a": {"V1": 1}, "b": {"V4": 1}}}),
        ("space.depth.maps.b = ['V4']: every map must name the same areas; allowed: V1",),
    ),
    "map beyond the backbone": (
        put("space.depth", {"maps": {"a": {"V1": 1, "V4": 20}}}),
        ("space.depth.maps.a.V4 = 20: beyond the backbone: efficientnet-lite0 has blocks 0 to 15",),
    ),
    "anatomical map of other areas": (
        put("space.depth", {"maps": {"a": "anatomical"}}),
        ("space.depth.maps = ['V1', 'V4']: the anatomical map knows V1, LM, RL, AL of cores of 8, 9, 10 blocks",),
    ),
    "contrast of an unknown map": (
        put("contrasts", [{"name": "c", "area": "V1", "left": {"map": "a"}}]),
        ("contrasts.0.left.map = 'a': no such map; allowed: (none)",),
    ),
    "shared and more": (put("space.depth", {"shared": "all", "V1": [1]}), ("space.depth", "`shared` stands alone")),
    # unknown names
    "unknown backbone": (
        put("space.backbone", "eficientnet-lite0"),
        ("space.backbone = 'eficientnet-lite0': unknown backbone; allowed: ", "did you mean 'efficientnet-lite0'?"),
    ),
    "unknown readout": (put(READOUT, ["rigde"]), ("space.readout = 'rigde': unknown readout", "did you mean 'ridge'?")),
    "unknown format": (
        put("recordings.0.format", "foldr"),
        ("recordings.0.format = 'foldr': unknown format; allowed: folder", "did you mean 'folder'?"),
    ),
    "unknown score": (put("scores", ["predicton"]), ("scores = 'predicton': unknown score", "mean 'prediction'?")),
    "unknown method": (
        put("search.method", "gird"),
        ("search.method = 'gird': unknown method; allowed: grid, random, sobol, tpe, nsga2", "did you mean 'grid'?"),
    ),
    "unknown objective": (
        put("search.objectives", ["select.predicton"]),
        (
            "search.objectives = 'select.predicton': unknown objective; allowed: select.prediction",
            "did you mean 'select.prediction'?",
        ),
    ),
    "unknown probe": (put("probes", {"objetcs": "rendered"}), ("probes = 'objetcs'", "did you mean 'objects'?")),
    "probe that is not there": (put("probes", {"objects": "nowhere"}), ("nowhere/probe.yaml: no such file",)),
    "report objective": (
        put("search.objectives", ["score.prediction"]),
        ("search.objectives = 'score.prediction': report scores never drive a search",),
    ),
    "no objective": (put("search.objectives", []), ("search.objectives = []: must be a list with at least 1 entry",)),
    "random without trials": (put("search.method", "random"), ("search", "`trials` is needed with method random")),
    "tpe without trials": (put("search.method", "tpe"), ("search", "`trials` is needed with method tpe")),
    "grid with trials": (put("search.trials", 5), ("search", "`trials` has no meaning with method grid")),
    "two of one name": (recording_again, ("recordings.1 = 'small': two recordings of one name",)),
    "conv with ridge only": (
        put("space.backbone", "conv"),
        ("space.readout = ['ridge']: none of these fits the backbone conv; allowed: gaussian",),
    ),
    "behaviour that was not recorded": (
        both(put("space.backbone", [{"stacked2d": {"behaviour": [False, True]}}]), put("space.readout", "gaussian")),
        ("space.backbone.stacked2d.behaviour = True: needs behaviour: there is none in small",),
    ),
    "gaze that was not recorded": (
        both(put("space.backbone", [{"stacked2d": {"gaze": True}}]), put("space.readout", "gaussian")),
        ("space.backbone.stacked2d.gaze = True: needs pupil: there is none in small",),
    ),
    "coordinates that were not recorded": (
        put("space.readout", [{"gaussian": {"position": ["free", "coordinates"]}}]),
        ("space.readout.gaussian.position = 'coordinates': needs coordinates of the units: there are none in small",),
    ),
    "features without their set": (
        both(put("space.backbone", "features"), put("space.depth", {"shared": "all"})),
        ("space.backbone.features.set = None: must be a text",),
    ),
    "simulated beyond the teacher": (
        put("recordings", [{"format": "simulated", "areas": {"V1": {"depth": 16}}}]),
        ("depth = 16: beyond the teacher: efficientnet-lite0 has blocks 0 to 15",),
    ),
    "more cores than any node": (
        put("compute.cpus_per_pack", 4096),
        ("compute.cpus_per_pack = 4096", "no node can hold a pack", "CPU"),
    ),
}


@pytest.mark.parametrize("case", DATA_CASES)
def test_data_is_refused(
    case: str, written: Callable[[Change], Path], command: Callable[..., Outcome], place: Path
) -> None:
    change, pieces = DATA_CASES[case]
    file = written(change)
    before = tree(place)
    for name in ("check", "run"):
        assert_refused(command(name, str(file)), pieces)
        assert tree(place) == before


@pytest.mark.parametrize("case", FILE_CASES)
def test_an_experiment_is_refused(
    case: str, written: Callable[[Change], Path], command: Callable[..., Outcome], place: Path
) -> None:
    change, pieces = FILE_CASES[case]
    file = written(change)
    before = tree(place)
    for name in ("check", "run"):
        outcome = command(name, str(file))
        assert_refused(outcome, pieces)
        if case != "probe that is not there":
            assert outcome[1].startswith(f"error: {file}: ")
        assert tree(place) == before


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (b"", ("must be a mapping with name, recordings and space",)),
        (b"- a\n- b\n", ("must be a mapping with name, recordings and space",)),
        (b"name: [a\nspace: 1\n", ("is not YAML: line 2, column 6",)),
        (b"name: a\n\tspace: 1\n", ("is not YAML: line 2, column 1",)),
        (b"name: a\nname: b\n", ("is not YAML: line 1, column 1: duplicate key 'name'",)),
        (b"name: !!python/object/apply:os.system [ls]\n", ("is not YAML: line 1, column 7",)),
        (b"\x89PNG\x00\xff", ("cannot be read",)),
        (b"1: a\nname: b\n", ("1: unknown key; allowed: name",)),
    ],
)
def test_a_file_is_refused(
    content: bytes, pieces: tuple[str, ...], command: Callable[..., Outcome], place: Path
) -> None:
    (place / "odd.yaml").write_bytes(content)
    before = tree(place)
    assert_refused(command("check", "odd.yaml"), ("odd.yaml: ", *pieces))
    assert tree(place) == before


def test_an_unknown_file_or_shipped_name(command: Callable[..., Outcome], place: Path) -> None:
    pieces = ("quickstrat: no such file", "macaque-depth", "did you mean 'quickstart'?")
    assert_refused(command("check", "quickstrat"), pieces)
    assert_refused(command("run", "no/such.yaml"), ("no/such.yaml: no such file", "allowed: "))
    assert_refused(command("check", "."), ("no such file",))
    assert tree(place) == {}


def test_nothing_to_show(command: Callable[..., Outcome], place: Path) -> None:
    assert_refused(command("show", "nowhere"), ("nowhere",))
    assert tree(place) == {}


# -- storage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/no-such-process/rows", "sftp-typo://host/rows"])
def test_a_storage_place_that_cannot_be_written(
    storage: str, written: Callable[[Change], Path], command: Callable[..., Outcome], place: Path
) -> None:
    file = written(put("name", "small"))
    (place / "file").write_text("in the way")
    before = tree(place)
    for name in ("check", "run"):
        assert_refused(command(name, str(file), "--storage", storage), (storage,))
        assert tree(place) == before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.mark.parametrize(
    ("uri", "changes", "said"),
    [
        ("s3://bucket/rows", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "access denied: check the credentials"),
        ("s3://bucket/rows", {"AWS_ACCESS_KEY_ID": "stranger"}, "access denied: check the credentials"),
        ("s3://no-such-bucket/rows", {}, "no such bucket"),
        (
            "s3://bucket/rows",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"},
            "the object store does not answer",
        ),
    ],
    ids=["wrong secret", "unknown key", "no bucket", "no server"],
)
def test_an_object_store_that_refuses(
    uri: str, changes: dict[str, str], said: str, server: S3Server, written: Callable[[Change], Path], place: Path
) -> None:
    file = written(put("storage", uri))
    before = tree(place)
    outcome = outside(place, "check", str(file), environment=server.environment | changes)
    assert_refused(outcome, ("storage", uri, said))
    assert not any(secret in outcome[1] for secret in (server.secret_key, server.access_key))
    assert tree(place) == before
    assert server.client().list_objects_v2(Bucket=server.bucket).get("KeyCount") == 0


def test_a_recording_that_may_not_be_read(server: S3Server, written: Callable[[Change], Path], place: Path) -> None:
    file = written(put("recordings.0.path", f"{server.uri}/small"))
    wrong = server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    assert_refused(outside(place, "check", str(file), environment=wrong), (f"{server.uri}/small", "cannot be read"))
    missing = outside(place, "check", str(file), environment=server.environment)
    assert_refused(missing, (f"{server.uri}/small", "no such recording"))


def test_in_a_process_of_its_own(written: Callable[[Change], Path], place: Path) -> None:
    file = written(put("space.depth", {"V1": [16]}))
    before = tree(place)
    for name in ("check", "run"):
        outcome = outside(place, name, file.name)
        assert_refused(outcome, ("error: small.yaml: space.depth.V1 = 16: beyond the backbone",))
        assert tree(place) == before


# -- the cluster ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_at_the_address(address: str, written: Callable[[Change], Path], place: Path) -> None:
    file = written(put("name", "small"))
    before = tree(place)
    outcome = outside(place, "run", str(file), "--address", address, timeout=30)
    assert_refused(outcome, ("address", address))
    assert tree(place) == before


def test_devices_that_no_node_has(written: Callable[[Change], Path], command: Callable[..., Outcome]) -> None:
    file = written(put("compute.gpus_per_pack", 64))
    assert_refused(command("check", str(file)), ("compute.gpus_per_pack = 64", "no node can hold a pack"))
