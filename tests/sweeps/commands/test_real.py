"""Real recordings with known facts (see their README): what the field knows must come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from inline import plan_of, run_inline

from sweeps.experiment.schema import find_experiment, read_experiment
from sweeps.planning.plan import make_plan
from sweeps.report.answers.analysis import compare
from sweeps.storage.load import load


def test_language_reads_pfs_and_vision_reads_evc(shared_data: Path, tmp_path: Path) -> None:
    storage, cache = str(tmp_path / "results"), str(tmp_path / "cache")
    plan = make_plan("concepts", data=str(shared_data), storage=storage, cache=cache)
    run_inline(plan)
    cells, bootstraps = load(storage, "cells"), load(storage, "bootstraps")
    for contrast in plan.experiment.contrasts:
        found = compare(cells, bootstraps, contrast)
        assert found is not None
        assert found.low > 0, found
    known = {("EVC", "vision"): 0.54, ("PPA", "vision"): 0.63, ("PPA", "language"): 0.48, ("PFS", "language"): 0.52}
    means = cells.groupby(["area", "config.backbone.set"])["score.prediction"].mean()
    for key, value in known.items():
        assert abs(means[key] - value) < 0.15
    both = cells[["score.feature_transfer", "score.feature_transfer_direct", "score.feature_transfer_other"]]
    assert both.notna().all().all()
    assert (cells["score.feature_transfer"] > cells["score.feature_transfer_null"]).mean() > 0.9


def _cells(shared_data: Path, tmp_path: Path, recording: dict[str, Any], area: str, depths: list[int]) -> pd.DataFrame:
    experiment = {
        "name": "real",
        "recordings": [{"format": "folder", **recording}],
        "probes": {},
        "space": {
            "backbone": {"efficientnet-lite0": {"weights": ["imagenet", "random"]}},
            "depth": {area: depths},
            "readout": "ridge",
        },
        "scores": ["prediction"],
    }
    plan = plan_of(experiment, tmp_path, data=str(shared_data))
    run_inline(plan)
    cells = load(plan.storage, "cells")
    return cells.pivot_table(index="depth", columns="config.backbone.weights", values="score.prediction")


def test_v4_is_read_deeper_than_its_early_blocks_and_needs_training(shared_data: Path, tmp_path: Path) -> None:
    found = _cells(shared_data, tmp_path, {"path": "macaque-v4-210225"}, "V4", [2, 7])
    assert found.loc[7, "imagenet"] > 1.05 * found.loc[2, "imagenet"]
    assert found.loc[7, "imagenet"] > 0.51 - 0.03
    assert found.loc[2, "imagenet"] > 0.45 - 0.03
    assert found.loc[7, "imagenet"] > found.loc[7, "random"] + 0.1


def test_v1_is_read_from_early_blocks_with_whole_movies_held_out(shared_data: Path, tmp_path: Path) -> None:
    recording = {"path": "macaque-v1-ay3_u002", "image": {"size": 112, "crop": 0.5}}
    found = _cells(shared_data, tmp_path, recording, "V1", [2, 11])
    assert found.loc[2, "imagenet"] > found.loc[11, "imagenet"] + 0.1
    assert found.loc[2, "imagenet"] > 0.25


def test_every_shipped_experiment_reads(shared_data: Path) -> None:
    for name in ("quickstart", "macaque-depth", "concepts"):
        assert read_experiment(find_experiment(name)).name == name
