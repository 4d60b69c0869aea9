"""Contract of every example in the registry: made-up data in the layout of a real data set, which its format reads."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from s3 import seaweedfs

from sweeps.commands.example_data import example_formats, write_data
from sweeps.errors import InputError
from sweeps.recordings import FORMATS, describe, open_recording
from sweeps.recordings.examples import EXAMPLES, load_example
from sweeps.recordings.recording import Recording

OPTIONAL = {"nsd": "nibabel"}
"""Packages that a format's example needs and that may be missing."""


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp("example") / name for name in EXAMPLES}


@pytest.fixture
def tree(name: str, trees: dict[str, Path]) -> Path:
    """The example of a format, written once."""
    if name in OPTIONAL and importlib.util.find_spec(OPTIONAL[name]) is None:
        pytest.skip(f"{OPTIONAL[name]} is not here")
    if not trees[name].exists():
        write_data(name, str(trees[name]))
    return trees[name]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty bucket of a server that the environment names."""
    s3fs = pytest.importorskip("s3fs")
    with seaweedfs(tmp_path_factory.mktemp("s3")) as server, server.reached():
        yield server.uri
        store = remote()
        s3fs.S3FileSystem.close_session(store.loop, store.s3)  # the server waits for open connections when it ends


def remote() -> Any:
    return fsspec.filesystem("s3", use_listings_cache=False)


def section(name: str, folder: Path | str, **settings: Any) -> dict[str, Any]:
    return {"format": name, "path": str(folder), **settings}


def opened(name: str, folder: Path) -> Recording:
    return opened_at(name, str(folder), folder.parent / "cache")


def opened_at(name: str, place: str, cache: Path) -> Recording:
    found = open_recording(section(name, place), "", cache)
    assert found is not None
    return found


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder, and of the folder that holds it."""
    paths = [folder.parent, folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_example_belongs_to_a_format() -> None:
    assert set(EXAMPLES) <= set(FORMATS)
    assert example_formats() == list(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_convention(name: str) -> None:
    example = load_example(name)()
    assert list(inspect.signature(example.write).parameters) == ["folder", "seed"]
    sizes = inspect.signature(load_example(name)).parameters.values()
    assert sizes
    assert all(size.default is not inspect.Parameter.empty for size in sizes)
    assert not any(size.kind is inspect.Parameter.VAR_KEYWORD for size in sizes)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_can_be_read_and_fitted(name: str, tree: Path) -> None:
    recording = opened(name, tree)
    [facts] = describe([section(name, tree)], "")
    assert facts == recording.facts()
    fit = recording.fit
    assert fit.responses.shape[:2] == (len(fit.table), len(recording.areas))
    assert fit.responses.dtype == np.float32
    assert facts.groups >= 4
    for rows in fit.clips:
        assert fit.table["frame"].iloc[rows].tolist() == list(range(len(rows)))
        assert fit.table["group"].iloc[rows].nunique() == 1
    if fit.images is not None:
        shown = fit.images(slice(0, 3))
        assert recording.geometry is not None
        assert (shown.shape, shown.dtype) == ((3, *recording.geometry.shape, 3), np.uint8)
    for beside in (fit.behaviour, fit.pupil):
        if beside is not None:
            assert (len(beside), beside.shape[2]) == (len(fit.table), fit.responses.shape[2])


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_ever_written_beside_the_data(name: str, tree: Path) -> None:
    folders = [tree, *(path for path in tree.rglob("*") if path.is_dir())]
    before = state(tree)
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in reversed(folders):
        folder.chmod(0o555)
    try:
        [facts] = describe([section(name, tree)], "")
        recording = opened(name, tree)
        if recording.fit.images is not None:
            recording.fit.images(slice(0, 40))
        assert facts.fingerprint == recording.fingerprint
        assert state(tree) == before
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


@pytest.mark.parametrize("name", EXAMPLES)
def test_equal_contents_elsewhere_are_the_same_recording(name: str, tree: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(tree, tmp_path / "elsewhere"))
    for path in elsewhere.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert opened(name, elsewhere).fingerprint == opened(name, tree).fingerprint


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_a_bucket_as_on_disk(name: str, tree: Path, bucket: str, tmp_path: Path) -> None:
    store, place = remote(), f"{bucket}/{name}"
    store.put(str(tree), place, recursive=True)
    before = store.find(place, detail=True)
    local, far = opened(name, tree), opened_at(name, place, tmp_path)
    assert describe([section(name, place)], "")[0].fingerprint == far.fingerprint == local.fingerprint
    assert np.array_equal(far.fit.responses, local.fit.responses, equal_nan=True)
    assert far.fit.table.equals(local.fit.table)
    assert all(np.array_equal(far.features[space], local.features[space]) for space in local.features)
    if local.fit.images is not None:
        assert far.fit.images is not None
        assert np.array_equal(far.fit.images(slice(5, 9)), local.fit.images(slice(5, 9)))
    after = store.find(place, detail=True)
    assert {key: (entry["size"], entry["ETag"]) for key, entry in after.items()} == {
        key: (entry["size"], entry["ETag"]) for key, entry in before.items()
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_missing_in_a_bucket_is_named(name: str, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        opened_at(name, f"{bucket}/nowhere", tmp_path)


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda content: None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(reversed(content)),
}


def kinds(folder: Path) -> list[Path]:
    """One file of every kind (folder and ending) of a tree."""
    found = {(path.parent, path.suffix): path for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()}
    return sorted(found.values())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_damaged_file_is_named_or_does_not_matter(name: str, damage: str, tree: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    problems = {}
    for path in kinds(copy):
        content = path.read_bytes()
        left = DAMAGES[damage](content)
        path.unlink()
        if left is not None:
            path.write_bytes(left)
        problems[path] = problem_of(name, copy, tmp_path / "cache")
        path.write_bytes(content)
    noticed = {path: problem for path, problem in problems.items() if problem}
    assert [str(copy) in problem for problem in noticed.values()] == [True] * len(noticed)
    assert any(path.name in problem or path.parent.name in problem for path, problem in noticed.items()), problems


def problem_of(name: str, folder: Path, cache: Path) -> str:
    """What opening a recording and showing all its pictures says, nothing where it works."""
    try:
        held = opened_at(name, str(folder), cache)
        if held.fit.images is not None:
            held.fit.images(slice(0, len(held.fit.table)))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_seed_decides_the_contents(name: str, tree: Path, tmp_path: Path) -> None:
    write_data(name, str(tmp_path / "again"))
    write_data(name, str(tmp_path / "other"), seed=1)
    first, again, other = (contents(folder) for folder in (tree, tmp_path / "again", tmp_path / "other"))
    assert again == first or opened(name, tmp_path / "again").fingerprint == opened(name, tree).fingerprint
    assert sum(other.get(file) != content for file, content in first.items()) > len(first) / 2


def test_the_message_is_what_an_experiment_needs(tmp_path: Path) -> None:
    import yaml

    message = write_data("sensorium-static", str(tmp_path / "mouse"))
    line = message[message.index("recordings:") :]
    [raw] = yaml.safe_load(line)["recordings"]
    assert open_recording(raw, "", tmp_path) is not None
    assert f"wrote {len(contents(tmp_path / 'mouse'))} files" in message


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for place in ("full", "full/mine.txt"):
        with pytest.raises(InputError, match="is not an empty folder; nothing was written"):
            write_data("experanto", str(tmp_path / place))
    assert contents(tmp_path) == {"full/mine.txt": b"mine"}
    (tmp_path / "empty").mkdir()
    write_data("experanto", str(tmp_path / "empty"))
    assert (tmp_path / "empty/screen/timestamps.npy").exists()


def test_unknown_formats_and_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no example of this format; allowed: .*did you mean 'experanto'"):
        write_data("experanta", str(tmp_path / "x"))
    with pytest.raises(InputError, match="must be a local folder"):
        write_data("experanto", "s3://bucket/x")
    assert list(tmp_path.iterdir()) == []
