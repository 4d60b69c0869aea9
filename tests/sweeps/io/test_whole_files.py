"""Files that are there as a whole or not at all: replaced, made once, locked."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sweeps.io.files import NO_LINKS, create_whole, fresh_name, locked, replacing


def test_a_fresh_name_is_hidden_beside_the_file_and_never_the_same() -> None:
    path = Path("/a/b/x.parquet")
    names = {fresh_name(path) for _ in range(5)}
    assert len(names) == 5
    assert all(name.parent == path.parent and name.name.startswith(".x.parquet.") for name in names)


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_when_all_is_written(durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with replacing(path, durable) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert len(synced) == durable
    with pytest.raises(TypeError), replacing(path, durable) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def refused_links(code: int) -> Any:
    def link(source: Any, target: Any) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.mark.parametrize("code", [None, *sorted(NO_LINKS)])
def test_of_two_that_make_a_file_one_is_told(code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if code is not None:
        monkeypatch.setattr(os, "link", refused_links(code))
    path = tmp_path / "x"
    create_whole(path, b"first")
    with pytest.raises(FileExistsError):
        create_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_another_error_of_a_link_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refused_links(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        create_whole(tmp_path / "x", b"first")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_held_by_one_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.lock"
    with locked(path) as first:
        assert first
        with locked(path, wait=False) as second:
            assert second is False
        with locked(path, wait=False) as third:  # one that was refused has not opened it
            assert third is False
    with locked(path, wait=False) as again:
        assert again
