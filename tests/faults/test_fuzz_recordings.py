"""Recordings whose files are damaged: an InputError that names them or numbers that hold, never anything else."""

from __future__ import annotations

import faulthandler
import io
import os
import re
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from damages import ANY, BY_ENDING
from damages.arrays import npy, virtual
from damages.contents import entry_field
from damages.files import rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS

from sweeps.errors import InputError
from sweeps.recordings import FORMATS, describe, open_recording
from sweeps.recordings.examples import EXAMPLES
from sweeps.recordings.readers.nwb.nwb_1 import TRACES
from sweeps.recordings.recording import Recording, StimulusSet

SECONDS = 10
"""A case that takes longer hangs."""

MEGABYTES = 700
"""A case that takes more memory believes a size that a file only claims."""


def test_every_format_on_disk_is_here() -> None:
    assert {layout.format for layout in LAYOUTS.values()} == {"folder", *EXAMPLES}
    assert set(FORMATS) - {"folder", *EXAMPLES} == {"simulated", "simulated-video"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tree of every layout."""
    pytest.importorskip("nibabel")
    home = tmp_path_factory.mktemp("original")
    for name, layout in LAYOUTS.items():
        layout.write(home / name)
    return {name: home / name for name in LAYOUTS}


# -- one case ---------------------------------------------------------------------------------------


class Hangs(BaseException):
    """Raised where a case takes too long; no reader turns it into anything else."""


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Fail where the block takes too long or too much memory."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"{what} takes more than {SECONDS} s")

    before, peak = signal.signal(signal.SIGALRM, ring), peak_megabytes()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(6 * SECONDS, exit=True)  # a library that hangs lets no handler run
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert peak_megabytes() - peak < MEGABYTES, what


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Opened:
    """The files that Python opens while it is on; an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.on, self.names = False, list[str]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open" and isinstance(arguments[0], str):
            self.names.append(arguments[0])

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        self.on, self.names = True, []
        try:
            yield self.names
        finally:
            self.on = False


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}


def read(section: dict[str, Any], cache: Path) -> Recording:
    """A recording as a check and then a worker read it, with all its pictures."""
    [facts] = describe([section], "")
    held = open_recording(section, "", cache)
    assert held is not None
    assert facts.fingerprint == held.fingerprint
    for stimuli in held.sets.values():
        if stimuli.images is not None:
            shown = stimuli.images(slice(0, None))
            assert held.geometry is not None
            assert (shown.dtype, shown.shape) == (np.uint8, (len(stimuli.table), *held.geometry.shape, 3))
    return held


def check(section: dict[str, Any], home: Path, opened: Opened) -> str:
    """What is said of a recording, nothing where it can be read: then its numbers hold."""
    tree, line, before = section["path"], "", state(home)
    with opened.listening() as names:
        try:
            with limited(tree):
                check_numbers(read(section, home / "cache"))
        except InputError as error:
            line = str(error)
    assert state(home) == before
    assert [name for name in names if name.startswith(f"{home}/") and not name.startswith(tree)] == []
    if line:
        assert tree in line
        assert "\n" not in line
        assert "Traceback" not in line
        assert len(line) < 2000
    return line


def check_numbers(held: Recording) -> None:
    """Nothing is infinite; what may not be missing is there."""
    for stimuli in held.sets.values():
        check_stimuli(stimuli, len(held.areas))
    assert all(np.isfinite(values).all() for values in held.features.values())
    assert held.coordinates is None or np.isfinite(held.coordinates).all()
    assert held.frame_rate is None or 0 < held.frame_rate < np.inf
    assert held.words is None or np.isfinite(held.words["time"]).all()


def check_stimuli(held: StimulusSet, units: int) -> None:
    assert held.responses.dtype == np.float32
    assert held.responses.shape[:2] == (len(held.table), units)
    assert len(held.table)
    assert units
    for values in (held.responses, held.behaviour, held.pupil):
        assert values is None or not np.isinf(values).any()
    for values in (held.behaviour, held.pupil):
        assert values is None or (len(values), values.shape[2]) == (len(held.table), held.responses.shape[2])


def damaged(name: str, original: Path, home: Path, number: int) -> tuple[Path, str]:
    """A copy of a tree with some damage, and what was done to it."""
    random, tree = Random(number), home / "tree"
    shutil.copytree(original, tree, copy_function=os.link)
    kinds: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(each for each in tree.rglob("*") if each.is_file()):
        kinds.setdefault((path.parent, path.suffix), []).append(path)
    path = random.choice(random.choice(list(kinds.values())))
    special = BY_ENDING.get(path.suffix, ())
    damage = random.choice(special if special and random.random() < 0.7 else ANY)
    damage(path, random)
    done = f"{name}, {number}: {damage.__name__} {path.relative_to(tree)}"
    return (packed(tree, random), done) if LAYOUTS[name].packed else (tree, done)


def packed(tree: Path, random: Random) -> Path:
    """The tree as a zip in its place, without links, which are copies there; sometimes that is damaged too."""
    if not tree.is_dir():
        return tree
    for link in [path for path in tree.rglob("*") if path.is_symlink()]:
        link.unlink()
    place = Path(shutil.make_archive(str(tree), "zip", tree))
    shutil.rmtree(tree)
    if random.random() < 0.3:
        random.choice([*BY_ENDING[".zip"], *ANY[:5]])(place, random)
    return place


@contextmanager
def case(name: str, original: Path, tmp_path: Path, number: int) -> Iterator[tuple[dict[str, Any], Path, str]]:
    home = tmp_path / "home"
    home.mkdir()
    try:
        place, done = damaged(name, original, home, number)
        outside(home)
        yield LAYOUTS[name].section(place), home, done
    finally:
        shutil.rmtree(home)


def outside(home: Path) -> None:
    """Files that lie beside a recording, and belong to no one."""
    np.save(home / "outside.npy", np.arange(4.0))
    with h5py.File(home / "outside.hdf5", "w") as file:
        file["data"] = np.arange(4.0)


def fuzz(examples: int) -> settings:
    return settings(deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_case(name: str, original: Path, tmp_path: Path, number: int, opened: Opened) -> str:
    with case(name, original, tmp_path, number) as (section, home, done):
        try:
            return check(section, home, opened)
        except (Exception, Hangs) as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("name", LAYOUTS)
@fuzz(30)
@given(number=st.integers(0, 2**32 - 1))
def test_a_damaged_recording_is_refused_in_one_line_or_read(
    name: str, originals: dict[str, Path], tmp_path: Path, number: int, opened: Opened
) -> None:
    check_case(name, originals[name], tmp_path, number, opened)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
@fuzz(400)
@given(number=st.integers(0, 2**32 - 1))
def test_hundreds_of_damaged_recordings(
    name: str, originals: dict[str, Path], tmp_path: Path, number: int, opened: Opened
) -> None:
    check_case(name, originals[name], tmp_path, number, opened)


# -- what is no damage, and what is worst -----------------------------------------------------------


def stored_otherwise(tree: Path, how: str) -> None:
    """Store the same numbers column by column, or with the highest byte first (HDF5: packed in chunks)."""
    for path in tree.rglob("*.npy"):
        held = np.load(path)
        swapped = held.astype(held.dtype.newbyteorder(">"))
        rewrite(path, npy(np.asfortranarray(held) if how == "columns" else swapped))
    for path in (each for ending in ("hdf5", "hf5", "hdf", "nwb") for each in tree.rglob(f"*.{ending}")):
        repack(path, how)


def repack(path: Path, how: str) -> None:
    with h5py.File(io.BytesIO(path.read_bytes())) as old, h5py.File(path, "w") as new:
        new.attrs.update(old.attrs)

        def copy(name: str, held: Any) -> None:
            if not isinstance(held, h5py.Dataset):
                return
            if held.dtype.kind == "O" or how == "columns":
                new.create_dataset(name, data=held[()], compression="gzip" if held.ndim else None)
            else:
                new[name] = held[()].astype(held.dtype.newbyteorder(">"))

        old.visititems(copy)


@pytest.mark.parametrize("how", ["columns", "highest byte first"])
@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.packed])
def test_numbers_that_are_stored_otherwise_are_the_same_or_refused(
    name: str, how: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    layout, tree = LAYOUTS[name], tmp_path / "tree"
    shutil.copytree(originals[name], tree)
    stored_otherwise(tree, how)
    expected = read(layout.section(originals[name]), tmp_path)
    if layout.format == "experanto" and how == "columns":
        with pytest.raises(InputError, match=r"row order, not .*stored column by column"):
            read(layout.section(tree), tmp_path)
        return
    found = read(layout.section(tree), tmp_path)
    assert found.fit.responses.dtype.isnative
    assert np.array_equal(found.fit.responses, expected.fit.responses, equal_nan=True)
    assert found.fit.table.equals(expected.fit.table)
    assert found.areas.tolist() == expected.areas.tolist()


@pytest.mark.parametrize("layout", ["lebel", "shortclips", "allen-nwb", "nsd"])
@pytest.mark.parametrize("place", ["external", "virtual"])
def test_hdf5_that_names_another_file_is_not_read(
    layout: str, place: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(originals[layout], tree)
    (tmp_path / "outside").write_bytes(bytes(10**6))
    path = sorted(each for ending in ("hdf5", "hf5", "hdf", "nwb") for each in tree.rglob(f"*.{ending}"))[-1]
    with h5py.File(path, "r+") as file:
        for name in {"imgBrick", "data", "Y_train", f"{TRACES}/data"} & set(listed(file)):
            held = file.pop(name)[()]
            if place == "virtual":
                file.create_virtual_dataset(name, virtual(held))
            else:
                file.create_dataset(name, held.shape, held.dtype, external=[(tmp_path / "outside", 0, held.nbytes)])
    with pytest.raises(InputError, match="lies in another file, which is not read"):
        read(LAYOUTS[layout].section(tree), tmp_path)


def listed(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


@pytest.mark.parametrize("name", ["sensorium-static-zip", "lebel-zip"])
def test_a_zip_that_would_fill_the_memory_is_refused(name: str, originals: dict[str, Path], tmp_path: Path) -> None:
    place = Path(shutil.make_archive(str(tmp_path / "tree"), "zip", originals[name]))
    place.write_bytes(entry_field(place.read_bytes(), 24, "<I", 2**31))
    with pytest.raises(InputError, match=r"says that its \d+ bytes hold 2147483648: if so, compress it less"):
        read(LAYOUTS[name].section(place), tmp_path)


def test_a_zip_that_says_more_of_a_file_than_it_holds_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    """Else what memory held before would be read as responses."""
    tree = tmp_path / "tree"
    shutil.copytree(originals["experanto"], tree)
    meta = tree / "responses/meta.yml"
    samples, size = yaml.safe_load(meta.read_text())["n_timestamps"], (tree / "responses/data.mem").stat().st_size
    meta.write_text(meta.read_text().replace(f"n_timestamps: {samples}", f"n_timestamps: {2 * samples}"))
    place = Path(shutil.make_archive(str(tree), "zip", tree))
    content = bytearray(place.read_bytes())
    [entry] = [each.start() for each in re.finditer(rb"PK\x01\x02.{42}responses/data\.mem", content, re.DOTALL)]
    struct.pack_into("<I", content, entry + 24, 2 * size)
    place.write_bytes(content)
    with pytest.raises(InputError, match=r"responses/data\.mem.*ends early"):
        read(LAYOUTS["experanto"].section(place), tmp_path)


@pytest.mark.parametrize(
    ("layout", "file"), [("folder-unpacked", "images/0002.png"), ("sensorium-static", "data/images/2.npy")]
)
def test_of_many_files_the_missing_one_is_named(
    layout: str, file: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    """A link to what was not fetched, as in DataLad's data."""
    tree = tmp_path / "tree"
    shutil.copytree(originals[layout], tree)
    [path] = tree.rglob(file)
    path.unlink()
    path.symlink_to(tmp_path / "annex" / "not-fetched")
    with pytest.raises(InputError, match=f"{file}: is a link that leads nowhere"):
        read(LAYOUTS[layout].section(tree), tmp_path)
