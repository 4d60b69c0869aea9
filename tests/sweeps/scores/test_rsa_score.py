"""The score `rsa` on planted responses, and through a sweep beside the functions it stands on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import plan_of, run_inline
from scipy.spatial.distance import pdist

from metrics import rdm
from metrics import rsa as agreement
from sweeps.features.worker_data import WorkerData
from sweeps.fitting.fit_cells import fit_cells
from sweeps.scores import SCORES, standard_scores
from sweeps.storage.load import load


def view(predicted: np.ndarray, repeats: np.ndarray, maps: np.ndarray | None = None) -> Any:
    """What the score reads of a view: predictions, repeats, and features; the training mean is 0."""
    shown = np.isfinite(repeats)
    average = np.where(
        shown.any(axis=2), np.where(shown, repeats, 0).sum(axis=2) / np.maximum(shown.sum(axis=2), 1), np.nan
    )
    return SimpleNamespace(
        units=np.arange(repeats.shape[1]),
        repeats=repeats,
        baseline=np.zeros_like(average),
        beyond_mean=lambda: (predicted, average),
        maps=None if maps is None else lambda: maps,
        of_brain=lambda name, compute: compute(),
        brain_seed=3,
    )


def planted(noise: float = 0.5, stimuli: int = 30, units: int = 12, repeats: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free responses, and repeats of them with noise."""
    random = np.random.default_rng(0)
    clean = random.standard_normal((stimuli, 4)) @ random.standard_normal((4, units))
    return clean, clean[:, :, None] + noise * random.standard_normal((stimuli, units, repeats))


def score(view: Any) -> dict[str, float]:
    found: dict[str, float] = SCORES["rsa"].load()(view)
    assert tuple(found) == SCORES["rsa"].columns
    return found


def test_a_perfect_twin_reaches_one_and_shuffled_stimuli_nothing() -> None:
    clean, repeats = planted(noise=0)
    assert score(view(clean, repeats))["rsa"] == pytest.approx(1)
    assert score(view(clean, repeats))["rsa_ceiling"] == pytest.approx(1)
    order = np.random.default_rng(1)
    shuffled = [score(view(clean[order.permutation(30)], repeats))["rsa"] for _ in range(20)]
    assert abs(np.mean(shuffled)) < 0.1


def test_noise_lowers_twin_and_ceiling_and_the_twin_passes_a_half_of_the_repeats() -> None:
    """Half the repeats against the other half is noisier than a clean twin against all of them."""
    clean, repeats = planted(noise=2)
    found = score(view(clean, repeats))
    assert 0.3 < found["rsa_ceiling"] < found["rsa"] < 0.99


def test_features_are_compared_as_they_are() -> None:
    clean, repeats = planted()
    maps = np.random.default_rng(2).standard_normal((30, 3, 2, 2)) + 1
    found = score(view(clean, repeats, maps))["rsa_features"]
    expected = np.corrcoef(pdist(maps.reshape(30, -1), "correlation"), pdist(repeats.mean(axis=2), "correlation"))[0, 1]
    assert found == pytest.approx(expected)
    assert np.isnan(score(view(clean, repeats))["rsa_features"])


def test_stimuli_that_a_unit_misses_are_left_out() -> None:
    clean, repeats = planted()
    maps = np.random.default_rng(2).standard_normal((30, 3, 2, 2))
    gaps = repeats.copy()
    gaps[4, 2], gaps[9, 0] = np.nan, np.nan
    kept = np.delete(np.arange(30), [4, 9])
    found, expected = score(view(clean, gaps, maps)), score(view(clean[kept], repeats[kept], maps[kept]))
    assert found == pytest.approx(expected)


def test_one_repeat_two_units_and_a_constant_twin_are_nan() -> None:
    clean, repeats = planted()
    assert np.isnan(score(view(clean, repeats[:, :, :1]))["rsa_ceiling"])
    assert np.isnan(list(score(view(clean[:, :2], repeats[:, :2])).values())).all()
    assert np.isnan(score(view(np.zeros_like(clean), repeats))["rsa"])


def test_a_sweep_that_asks_for_it_has_its_columns(experiment: dict[str, Any], tmp_path: Path) -> None:
    assert "rsa" not in standard_scores()
    experiment["scores"] = ["prediction", "rsa"]
    experiment["space"] |= {"depth": {"V1": [1]}, "seed": 0}
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    row = load(plan.storage, "cells").iloc[0]
    worker = WorkerData(plan.context())
    [cell] = plan.planner.cells(next(iter(plan.space.grid())))
    [fit] = fit_cells(worker, [cell])
    recording = worker.recording("small")
    average = pd.DataFrame(recording.fit.average[:, recording.units("V1")])
    predicted, observed = (np.asarray(each) - fit.baseline["report"] for each in (fit.held_out["report"], average))
    assert row["score.rsa"] == pytest.approx(agreement(rdm(predicted), rdm(observed)), abs=1e-6)
    assert 0 < row["score.rsa_features"] < 1
    assert 0 < row["score.rsa_ceiling"] < 1
