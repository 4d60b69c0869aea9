"""Twins of clips, from the experiment to their rows: depth maps, behaviour, refit, latent factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import plan_of, run_inline, trials_of

from sweeps.storage.load import load

AREAS = {"V1": {"depth": 0, "units": 10}, "LM": {"depth": 1, "units": 10}}
SMALL = {"format": "simulated-video", "areas": AREAS, "clips": 40, "frames": 20, "size": 12, "width": 16, "rate": 6.0}
CORE = {
    "channels": "8-8",
    "spatial_first": 5,
    "spatial_then": 5,
    "temporal_first": 5,
    "temporal_then": 3,
    "epochs": 12,
    "frames": 20,
    "batch": 2,
    "warmup": 0,
    "decays": 0,
    "learning_rate": 0.01,
}
GAUSSIAN = {"gaussian": {"l1": 0.003}}


def run(
    place: Path,
    recording: dict[str, Any] | None = None,
    core: dict[str, Any] | None = None,
    readout: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and cells of a space of one small core on a small recording."""
    space = {
        "backbone": {"factorised3d": CORE | (core or {})},
        "depth": {"maps": {"own": {"V1": 0, "LM": 1}}},
        "readout": readout or GAUSSIAN,
        "seed": 0,
    }
    experiment = {
        "name": "video",
        "recordings": [SMALL | (recording or {})],
        "probes": {},
        "scores": ["prediction"],
        "space": space | more.pop("space", {}),
        **more,
    }
    plan = plan_of(experiment, place)
    run_inline(plan)
    trials, cells = trials_of(plan), load(plan.storage, "cells")
    assert set(cells["status"]) == {"done"}, cells["error"].dropna().tolist()
    assert cells["error"].isna().all(), cells["error"].dropna().tolist()
    return trials, cells


def test_a_twin_of_clips_predicts_them_and_a_shuffled_recording_is_not_predicted(tmp_path: Path) -> None:
    _, planted = run(
        tmp_path / "planted", probes={"objects": {"rendered": {"rotations": 4}}}, scores=["prediction", "invariance"]
    )
    assert planted["score.invariance"].notna().all()  # pictures that are held still
    assert (planted["score.prediction"] > 0.3).all(), planted["score.prediction"].tolist()
    _, null = run(tmp_path / "null", {"shuffled": True})
    assert (null["score.prediction"].abs() < 0.15).all(), null["score.prediction"].tolist()


def test_behaviour_gaze_refit_and_areas_balanced(tmp_path: Path) -> None:
    trials, cells = run(
        tmp_path,
        core={"behaviour": True, "gaze": True, "padding": "none", "epochs": 2},
        readout={"gaussian": {"refit": [False, True], "covariance": "full", "balance": "areas"}},
        recording={"latents": 1},
    )
    assert len(trials) == 2
    by = cells.pivot_table(
        index="area", columns="config.readout.refit", values=["select.prediction", "score.prediction"]
    )
    assert np.allclose(by["select.prediction"][False], by["select.prediction"][True])  # the refit is for the report
    assert (by["score.prediction"][False] != by["score.prediction"][True]).all()


def test_all_blocks_read_together_are_a_readout_mode(tmp_path: Path) -> None:
    maps = {"last": "last", "all": "every", "own": {"V1": 0, "LM": 1}}
    trials, cells = run(tmp_path, core={"epochs": 2}, space={"depth": {"maps": maps}})
    assert len(trials) == 3
    assert set(cells["blocks"]) == {"0", "1", "0+1"}
    assert cells["score.prediction"].notna().all()


LATENT = {"latent": {"latents": 2, "likelihood": "poisson", "samples": 3, "kl_weight": 0.3}}


@pytest.mark.slow
def test_other_units_tell_of_a_shared_factor(tmp_path: Path) -> None:
    planted = {"latents": 1, "latent_gain": 1.0, "clips": 60}
    core = {"channels": "8-8", "epochs": 25}
    _, cells = run(tmp_path, planted, core, LATENT, scores=["prediction", "conditioned"])
    assert (cells["score.conditioned_gain"] > 0.03).all(), cells["score.conditioned_gain"].tolist()
    assert cells["score.joint_log_likelihood"].notna().all()
    assert (cells["score.prediction"] > 0.2).all(), cells["score.prediction"].tolist()


def test_a_twin_without_latent_factors_has_no_conditioned_score(tmp_path: Path) -> None:
    _, cells = run(tmp_path, core={"epochs": 1}, scores=["prediction", "conditioned"])
    assert cells["score.conditioned"].isna().all()


def test_what_is_kept_of_a_latent_twin_is_scored_without_fitting(tmp_path: Path) -> None:
    """Conditioned predictions lie in the cache of fits beside the others."""
    latent = {"latent": {**LATENT["latent"], "latents": 1}}
    first = run(tmp_path, {"clips": 30}, {"epochs": 1}, latent, scores=["prediction"])[1]
    again = run(tmp_path, {"clips": 30}, {"epochs": 1}, latent, scores=["prediction", "conditioned"])[1]
    assert first["cell_id"].tolist() == again["cell_id"].tolist()
    assert again["score.conditioned"].notna().all()


@pytest.mark.slow
def test_the_planted_depths_are_recovered_with_a_trained_core(tmp_path: Path) -> None:
    """Every area is predicted best from the block of its planted depth; the core is trained anew for each map."""
    areas = {"V1": {"depth": 0}, "LM": {"depth": 1}, "RL": {"depth": 1}, "AL": {"depth": 2}}
    maps = {str(block): dict.fromkeys(areas, block) for block in range(3)}
    maps["planted"] = {name: area["depth"] for name, area in areas.items()}
    recording = {"areas": areas, "clips": 120, "frames": 40, "size": 16, "width": 24}
    core = {"channels": "8-8-8", "epochs": 25, "frames": 40, "decays": 1, "patience": 6}
    trials, cells = run(tmp_path, recording, core, space={"depth": {"maps": maps}})
    best = cells.loc[cells.groupby("area")["select.prediction"].idxmax()].set_index("area")["depth"]
    assert best.to_dict() == maps["planted"]
    top = trials.loc[trials["select.prediction"].idxmax()]
    assert {area: top[f"config.depth.{area}"] for area in areas} == maps["planted"]
