"""Commands beside run, check, show and score: example data, and pictures that drive an area."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from inline import plan_of, run_inline
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.recordings.examples import EXAMPLES
from sweeps.runner import _keep_experiment


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
    _keep_experiment(plan)
    printed = said("guide", plan.storage, "--cache", plan.cache)
    assert "V4 of small" in printed
    assert "guide" in printed
    rows = pd.read_parquet(Path(plan.storage) / "guidance")
    assert sorted(rows["role"]) == ["guide", "judge"]
    assert (Path(plan.storage) / rows["folder"].iloc[0] / "gallery.png").is_file()
