"""Commands beside run, check, show and score: example data, pictures that drive an area, benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inline import plan_of, run_inline
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.commands.benchmarks import list_benchmarks
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.io.import_guard import home
from sweeps.recordings.examples import EXAMPLES


def said(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    found = CliRunner().invoke(app, list(arguments))
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


def test_example_data_are_listed_and_written(tmp_path: Path) -> None:
    assert said("data", "formats").split() == list(EXAMPLES)
    line = said("data", "write", str(tmp_path / "mouse"), "--format", "sensorium-dynamic")
    assert f"path: {tmp_path / 'mouse'}" in line.replace("\n", "")
    assert list((tmp_path / "mouse").rglob("*.npy"))


def test_areas_are_driven_after_a_sweep(experiment: dict[str, Any], tmp_path: Path) -> None:
    guidance = {"areas": ["V4"], "seeds": 2, "steps": 4, "twins": "best:2"}
    plan = plan_of(experiment | {"guidance": guidance}, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    printed = said("guide", plan.storage, "--cache", plan.cache)
    assert "V4 of small" in printed
    assert "guide" in printed
    rows = pd.read_parquet(Path(plan.storage) / "guidance")
    assert sorted(rows["role"]) == ["guide", "judge"]
    assert (Path(plan.storage) / rows["folder"].iloc[0] / "gallery.png").is_file()


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`sweeps bench` in a process of its own: what a benchmark prints goes past this one."""
    command = [sys.executable, "-m", "sweeps", "bench", *arguments]
    return subprocess.run(command, cwd=home(), capture_output=True, text=True, check=False)


def test_benchmarks_are_listed_with_their_purpose() -> None:
    lines = dict(line.split(": ", 1) for line in said("bench").splitlines())
    assert {"driver", "scaling", "two_nn"} <= set(lines)
    assert "machine" not in lines  # a helper
    assert all(len(purpose) > 20 and purpose.endswith((".", "?", ",")) for purpose in lines.values())


def test_a_benchmark_runs_with_its_arguments_and_its_exit_code_is_passed_on() -> None:
    found = bench("two_nn", "--stimuli", "200")
    assert (found.returncode, found.stderr) == (0, "")
    assert "200" in found.stdout
    assert bench("two_nn", "--no-such-option").returncode == 2
    assert "usage: driver.py" in bench("driver", "--help").stdout


def test_an_unknown_benchmark_names_those_that_there_are() -> None:
    found = bench("drivr")
    assert found.returncode == 2
    assert "two_nn" in found.stderr
    assert "did you mean 'driver'" in found.stderr


def test_an_installation_without_the_repository_says_where_benchmarks_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belong to the cortex-sweeps repository"):
        list_benchmarks(tmp_path)
