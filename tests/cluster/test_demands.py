"""`make test-cluster` says what is missing, and starts nothing then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from demands import MODULES, PROGRAMS, missing

RUN = Path(__file__).with_name("run.py")


def test_every_missing_thing_is_named_with_its_package() -> None:
    lines = missing(user=1000, program=lambda name: None, module=lambda name: False)
    assert lines[0].startswith("root")
    for name, package in {**PROGRAMS, **MODULES}.items():
        assert [line for line in lines if line.startswith(f"{name}:") and package in line], name


def test_one_missing_thing_is_named_alone() -> None:
    (line,) = missing(user=0, program=lambda name: None if name == "rsync" else "/usr/bin/it", module=lambda name: True)
    assert line == "rsync: apt-get install rsync"


def test_the_command_refuses_at_once() -> None:
    code = f"import sys; sys.path.insert(0, {str(RUN.parent)!r}); import demands, run; " + (
        "run.missing = lambda: ['sshd: apt-get install openssh-server']; raise SystemExit(run.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cannot run here" in done.stderr
    assert "openssh-server" in done.stderr
