"""What a node keeps: computed once for all that ask, mended when damaged, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from sweeps.hashing import content_id
from sweeps.io.disk_cache import Kept
from sweeps.io.files import HALF_WRITTEN_SECONDS, locked


def counted(calls: list[int]) -> Callable[[], dict[str, np.ndarray]]:
    """A computation that notes its calls."""

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a/0": np.arange(3.0), "b": np.array([np.nan])}

    return compute


def test_another_process_reads_what_one_has_computed(tmp_path: Path) -> None:
    calls: list[int] = []
    first = Kept(tmp_path).get(["one", 1], counted(calls))
    second = Kept(tmp_path).get(["one", 1], counted(calls))
    np.testing.assert_equal(dict(second), dict(first))
    assert len(calls) == 1
    Kept(tmp_path).get(["one", 2], counted(calls))
    assert len(calls) == 2


def test_two_that_ask_at_the_same_time_compute_it_once(tmp_path: Path) -> None:
    """The second, which asks while the first computes, waits for it."""
    calls: list[int] = []
    found = []
    second = Thread(target=lambda: found.append(Kept(tmp_path).get("slow", counted(calls))))

    def compute() -> dict[str, np.ndarray]:
        second.start()
        second.join(0.3)
        assert second.is_alive()
        return counted(calls)()

    Kept(tmp_path).get("slow", compute)
    second.join()
    assert len(calls) == 1
    assert found[0]["a/0"].tolist() == [0, 1, 2]


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "kept" / f"{content_id('x')}.lock"
    code = (
        "import sys; from pathlib import Path; from sweeps.io.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with locked(path, wait=False) as free:
            assert not free
        owner.kill()
    calls: list[int] = []
    Kept(tmp_path).get("x", counted(calls))
    assert len(calls) == 1


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    calls: list[int] = []
    Kept(tmp_path).get("x", counted(calls))
    path = tmp_path / "kept" / f"{content_id('x')}.npz"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    for _ in range(2):
        assert Kept(tmp_path).get("x", counted(calls))["a/0"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    calls: list[int] = []
    for _ in range(2):
        assert Kept(tmp_path).get("x", counted(calls))["a/0"].tolist() == [0, 1, 2]
    assert len(calls) == 2


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=20_000)
    half = tmp_path / "kept" / ".half.npz.0"
    for number in range(6):
        kept.get(number, lambda: {"a": np.zeros(1000)})
        path = tmp_path / "kept" / f"{content_id(number)}.npz"
        os.utime(path, (number, number))
        half.write_bytes(b"begun")
        os.utime(half, (time.time() - 2 * HALF_WRITTEN_SECONDS,) * 2)
    held = {path.stem for path in (tmp_path / "kept").glob("*.npz")}
    assert held == {content_id(number) for number in (4, 5)}
    assert not (tmp_path / "kept" / f"{content_id(0)}.lock").exists()
    assert half.exists()
    kept.get(6, lambda: {"a": np.zeros(10)})
    assert not half.exists()


def test_an_error_is_raised_and_keeps_nothing(tmp_path: Path) -> None:
    def fails() -> dict[str, np.ndarray]:
        raise OSError("no room in the computation")

    with pytest.raises(OSError, match="no room in the computation"):
        Kept(tmp_path).get("x", fails)
    assert not list((tmp_path / "kept").glob("*.npz"))
