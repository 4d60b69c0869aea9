"""Dimensions of features over depth: cut to the narrowest block of the backbone, whatever depths a sweep reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import plan_of, run_inline

from metrics import participation_ratio, pooled
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES
from sweeps.scores.view import CellView
from sweeps.storage.load import load

STIMULI, POSITIONS = 200, 4
COLUMNS = [f"features_{how}_{name}" for how in ("pooled", "flat") for name in ("participation_ratio", "two_nn")]


def planted(width: int, seed: int) -> np.ndarray:
    """Maps (stimuli, width, 2, 2) of four latent variables, seen by every channel with noise of its own."""
    latent = np.random.default_rng(0).standard_normal((STIMULI, 4))
    random = np.random.default_rng(seed)
    channels = latent @ random.standard_normal((4, width))
    return channels[:, :, None, None] + 1.5 * random.standard_normal((STIMULI, width, 2, 2))


def scores(width: int, narrowest: int | None, **others: Any) -> dict[str, float]:
    random = np.random.default_rng(0)
    repeats = random.standard_normal((STIMULI, 6, 2))
    fit = StimulusSet(pd.DataFrame({"group": np.arange(STIMULI).astype(str)}), repeats, "fit")
    recording = Recording("planted", "print", np.array(["V1"] * 6), {"fit": fit})
    view = CellView(
        split="report",
        split_seed=0,
        recording=recording,
        units=np.arange(6),
        rows=np.arange(STIMULI),
        predicted=random.standard_normal((STIMULI, 6)),
        baseline=np.zeros((STIMULI, 6)),
        shown={},
        tables={},
        embed=lambda captions: np.zeros((len(captions), 2)),
        cell_id="cell",
        seed=0,
        common_units=6,
        remember=lambda key, compute: compute(),
        maps=lambda: planted(width, width),
        narrowest=None if narrowest is None else lambda: (narrowest, narrowest * POSITIONS),
    )
    return SCORES["dimensionality-battery"].computed(replace(view, **others))


def test_blocks_of_equal_latent_dimension_are_equal_where_all_features_rise() -> None:
    by_width = {width: scores(width, 8) for width in (8, 32, 128)}
    for column in COLUMNS:
        equal = [values[column] for values in by_width.values()]
        raw = [values[f"{column}_raw"] for values in by_width.values()]
        assert max(equal) < 1.3 * min(equal), column
        assert raw[0] == equal[0]
        assert raw[2] > 1.2 * equal[2], column
        assert all(values[f"{column}_spread"] < 0.01 for values in by_width.values())
    whole = participation_ratio(pooled(planted(128, 128), how="mean"))
    assert by_width[128]["features_pooled_participation_ratio_raw"] == pytest.approx(whole)
    assert {values["features_flat_features"] for values in by_width.values()} == {32}


def test_draws_hang_on_the_data_alone() -> None:
    first = scores(32, 8)
    again = scores(32, 8, cell_id="other", seed=7, backbone_key="elsewhere", split_seed=3)
    assert {name: first[name] for name in COLUMNS} == {name: again[name] for name in COLUMNS}
    unknown = scores(32, None)
    assert all(unknown[name] == unknown[f"{name}_raw"] == first[f"{name}_raw"] for name in COLUMNS)
    assert np.isnan(scores(32, 8, maps=None)["features_pooled_channels"])


def test_the_narrowest_block_counts_where_it_is_not_read(make_recording: Any, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data" / "small", stimuli=40, areas={"V1": 2, "V4": 2})
    cells = {}
    for depths in ([4], [0, 4]):
        experiment = {
            "name": "small",
            "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
            "probes": {},
            "space": {"backbone": "efficientnet-lite0", "depth": {"shared": depths}, "readout": {"ridge": {"pool": 2}}},
            "scores": ["prediction", "dimensionality-battery"],
        }
        place = tmp_path / str(depths)
        plan = plan_of(experiment, place)
        run_inline(plan)
        rows = load(plan.storage, "cells").set_index("cell_id").sort_index()
        assert rows["error"].isna().all(), rows["error"].tolist()
        cells[str(depths)] = rows
    few, every = cells["[4]"], cells["[0, 4]"].loc[cells["[4]"].index]
    assert set(few["score.features_pooled_channels"]) == {16}  # of block 0
    assert set(few["score.features_flat_features"]) == {16 * 4}
    columns = [f"score.{column}" for column in COLUMNS]
    pd.testing.assert_frame_equal(few[columns], every[columns], rtol=1e-9)
