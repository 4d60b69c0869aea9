"""Output that is closed, full or no longer read: no traceback, and an exit code that says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import command, environment

from sweeps.commands.streams import ForgivingFile


def test_a_failing_file_takes_everything_and_keeps_its_first_failure(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        file = ForgivingFile(full.fileno(), "w", closefd=False)
        assert file.write(b"two rows") == 8
        assert file.failure is not None
        assert file.failure.strerror == "No space left on device"
        first = file.failure
        assert file.write(memoryview(b"more")) == 4
        assert file.failure is first


def sweeps(arguments: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run `sweeps ARGUMENTS` with its output as the shell text says."""
    line = " ".join([*command(), arguments, shell])
    return subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=120)


def test_a_reader_that_is_gone_ends_a_listing_without_a_word(tmp_path: Path) -> None:
    """`| head`, with a pipe whose reader is gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        command("data", "formats"), env=environment(), stdout=writing, stderr=-1, text=True, timeout=120
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_full_disk_is_one_line() -> None:
    ended = sweeps("data formats", "> /dev/full")
    assert (ended.returncode, ended.stderr) == (1, "error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("closed", [">&- 2>&- <&-", "> /dev/null 2> /dev/full"])
def test_closed_streams_are_nowhere(closed: str) -> None:
    ended = sweeps("data formats", closed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_file_does_not_take_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What native code prints would be written into it."""
    code = f"from sweeps.commands.streams import Streams; Streams(); f = open({str(tmp_path / 'f')!r}, 'w'); "
    line = f'{sys.executable} -c "{code} f.write(str(f.fileno()))" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", line], env=environment(), timeout=120, check=True)
    assert int((tmp_path / "f").read_text()) > 2


def test_bad_input_keeps_its_exit_code_where_nobody_reads() -> None:
    assert sweeps("show /nowhere/at/all", "> /dev/full 2>&-").returncode == 2


@pytest.mark.slow
def test_characters_that_a_terminal_lacks_do_not_end_a_command() -> None:
    ended = subprocess.run(
        command("check", "quickstart"),
        env=environment() | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
