"""Where and with what a row was made: texts of errors and plug-ins, versions, the commit of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sweeps.storage import provenance
from sweeps.storage.provenance import commit, describe_error, joined_errors, joined_plugins, versions


def test_errors_and_plug_ins_are_joined_without_those_that_are_missing() -> None:
    assert joined_errors(None, "a", "", "b") == "a; b"
    assert joined_errors(None, "") is joined_errors() is None
    assert joined_plugins("b@2 a@1", None, "a@1 c@3") == "a@1 b@2 c@3"
    assert joined_plugins(None, "") is None


def test_an_error_is_described_in_one_line_with_its_last_place() -> None:
    def fails() -> None:
        raise ValueError("no\n  such   thing")

    with pytest.raises(ValueError, match="no") as caught:
        fails()
    line = caught.traceback[-1].lineno + 1
    assert describe_error(caught.value) == f"ValueError: no such thing (at {Path(__file__).name}:{line})"
    assert describe_error(KeyError("k")) == "KeyError: 'k'"


def test_a_row_says_device_memory_versions_and_time() -> None:
    row = provenance.provenance("c", "cpu")
    assert (row["commit"], row["device"], row["versions"]) == ("c", "cpu", versions())
    assert 10 < row["peak_memory_mb"] < 10**6
    assert row["finished"].utcoffset().total_seconds() == 0
    names = [text.split("=")[0] for text in versions().split()]
    assert names == ["python", "cortex-sweeps", "torch", "numpy", "scipy", "ray", "optuna"]


def test_the_commit_is_that_of_the_checkout_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "home", lambda: tmp_path)
    commit.cache_clear()
    assert commit() == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@e"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit.cache_clear()
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head != ""
    commit.cache_clear()
