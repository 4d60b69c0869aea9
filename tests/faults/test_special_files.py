"""Pipes, devices and files of the system in the place of a file: refused in one line, never waited for or read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from layouts import LAYOUTS
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.errors import InputError
from sweeps.experiment.schema import find_experiment
from sweeps.io.filesystem import open_filesystem, read_bytes
from sweeps.io.guards.regular_files import refuse_special
from sweeps.io.pointers import refuse_pointers_at
from sweeps.planning.plan import make_plan
from sweeps.probes import open_probe
from sweeps.recordings import describe, open_recording
from sweeps.storage.load import load

SECONDS = 20


class Hangs(BaseException):
    """Raised where a pipe is waited for; no reader turns it into anything else."""


@contextmanager
def in_time() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def environment(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/proc/self/environ")


KINDS = {"pipe": pipe, "device": zeros, "system": environment}


def each_kind_of_file(tree: Path) -> list[Path]:
    """One file of every folder and name, but for its numbers, as paths within the tree."""
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    return list({re.sub(r"\d+", "", str(path)): path.relative_to(tree) for path in files}.values())


def read(section: dict[str, object], cache: Path) -> None:
    describe([section], "")
    held = open_recording(section, "", cache)
    for stimuli in held.sets.values() if held else ():
        if stimuli.images is not None:
            stimuli.images(slice(0, None))


def refused(name: str, kind: str, tmp_path: Path) -> dict[str, str]:
    """What is said of a recording whose files are replaced in turn; files that nobody reads are left out."""
    layout, original = LAYOUTS[name], tmp_path / "original"
    layout.write(original)
    lines = {}
    for number, path in enumerate(each_kind_of_file(original)):
        tree = tmp_path / f"tree{number}"
        shutil.copytree(original, tree)
        KINDS[kind](tree / path)
        try:
            with in_time():
                read(layout.section(tree), tmp_path / "cache")
        except InputError as error:
            lines[str(path)] = str(error)
        shutil.rmtree(tree)
    return lines


def check(lines: dict[str, str]) -> None:
    assert lines
    for path, line in lines.items():
        assert "is not a regular file" in line, (path, line)
        assert path in line
        assert "\n" not in line


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_a_folder_are_regular(kind: str, tmp_path: Path) -> None:
    lines = refused("folder", kind, tmp_path)
    check(lines)
    assert set(lines) == {"images.zip", "responses.npy", "stimuli.csv", "units.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.packed and name != "folder"])
def test_files_of_every_format_are_regular(name: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    check(refused(name, kind, tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_zip_of_a_tree_is_regular(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "tree.zip")
    with in_time(), pytest.raises(InputError, match=r"tree\.zip: is not a regular file"):
        describe([LAYOUTS["sensorium-static-zip"].section(tmp_path / "tree")], "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiment_is_regular(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "sweep.yaml")
    with in_time():
        result = CliRunner().invoke(app, ["check", str(tmp_path / "sweep.yaml")])
    assert result.exit_code != 0
    with pytest.raises(InputError, match=r"sweep\.yaml: is not a regular file"):
        find_experiment(str(tmp_path / "sweep.yaml"))
    with pytest.raises(InputError, match="is not a regular file"):
        make_plan(str(tmp_path / "sweep.yaml"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["probe.yaml", "stimuli.csv"])
def test_files_of_a_probe_are_regular(kind: str, name: str, tmp_path: Path) -> None:
    for other in ("probe.yaml", "stimuli.csv"):
        (tmp_path / other).write_text("name: toy\n")
    KINDS[kind](tmp_path / name)
    with in_time(), pytest.raises(InputError, match=rf"{name}: is not a regular file"):
        open_probe("objects", str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_regular(kind: str, tmp_path: Path) -> None:
    from models.backbones.file_digest import of_weights

    KINDS[kind](tmp_path / "vgg16.safetensors")
    with in_time(), pytest.raises(InputError, match=r"vgg16\.safetensors: is not a regular file"):
        refuse_pointers_at(str(tmp_path / "vgg16.safetensors"), (".safetensors",))
    if kind != "system":  # a worker reads what the driver has checked
        with in_time(), pytest.raises(ValueError, match="cannot be read: is not a regular file"):
            of_weights({"weights": str(tmp_path / "vgg16.safetensors")})


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_regular(kind: str, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    KINDS[kind](tmp_path / "trials/trials.parquet")
    with in_time(), pytest.raises(InputError, match=r"trials\.parquet: is not a regular file"):
        load(str(tmp_path))


def test_links_and_shared_memory_are_followed(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"1")
    (tmp_path / "link").symlink_to("data")
    assert read_bytes(str(tmp_path / "link")) == b"1"
    place = Path("/dev/shm") / f"cortex-sweeps-test-{os.getpid()}"
    place.write_bytes(b"2")
    try:
        assert read_bytes(str(place)) == b"2"
    finally:
        place.unlink()


def test_sockets_and_folders_of_the_system_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(InputError, match="not a regular file but a socket"):
            refuse_special(str(tmp_path / "s"), "s")
    (tmp_path / "images").symlink_to("/proc/self")
    with pytest.raises(InputError, match="not a regular file but one of the system"):
        refuse_special(str(tmp_path / "images"), "images")


def test_a_sparse_file_has_no_room_in_memory(tmp_path: Path) -> None:
    with open(tmp_path / "responses.npy", "wb") as file:
        file.truncate(2**42)
    with in_time(), pytest.raises(InputError, match=r"responses\.npy: holds 4\.4e\+03 GB, .* GB are free"):
        read_bytes(str(tmp_path / "responses.npy"))
    filesystem, path = open_filesystem(str(tmp_path / "responses.npy"))
    assert filesystem.cat_file(path, start=0, end=4) == bytes(4)
