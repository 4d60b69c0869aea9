"""A cache that another user can write is refused, or shared without belief in what others put there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import InputError
from sweeps.io.disk_cache import DiskCache
from sweeps.io.files import locked
from sweeps.io.guards.private_folder import cache_folder, check_cache, is_believed, make_private

STRANGER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[0o022, 0o002, 0o000], ids=oct)
def umask(request: pytest.FixtureRequest) -> int:
    """Whatever the umask is, what a run keeps is private."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_new_folders_and_entries_are_private(tmp_path: Path, umask: int) -> None:
    place = cache_folder(str(tmp_path / "above" / "cache"))
    assert place == tmp_path / "above" / "cache"
    assert mode_of(place) == mode_of(place.parent) == 0o700
    cache = DiskCache(place / "fits", 1e6)
    assert cache.save("group/entry", {"x": np.arange(3)})
    with locked(place / "locks" / "a.lock"):
        pass
    made = [path for path in place.rglob("*") if path.suffix != ".lock"]
    assert len(made) == 4
    assert not [path for path in made if mode_of(path) & 0o022]
    entry = cache.load("group/entry")
    assert entry is not None
    assert entry.arrays["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
def test_a_cache_that_others_can_write_is_refused_in_one_line_or_shared(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "cache"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(InputError) as refused:
        cache_folder(str(place))
    line = str(refused.value)
    assert "\n" not in line
    assert f"mode {mode:04o}" in line
    assert "--shared-cache" in line
    assert ("chmod -R go-w" in line) == (mode != 0o1777)
    own = cache_folder(str(place), shared=True)
    assert own == place / f"user-{os.geteuid()}"
    assert mode_of(own) == 0o700
    assert cache_folder(str(own)) == own  # a worker is given what the driver was given, or what came of it


def test_a_private_cache_stays_where_it_is_when_it_may_be_shared(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert cache_folder(str(tmp_path / "cache"), shared=True) == tmp_path / "cache"
    assert cache_folder(str(tmp_path / "link")) == tmp_path / "link"


@needs_root
def test_what_another_user_has_made_is_refused_or_not_believed(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.mkdir()
    os.chown(place, STRANGER, STRANGER)
    with pytest.raises(InputError, match=f"owner {STRANGER}.*--shared-cache"):
        cache_folder(str(place))
    own = place / "user-0"
    own.mkdir()
    os.chown(own, STRANGER, STRANGER)
    with pytest.raises(InputError, match="not private"):
        cache_folder(str(place), shared=True)
    own.rmdir()
    (tmp_path / "elsewhere").mkdir()
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="not private"):
        cache_folder(str(place), shared=True)


def forged_by_owner(cache: DiskCache) -> None:
    os.chown(cache.folder / "entry.arrays", STRANGER, STRANGER)


def forged_by_folder(cache: DiskCache) -> None:
    os.chown(cache.folder, STRANGER, STRANGER)


def forged_by_link(cache: DiskCache) -> None:
    path = cache.folder / "entry.arrays"
    path.rename(cache.folder / "other.arrays")
    path.symlink_to(cache.folder / "other.arrays")


def forged_by_mode(cache: DiskCache) -> None:
    (cache.folder / "entry.arrays").chmod(0o666)


def forged_by_folders_mode(cache: DiskCache) -> None:
    cache.folder.chmod(0o777)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(forged_by_owner, marks=needs_root),
        pytest.param(forged_by_folder, marks=needs_root),
        forged_by_link,
        forged_by_mode,
        forged_by_folders_mode,
    ],
)
def test_an_entry_that_another_user_can_have_written_is_computed_anew(tmp_path: Path, forge: object) -> None:
    assert callable(forge)
    cache = DiskCache(tmp_path / "fits", 1e6)
    cache.save("entry", {"x": np.arange(3)})
    assert cache.load("entry") is not None
    assert cache.exists("entry")
    forge(cache)
    assert cache.load("entry") is None
    assert not cache.exists("entry")
    shutil.rmtree(cache.folder)
    cache.save("entry", {"x": np.arange(3)})
    assert cache.load("entry") is not None


def test_a_loose_entry_of_this_user_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "fits", 1e6)
    cache.save("entry", {"x": np.arange(3)})
    forged_by_mode(cache)
    cache.save("entry", {"x": np.arange(4)})
    entry = cache.load("entry")
    assert entry is not None
    assert len(entry.arrays["x"]) == 4


def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path / "a.lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_folders_and_files_alone_are_believed(tmp_path: Path) -> None:
    folder = make_private(tmp_path / "a" / "b")
    assert is_believed(folder)
    os.mkfifo(folder / "pipe")
    assert not is_believed(folder / "pipe")
    assert not is_believed(folder / "nothing")
    (folder / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_private(folder / "file")


@pytest.mark.parametrize("home", ["/proc/nobody", "/dev/null"])
def test_a_home_that_cannot_be_written_is_named_before_the_run(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    with pytest.raises(InputError, match=f"HOME = '{home}'.*--cache"):
        check_cache("~/.cache/cortex-sweeps", shared=False)


def test_a_given_cache_needs_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    check_cache(str(tmp_path / "cache"), shared=False)
    check_cache("/proc/nowhere", shared=False)  # one that cannot be written keeps nothing, which is no error
