"""Standard errors over units, and what counts as at chance, of the scores that areas are ordered by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES
from sweeps.scores.unit_error import at_chance, jackknife_error, mean_error
from sweeps.scores.view import CellView


def invariance(shown: np.ndarray) -> dict[str, float]:
    """The score of a twin's responses to twelve objects from six sides each."""
    table = pd.DataFrame({"object": np.repeat([f"o{i}" for i in range(12)], 6), "transform": np.tile(range(6), 12)})
    repeats = np.zeros((4, shown.shape[1], 2))
    fit = StimulusSet(pd.DataFrame({"group": list("abcd")}), repeats, "fit", None)
    recording = Recording("r", "print", np.array(["V1"] * shown.shape[1]), {"fit": fit})
    units, rows = np.arange(shown.shape[1]), np.arange(4)
    view = CellView(
        "report", 0, recording, units, rows, repeats[:, :, 0], repeats[:, :, 0], {"probe.objects": shown},
        {"objects": table}, lambda captions: np.zeros((len(captions), 1)), "cell", 0, len(units),
        lambda key, compute: compute(),
    )  # fmt: skip
    return SCORES["invariance"].computed(view)


def test_the_jackknife_is_the_error_of_a_mean() -> None:
    """Over 200 populations: mean squared error of five blocks against deviation^2 / units."""
    squares = []
    for seed in range(200):
        rates = np.random.default_rng(seed).normal(size=60)
        squares.append(jackknife_error(60, lambda kept, rates=rates: float(rates[kept].mean()), seed) ** 2)
        assert mean_error(rates) == pytest.approx(rates.std(ddof=1) / 60**0.5)
    assert np.mean(squares) == pytest.approx(1 / 60, rel=0.15)
    assert np.isnan(jackknife_error(1, lambda kept: 0.0, 0))
    assert np.isnan(mean_error(np.array([1.0, np.nan])))


def test_a_twin_that_sees_objects_is_above_chance_and_one_of_noise_or_of_nothing_is_at_it() -> None:
    random = np.random.default_rng(0)
    objects = np.repeat(random.normal(size=(12, 40)), 6, axis=0)
    seeing = invariance(objects + 2.0 * random.normal(size=objects.shape))
    assert 0.3 < seeing["invariance"] < 1
    assert (seeing["invariance_at_chance"], 0 < seeing["invariance_se"] < 0.3) == (0.0, True)
    flags = [invariance(random.normal(size=objects.shape))["invariance_at_chance"] for _ in range(10)]
    assert sum(flags) >= 8
    silent = invariance(np.ones(objects.shape))
    assert (silent["invariance"], silent["invariance_se"], silent["invariance_at_chance"]) == (0.0, 0.0, 1.0)
    assert np.isnan(at_chance(float("nan"), 0.1, 0.0))
