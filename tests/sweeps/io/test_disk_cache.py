"""What a node's disk holds: computed once for all processes, mended when damaged, bounded."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from processes import ROOT, environment

from sweeps.hashing import content_id
from sweeps.io.disk_cache import CHECKSUM, HEAD, MARK, DiskCache
from sweeps.io.files import HALF_WRITTEN_SECONDS, locked

LIMIT = 1e9

COMPUTE_ONCE = """
import sys, time
from pathlib import Path
import numpy as np
from sweeps.io.disk_cache import DiskCache

def compute():
    with open(sys.argv[2], "a") as file:
        file.write("computed\\n")
    time.sleep(1.0)
    return {"a": np.arange(4)}

print(DiskCache(Path(sys.argv[1]), 1e9).get("slow", compute)["a"].sum())
"""


def counted(calls: list[int]) -> Callable[[], dict[str, np.ndarray]]:
    """A computation that notes its calls."""

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a/0": np.arange(3.0), "b": np.array([np.nan])}

    return compute


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_arrays_and_facts_come_back_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "plain": random.standard_normal((3, 5)),
        "transposed": random.standard_normal((4, 6)).T,
        "single": np.array(7, dtype=np.int32),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "flags": np.array([True, False, True]),
        "texts": np.array(["a", "bcd"]),
        "big endian": np.arange(3, dtype=">u2"),
        "half": np.array([np.nan, -0.0, np.inf], dtype=np.float16),
    }
    facts = {"alpha": 0.1 + 0.2, "shape": [3, 5], "name": "ü"}
    assert DiskCache(tmp_path, LIMIT).save("x", arrays, facts)
    entry = DiskCache(tmp_path, LIMIT).load("x")
    assert entry is not None
    assert entry.facts == facts
    assert list(entry.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(entry.arrays[name], array)
        assert entry.arrays[name].dtype == array.dtype
        assert entry.arrays[name].shape == array.shape
        assert entry.arrays[name].flags.aligned
        assert entry.arrays[name].flags.writeable


def test_reading_makes_no_copy(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT)
    cache.save("x", {"a": np.arange(100.0), "b": np.arange(5)})
    entry = cache.load("x")
    assert entry is not None
    assert np.shares_memory(entry.arrays["a"].base, entry.arrays["b"].base)  # one buffer: the file as it was read


def test_another_process_reads_what_one_has_computed(tmp_path: Path) -> None:
    calls: list[int] = []
    first = DiskCache(tmp_path, LIMIT).get(["one", 1], counted(calls))
    second = DiskCache(tmp_path, LIMIT).get(["one", 1], counted(calls))
    np.testing.assert_equal(dict(second), dict(first))
    assert len(calls) == 1
    DiskCache(tmp_path, LIMIT).get(["one", 2], counted(calls))
    assert len(calls) == 2


def test_two_threads_compute_the_same_once(tmp_path: Path) -> None:
    """The second, which starts while the first computes, waits for it."""
    calls: list[int] = []
    results = []
    second = Thread(target=lambda: results.append(DiskCache(tmp_path, LIMIT).get("slow", counted(calls))))

    def compute() -> dict[str, np.ndarray]:
        second.start()
        second.join(0.3)
        assert second.is_alive()
        return counted(calls)()

    DiskCache(tmp_path, LIMIT).get("slow", compute)
    second.join()
    assert len(calls) == 1
    assert results[0]["a/0"].tolist() == [0, 1, 2]


def test_two_processes_compute_the_same_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPUTE_ONCE, str(tmp_path / "cache"), str(tmp_path / "calls")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].split() for process in running] == [["6"], ["6"]]
    assert (tmp_path / "calls").read_text() == "computed\n"


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / f"{content_id('x')}.lock"
    code = (
        "import sys; from pathlib import Path; from sweeps.io.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"locked\n"
        with locked(path, wait=False) as free:
            assert not free
        with DiskCache(tmp_path, LIMIT).lock(content_id("x"), wait=False) as acquired:
            assert not acquired
        owner.kill()
    calls: list[int] = []
    DiskCache(tmp_path, LIMIT).get("x", counted(calls))
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "shorter", "longer", "foreign"])
def test_a_damaged_file_is_removed_and_computed_again(tmp_path: Path, damage: str) -> None:
    calls: list[int] = []
    cache = DiskCache(tmp_path, LIMIT)
    cache.get("x", counted(calls))
    [path] = tmp_path.glob("*.arrays")
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[: len(content) // 2],
            "shorter": content[:-1],
            "longer": content + b"\0",
            "foreign": b"PK\x03\x04 not ours, and it goes on as prose" * 9,
        }[damage]
    )
    assert cache.load(content_id("x")) is None
    assert not path.exists()
    for _ in range(2):
        assert DiskCache(tmp_path, LIMIT).get("x", counted(calls))["a/0"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT)
    cache.save("x", {"a": np.arange(3), "b": np.zeros((2, 2))}, {"seed": 1})
    [path] = tmp_path.glob("*.arrays")
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert cache.load("x") is None, place
        assert not path.exists()
    path.write_bytes(content)
    assert cache.load("x") is not None


def test_pickles_are_neither_read_nor_written(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT)
    path = tmp_path / "x.arrays"
    header = json.dumps({"arrays": [["a", "|O", [1]]], "facts": {}}).encode()
    for body in (pickle.dumps({"a": 1}), header + bytes(8)):  # a pickle, and an array of objects
        head = HEAD.pack(MARK, len(header))
        path.write_bytes(head + CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body)
        assert cache.load("x") is None
        assert not path.exists()
    with pytest.raises((TypeError, ValueError)):
        cache.save("x", {"a": np.array([{}], dtype=object)})
    assert not path.exists()


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    calls: list[int] = []
    for _ in range(2):
        arrays = DiskCache(tmp_path / "cache", LIMIT).get("x", counted(calls))
        assert arrays["a/0"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_a_full_disk_keeps_nothing_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def __init__(self, path: Path, mode: str, **_: Any) -> None:
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def writelines(self, parts: list[bytes]) -> None:
            self.file.write(parts[0])
            raise OSError(errno.ENOSPC, "No space left on device")

    cache = DiskCache(tmp_path, LIMIT)
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.io.files.open", Full, raising=False)
        assert not cache.save("x", {"a": np.arange(3)})
        assert not cache.save("y", {"a": np.arange(3)})
    assert cache.load("x") is None
    assert list(tmp_path.iterdir()) == []
    assert [record.getMessage().count("No space left on device") for record in caplog.records] == [1], "told once"
    assert cache.save("x", {"a": np.arange(3)})


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = DiskCache(tmp_path, 0)
    for _ in range(2):
        assert cache.get("x", counted(calls))["a/0"].tolist() == [0, 1, 2]
    assert len(calls) == 2
    assert not cache.save("y", {"a": np.arange(3)})
    assert not list(tmp_path.rglob("*.arrays"))


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=20_000)
    half = tmp_path / ".half.arrays.0"
    for number in range(6):
        cache.get(number, lambda: {"a": np.zeros(1000)})
        path = tmp_path / f"{content_id(number)}.arrays"
        os.utime(path, (number, number))
        half.write_bytes(b"begun")
        os.utime(half, (time.time() - 2 * HALF_WRITTEN_SECONDS,) * 2)
    names = {path.stem for path in tmp_path.glob("*.arrays")}
    assert names == {content_id(number) for number in (4, 5)}
    assert not (tmp_path / f"{content_id(0)}.lock").exists()
    assert half.exists()
    cache.prune()
    assert not half.exists()


def test_reading_counts_as_use(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT)
    for name in ("a", "b", "group/c"):
        cache.save(name, {"a": np.zeros(1000)})
    for age, path in enumerate((tmp_path / "a.arrays", tmp_path / "b.arrays", tmp_path / "group")):
        os.utime(path, (age, age))
    assert cache.load("a") is not None
    assert cache.load("group/c") is not None
    cache.limit = 18_000
    cache.prune()
    assert [cache.exists(name) for name in ("a", "b", "group/c")] == [True, False, True]


def test_files_of_a_group_go_together_and_what_is_in_use_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT, spare_seconds=600)
    for group in ("old", "older", "fresh"):
        for name in ("0", "1"):
            cache.save(f"{group}/{name}", {"a": np.zeros(1000)})
    for group, age in (("old", 5000), ("older", 9000)):
        os.utime(tmp_path / group, (time.time() - age,) * 2)
    cache.limit = 2.5 * bytes_in(tmp_path / "old")
    cache.prune()
    assert {path.name for path in tmp_path.iterdir()} == {"old", "fresh"}
    assert cache.exists("old/0")
    assert cache.exists("old/1")
    cache.limit = 1
    cache.prune()
    assert {path.name for path in tmp_path.iterdir()} == {"fresh"}


def test_the_newest_entry_stays_where_it_fits_alone(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, LIMIT)
    cache.save("a", {"a": np.zeros(1000)})
    os.utime(tmp_path / "a.arrays", (1, 1))
    tight = DiskCache(tmp_path, 1.01 * bytes_in(tmp_path))
    assert tight.save("b", {"a": np.zeros(1000)})
    assert [tight.exists(name) for name in ("a", "b")] == [False, True]


def test_the_total_is_what_lies_on_disk_and_stays_below_the_limit(tmp_path: Path) -> None:
    DiskCache(tmp_path, LIMIT).save("of another process", {"a": np.zeros(500)})
    random = np.random.default_rng(0)
    cache = DiskCache(tmp_path, limit=60_000)
    for number in range(80):
        cache.save(f"{number // 3}/{number}" if number % 2 else str(number), {"a": np.zeros(random.integers(1, 900))})
        assert cache.total == bytes_in(tmp_path)
        assert cache.total <= cache.limit
    assert cache.total > 0.7 * cache.limit


def test_what_other_processes_write_is_measured_in_time(tmp_path: Path) -> None:
    caches = [DiskCache(tmp_path, limit=100_000) for _ in range(2)]
    for number in range(100):
        caches[number % 2].save(str(number), {"a": np.zeros(250)})
    assert 0.8 * 100_000 < bytes_in(tmp_path) <= 1.1 * 100_000


def test_files_of_older_layouts_make_room(tmp_path: Path) -> None:
    for path in (tmp_path / "old.npz", tmp_path / "layout-2" / "ab" / "abcd.fit"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10_000)
    for path in (tmp_path / "old.npz", tmp_path / "layout-2"):
        os.utime(path, (1, 1))
    cache = DiskCache(tmp_path, 9_000)
    cache.save("x", {"a": np.zeros(100)})
    assert [path.name for path in tmp_path.iterdir()] == ["x.arrays"]
    assert cache.total == bytes_in(tmp_path)


def test_an_error_is_raised_and_keeps_nothing(tmp_path: Path) -> None:
    def fails() -> dict[str, np.ndarray]:
        raise OSError("no room in the computation")

    with pytest.raises(OSError, match="no room in the computation"):
        DiskCache(tmp_path, LIMIT).get("x", fails)
    assert not list(tmp_path.glob("*.arrays"))
