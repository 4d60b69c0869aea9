"""How sure a prediction is: planted signal and noise, folds, and what is stored beside the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES
from sweeps.scores.interval import PERMUTATIONS, REPLICATES, draws
from sweeps.scores.view import CellView


def view_of(predicted: np.ndarray, average: np.ndarray, groups: np.ndarray, baseline: Any = None) -> CellView:
    """A view of planted predictions of repeat averages (stimuli, units)."""
    table = pd.DataFrame({"group": groups.astype(str)})
    numbers = np.zeros((len(groups), 2, 2, 3), np.uint8)
    fit = StimulusSet(table, average[:, :, None], "fit", lambda rows: numbers[rows])
    units = average.shape[1]
    return CellView(
        split="report",
        split_seed=0,
        recording=Recording("planted", "print", np.array(["V1"] * units), {"fit": fit}),
        units=np.arange(units),
        rows=np.arange(len(groups)),
        predicted=predicted,
        baseline=np.zeros_like(predicted) if baseline is None else baseline,
        shown={},
        tables={},
        embed=lambda _: np.zeros((0, 0)),
        cell_id="cell",
        seed=1,
        common_units=units,
        remember=lambda _, compute: compute(),
    )


def planted(signal: float, seed: int, groups: int = 30, each: int = 3) -> CellView:
    """Predictions and responses that vary over groups, and share `signal`."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), each)
    predicted, noise = random.normal(size=(2, groups, 4))[:, labels] + random.normal(size=(2, groups * each, 4))
    return view_of(predicted, signal * predicted + noise, labels)


def columns_of(view: CellView) -> dict[str, float]:
    return SCORES["interval"].computed(view)


def test_signal_is_above_chance_and_within_its_interval() -> None:
    view = planted(0.7, 0)
    found = columns_of(view)
    truth = np.mean([pearsonr(view.predicted[:, u], view.observed[:, u])[0] for u in range(4)])
    assert found["prediction_low"] < truth < found["prediction_high"]
    assert found["prediction_p"] == pytest.approx(1 / (1 + PERMUTATIONS))
    assert found["prediction_groups"] == 30


def test_noise_is_at_chance_as_often_as_said() -> None:
    p = np.array([columns_of(planted(0.0, seed))["prediction_p"] for seed in range(60)])
    assert (p <= 0.05).mean() <= 0.12
    assert 0.35 < p.mean() < 0.65


def test_draws_are_paired_over_cells_and_centred_on_what_they_are_of() -> None:
    stored = draws(planted(0.7, 0))
    assert {name: (values.shape, values.dtype) for name, values in stored.items()} == {
        "replicates": ((REPLICATES,), np.float32),
        "chance": ((PERMUTATIONS,), np.float32),
    }
    assert abs(float(stored["chance"].mean())) < 0.02
    one = planted(0.7, 0)
    other = view_of(one.predicted + 0.05 * one.observed, one.observed, np.asarray(one.recording.groups))
    assert np.corrcoef(stored["chance"], draws(other)["chance"])[0, 1] > 0.95
    assert np.corrcoef(stored["replicates"], draws(other)["replicates"])[0, 1] > 0.95


def ridge_out_of_fold(seed: int, folds: int = 5) -> CellView:
    """Noise that is predicted from noise, fold by fold, as small recordings are."""
    random = np.random.default_rng(seed)
    features, responses, groups = random.normal(size=(100, 20)), random.normal(size=(100, 3)), np.arange(100)
    predicted, baseline = np.empty_like(responses), np.empty_like(responses)
    for fold in range(folds):
        train = groups % folds != fold
        centre, mean = features[train].mean(axis=0), responses[train].mean(axis=0)
        inner = features[train] - centre
        weights = np.linalg.solve(inner.T @ inner + 10 * np.eye(20), inner.T @ (responses[train] - mean))
        predicted[~train] = (features[~train] - centre) @ weights + mean
        baseline[~train] = mean
    return view_of(predicted, responses, groups, baseline)


def test_folds_that_predict_each_other_do_not_make_noise_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [ridge_out_of_fold(seed) for seed in range(40)]
    wide = np.mean([columns_of(view)["prediction_p"] <= 0.05 for view in views])
    monkeypatch.setattr("sweeps.scores.interval.FOLDED", 1.0)
    narrow = np.mean([columns_of(view)["prediction_p"] <= 0.05 for view in views])
    assert wide <= 0.08
    assert narrow >= wide


def test_a_single_group_and_a_constant_prediction() -> None:
    view = planted(0.7, 0)
    alone = columns_of(view_of(view.predicted, view.observed, np.zeros(90)))
    assert np.isnan(alone["prediction_p"])
    assert np.isnan(alone["prediction_low"])
    flat = columns_of(view_of(np.ones((90, 4)), view.observed, np.arange(90)))
    assert flat["prediction_p"] == 1.0
