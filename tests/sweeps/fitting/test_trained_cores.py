"""Cells that are fitted by gradient descent, from the experiment to their rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import plan_of, run_inline, trials_of

from sweeps.storage.load import load

Writer = Callable[..., Path]
GAUSSIAN = {"gaussian": {"loss": "gaussian", "epochs": 60, "patience": 10, "learning_rate": 0.05, "pool": 8}}
CONV = {"conv": {"layers": 2, "channels": 8, "kernel": 5, "epochs": 25, "learning_rate": 0.02}}
SPACES: dict[str, dict[str, Any]] = {
    "gaussian": {"backbone": "pixels", "depth": {"shared": [0]}, "readout": GAUSSIAN},
    "conv": {"backbone": CONV, "depth": {"V1": [0], "V4": [1]}, "readout": GAUSSIAN},
}


def run(folders: list[Path], space: dict[str, Any], place: Path) -> tuple[pd.Series[Any], pd.DataFrame]:
    """The one trial of a space on some recordings, and its cells."""
    experiment = {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}} for folder in folders],
        "probes": {},
        "space": {**space, "seed": 0},
        "scores": ["prediction"],
    }
    plan = plan_of(experiment, place)
    run_inline(plan)
    trials = trials_of(plan)
    assert len(trials) == 1
    return trials.iloc[0], load(plan.storage, "cells")


def local_units(folder: Path, seed: int = 0, shuffled: bool = False) -> Path:
    """Make every unit answer the brightness of one place in the pictures; `shuffled`: of other pictures."""
    import io
    import zipfile

    from PIL import Image

    with zipfile.ZipFile(folder / "images.zip") as archive:
        pictures = np.stack(
            [np.asarray(Image.open(io.BytesIO(archive.read(name)))) / 255 for name in sorted(archive.namelist())]
        )
    random = np.random.default_rng(seed)
    responses = np.load(folder / "responses.npy")
    stimuli, units, repeats = responses.shape
    places = random.integers(6, 26, (units, 2))
    clean = np.stack([pictures[:, y, x].mean(axis=-1) for y, x in places], axis=1)
    clean = 3 + (clean - clean.mean(axis=0)) / clean.std(axis=0)
    if shuffled:
        clean = clean[random.permutation(stimuli)]
    noisy = clean[:, :, None] + 0.3 * random.standard_normal((stimuli, units, repeats))
    np.save(folder / "responses.npy", noisy.astype(np.float32))
    return folder


@pytest.mark.parametrize("kind", SPACES)
def test_a_planted_recording_is_predicted_and_a_shuffled_one_is_not(
    kind: str, make_recording: Writer, tmp_path: Path
) -> None:
    found = {}
    for shuffled in (False, True):
        folder = local_units(make_recording(tmp_path / str(shuffled) / "local", stimuli=240), shuffled=shuffled)
        trial, cells = run([folder], SPACES[kind], tmp_path / f"run-{shuffled}")
        assert trial["status"] == "done", trial["error"]
        assert set(cells["status"]) == {"done"}
        assert set(cells["outer_folds"]) == {0}
        found[shuffled] = trial[["select.prediction", "score.prediction"]].to_numpy(float)
    assert (found[False] > 0.6).all(), found
    assert (np.abs(found[True]) < 0.3).all(), found


@pytest.mark.parametrize("kind", SPACES)
def test_a_small_recording_is_predicted_out_of_fold(kind: str, make_recording: Writer, tmp_path: Path) -> None:
    folder = local_units(make_recording(tmp_path / "data" / "folded", stimuli=80, groups=8))
    trial, cells = run([folder], SPACES[kind], tmp_path)
    assert trial["status"] == "done", trial["error"]
    assert set(cells["outer_folds"]) == {5}
    assert np.isfinite(trial[["select.prediction", "score.prediction"]].to_numpy(float)).all()
    assert cells["score.prediction"].notna().all()


def test_a_core_is_trained_on_all_recordings_together(make_recording: Writer, tmp_path: Path) -> None:
    large = local_units(make_recording(tmp_path / "data" / "large", stimuli=240, areas={"V1": 4}))
    small = local_units(make_recording(tmp_path / "data" / "small", stimuli=60, groups=6, areas={"V4": 3}, seed=2))
    trial, cells = run([large, small], SPACES["conv"], tmp_path)
    assert trial["status"] == "done", trial["error"]
    assert sorted(zip(cells["recording"], cells["outer_folds"], strict=True)) == [("large", 0), ("small", 5)]
    assert cells.set_index("recording").at["large", "score.prediction"] > 0.6
    assert cells[["select.prediction", "score.prediction"]].notna().all(axis=None)


def test_a_poisson_readout_of_rates_is_fitted(make_recording: Writer, tmp_path: Path) -> None:
    folder = local_units(make_recording(tmp_path / "data" / "rates", stimuli=240))
    np.save(folder / "responses.npy", np.load(folder / "responses.npy").clip(0))
    poisson = {"gaussian": {**GAUSSIAN["gaussian"], "loss": "poisson"}}
    trial, _ = run([folder], {**SPACES["gaussian"], "readout": poisson}, tmp_path)
    assert trial["status"] == "done", trial["error"]
    assert trial["score.prediction"] > 0.6
