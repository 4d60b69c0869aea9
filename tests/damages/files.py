"""Damages of any file, whatever it holds."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from random import Random


def cut(path: Path, random: Random) -> None:
    content = path.read_bytes()
    rewrite(path, content[: random.randrange(len(content) or 1)])


def empty(path: Path, random: Random) -> None:
    rewrite(path, b"")


def flipped(path: Path, random: Random) -> None:
    rewrite(path, flips(path.read_bytes(), random))


def flips(content: bytes, random: Random) -> bytes:
    """Some bits changed, near the start as often as anywhere."""
    held = bytearray(content or b"\0")
    for _ in range(random.choice([1, 3, 30])):
        held[random.randrange(min(len(held), random.choice([200, len(held)])))] ^= 1 << random.randrange(8)
    return bytes(held)


def text(path: Path, random: Random) -> None:
    rewrite(
        path, random.choice([b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe\x00"])
    )


def another(path: Path, random: Random) -> None:
    others = sorted(each for each in path.parent.rglob("*") if each.is_file() and each != path)
    rewrite(path, random.choice(others).read_bytes() if others else b"")


def gone(path: Path, random: Random) -> None:
    path.unlink()


def renamed(path: Path, random: Random) -> None:
    path.rename(
        path.with_name(random.choice([re.sub(r"\d+", "9" * 40, path.name), f"{path.name}.part", "²" + path.name]))
    )


def a_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def folder_is_a_file(path: Path, random: Random) -> None:
    folder = path.parent
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def linked_to_itself(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path)


def linked_to_nothing(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


def special(path: Path, random: Random) -> None:
    """A named pipe, or a link to what is no file of anyone's data."""
    path.unlink()
    place = random.choice(["", "/dev/zero", "/dev/tty", "/proc/self/environ", "/sys/kernel/uevent_seqnum"])
    if place:
        path.symlink_to(place)
    else:
        os.mkfifo(path)


def folder_in_itself(path: Path, random: Random) -> None:
    (path.parent / "again").symlink_to(path.parent)


def rewrite(path: Path, content: bytes) -> None:
    """Other contents, in a file of their own: the old one may be shared."""
    path.unlink()
    path.write_bytes(content)
