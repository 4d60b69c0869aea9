"""Scores over concatenated folds: predicted and observed are both taken less the mean of what was learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.splits import Fold
from sweeps.scores.fold_statistics import fold_statistics, prediction_of
from sweeps.scores.prediction import compute as prediction
from sweeps.scores.view import CellView

STIMULI, UNITS = 24, 3
ROWS = np.arange(STIMULI)
PARTS = ROWS // 8
THIRDS = np.split(ROWS, 3)
FOLDS = [Fold(THIRDS[(part + 2) % 3], THIRDS[(part + 1) % 3], THIRDS[part]) for part in range(3)]
MEANS = np.array([[5.0, -3.0, 0.5], [-8.0, 6.0, 0.25], [1.0, 1.0, -40.0]])
"""Training means (folds, units), far from one another."""


def views(rows: np.ndarray = ROWS) -> tuple[CellView, CellView, np.ndarray, np.ndarray]:
    """Views of both splits; beside them what is predicted and observed beyond the mean on the report rows."""
    random = np.random.default_rng(3)
    observed = random.standard_normal((STIMULI, UNITS)).astype(np.float32).astype(float)
    table = pd.DataFrame({"group": (ROWS // 2).astype(str)})
    recording = Recording(
        "r", "print", np.full(UNITS, "V1"), {"fit": StimulusSet(table, observed[:, :, None].astype(np.float32), "k")}
    )
    parts, found = {"select": -1, "report": 0}, []
    gains = {split: 0.6 * observed + random.standard_normal((STIMULI, UNITS)) for split in parts}
    for split, turn in parts.items():
        baseline = MEANS[(PARTS + turn) % 3][rows]
        found.append(
            CellView(
                split,
                0,
                recording,
                np.arange(UNITS),
                rows,
                gains[split][rows] + baseline,
                baseline,
                {},
                {},
                lambda texts: np.zeros((len(texts), 1)),
                "cell",
                0,
                UNITS,
                lambda key, compute: compute(),
            )
        )
    beyond = (observed - MEANS[PARTS])[rows]
    return found[0], found[1], gains["report"][rows], beyond


def mean_r(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over units of NumPy's correlation."""
    return float(np.mean([np.corrcoef(x[:, unit], y[:, unit])[0, 1] for unit in range(x.shape[1])]))


def test_both_sides_are_less_the_training_mean() -> None:
    _, report, predicted, observed = views()
    found = report.beyond_mean()
    np.testing.assert_allclose(found[0], predicted, atol=1e-12)
    np.testing.assert_allclose(found[1], observed, atol=1e-12)
    assert abs(mean_r(predicted, observed) - mean_r(predicted, report.observed)) > 0.1  # the difference is no small one
    assert prediction(report)["prediction"] == pytest.approx(mean_r(predicted, observed), abs=1e-9)


def test_a_prediction_that_is_the_training_mean_but_for_rounding_is_zero() -> None:
    _, report, _, _ = views()
    report.predicted[:, 0] = report.baseline[:, 0] * (1 + 1e-15)
    report.predicted[:, 1] = report.baseline[:, 1] + 1e-9
    beyond = report.beyond_mean()[0]
    assert (beyond[:, 0] == 0).all()
    assert (beyond[:, 1] != 0).all()


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:], ROWS[ROWS % 5 > 0]], ids=len)
def test_sums_of_folds_add_up_to_the_score_over_all_of_them(rows: np.ndarray) -> None:
    select, report, predicted, observed = views(rows)
    statistics = fold_statistics(select, report, FOLDS)
    assert statistics.sums.shape == (3, UNITS, 6)
    assert prediction_of(statistics.sums.sum(axis=0)) == pytest.approx(mean_r(predicted, observed), abs=1e-9)
    for number, fold in enumerate(FOLDS):
        own = np.isin(rows, fold.report)
        x, y = predicted[own], observed[own]
        expected = [np.full(UNITS, own.sum()), *(part.sum(axis=0) for part in (x, y, x**2, y**2, x * y))]
        np.testing.assert_allclose(statistics.sums[number], np.stack(expected, axis=1), atol=1e-9)
        chosen = np.isin(rows, fold.select)
        select_x, select_y = (side[chosen] for side in select.beyond_mean())
        assert statistics.select[number] == pytest.approx(mean_r(select_x, select_y), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_sums_give_the_same_in_any_unit_of_measure(scale: float) -> None:
    select, report, _, _ = views()
    sums = fold_statistics(select, report, FOLDS).sums.sum(axis=0)
    for power in ((0, 1, 0, 2, 0, 1), (0, 0, 1, 0, 2, 1)):  # of predicted alone, of observed alone
        assert prediction_of(sums * scale ** np.array(power)) == pytest.approx(prediction_of(sums), rel=1e-9)


@pytest.mark.parametrize("level", [0.1, 7.7, 1234.5])
def test_a_unit_that_is_constant_but_for_rounding_is_left_out_or_counts_as_0(level: float) -> None:
    x = np.random.default_rng(0).standard_normal(STIMULI)
    flat = np.full(STIMULI, level) * (1 + 1e-16 * np.arange(STIMULI))

    def sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([len(x), x.sum(), y.sum(), (x**2).sum(), (y**2).sum(), (x * y).sum()])

    exact = sums(x, 2 * x + 1)
    assert prediction_of(np.stack([exact, sums(x, flat)])) == pytest.approx(1.0)
    assert prediction_of(np.stack([exact, sums(flat, x)])) == pytest.approx(0.5)
    assert np.isnan(prediction_of(np.stack([sums(x, flat), sums(x[:1], x[:1]), np.zeros(6)])))
