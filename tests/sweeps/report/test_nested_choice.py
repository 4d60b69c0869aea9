"""Depths chosen in every outer fold: equal to brute force on raw predictions, and no better than chance on noise."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline
from rich.console import Console

from metrics import correlation
from sweeps.commands.run import write_experiment
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.splits import Fold, split_groups
from sweeps.report.answers.nested_choice import nested_choices
from sweeps.report.terminal import show
from sweeps.scores.fold_statistics import FoldStatistics, fold_statistics, prediction_of
from sweeps.scores.prediction import compute as prediction
from sweeps.scores.view import CellView
from sweeps.storage.load import load

Predictions = dict[str, np.ndarray]
"""Predicted responses and baselines (stimuli, units) of one cell, by "predicted select" and the like."""


def recording_of(responses: np.ndarray, groups: np.ndarray) -> Recording:
    stimuli = StimulusSet(pd.DataFrame({"group": groups}), responses[:, :, None].astype(np.float32), "key")
    return Recording("r", "print", np.full(responses.shape[1], "V1"), {"fit": stimuli})


def views_of(recording: Recording, held: Predictions) -> list[CellView]:
    rows, units = np.arange(len(recording.groups)), np.arange(len(recording.areas))
    return [
        CellView(
            split,
            0,
            recording,
            units,
            rows,
            held[f"predicted {split}"],
            held[f"baseline {split}"],
            {},
            {},
            lambda texts: np.zeros((len(texts), 1)),
            "cell",
            0,
            len(units),
            lambda key, compute: compute(),
        )
        for split in ("select", "report")
    ]


def ridge(features: np.ndarray, responses: np.ndarray, folds: list[Fold]) -> Predictions:
    """Out-of-fold predictions of a ridge readout, select from train, report from train + select."""
    held: Predictions = {}
    for split in ("select", "report"):
        predicted, baseline = np.empty_like(responses), np.empty_like(responses)
        for fold in folds:
            fitted, out = fold.fitted_on(split), fold.held_out(split)
            mean, centre = responses[fitted].mean(axis=0), features[fitted].mean(axis=0)
            x = features[fitted] - centre
            weights = np.linalg.solve(x.T @ x + 5 * np.eye(x.shape[1]), x.T @ (responses[fitted] - mean))
            predicted[out], baseline[out] = (features[out] - centre) @ weights + mean, mean
        held |= {f"predicted {split}": predicted, f"baseline {split}": baseline}
    return held


def brute_force(cells: list[Predictions], responses: np.ndarray, folds: list[Fold]) -> tuple[float, list[int]]:
    """Concatenate, unit by unit, what each fold's best cell predicts; the mean correlation, and the winners."""

    def mean_r(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(x[:, unit], y[:, unit])[0, 1] for unit in range(x.shape[1])]))

    winners, parts = [], []
    for fold in folds:
        rows = fold.select
        scores = [mean_r(held["predicted select"][rows], responses[rows]) for held in cells]
        winners.append(int(np.argmax(scores)))
        best, rows = cells[winners[-1]], fold.report
        baseline = best["baseline report"][rows]
        parts.append((best["predicted report"][rows] - baseline, responses[rows] - baseline))
    return mean_r(*(np.concatenate([part[side] for part in parts]) for side in (0, 1))), winners


def tables(
    statistics: list[FoldStatistics], scores: list[tuple[float, float]], seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of `cells` and `folds` of one area, a depth each."""
    names = [f"{depth}/{seed}" for depth in range(len(statistics))]
    cells = pd.DataFrame(
        {
            "cell_id": names,
            "status": "done",
            "recording": "r",
            "area": "V1",
            "depth": range(len(names)),
            "blocks": [str(depth) for depth in range(len(names))],
            "outer_folds": len(statistics[0].select),
            "config.backbone": "b",
            "config.readout": "ridge",
            "config.seed": seed,
            "select.prediction": [select for select, _ in scores],
            "score.prediction": [report for _, report in scores],
        }
    )
    rows = [(len(one.select), one.select, one.sums.ravel()) for one in statistics]
    return cells, pd.DataFrame(rows, columns=["folds", "select", "sums"]).assign(cell_id=names)


def draw(seed: int, depths: int, signal: float = 0.0) -> tuple[list[Predictions], np.ndarray, np.ndarray, list[Fold]]:
    """Cells of several depths whose features have, with `signal` 0, nothing to do with the responses."""
    random = np.random.default_rng(seed)
    groups = np.arange(60) % 12
    features = random.standard_normal((depths, 60, 3))
    responses = random.standard_normal((60, 6)) + signal * features[0] @ random.standard_normal((3, 6))
    folds = split_groups(groups.astype(str), 0.2, 0.2, seed, seed)
    return [ridge(x, responses, folds) for x in features], responses, groups.astype(str), folds


def choose(cells: list[Predictions], responses: np.ndarray, groups: np.ndarray, folds: list[Fold]) -> Any:
    recording = recording_of(responses, groups)
    views = [views_of(recording, held) for held in cells]
    statistics = [fold_statistics(*pair, folds) for pair in views]
    scores = [(prediction(select)["prediction"], prediction(report)["prediction"]) for select, report in views]
    [choice] = nested_choices(*tables(statistics, scores))
    return choice


@pytest.mark.parametrize("seed", range(6))
def test_the_nested_estimate_is_that_of_brute_force_on_raw_predictions(seed: int) -> None:
    cells, responses, groups, folds = draw(seed, depths=4, signal=0.4 * (seed % 2))
    responses = responses.astype(np.float32).astype(np.float64)
    choice = choose(cells, responses, groups, folds)
    expected, winners = brute_force(cells, responses, folds)
    assert choice.nested == pytest.approx(expected, abs=1e-9)
    assert sum(choice.wins.values()) == len(folds)
    assert choice.wins == {("b", str(depth)): winners.count(depth) for depth in set(winners)}


def test_on_noise_the_plain_choice_gains_and_the_nested_does_not() -> None:
    choices = [choose(*draw(100 + seed, depths=25)) for seed in range(40)]
    plain, nested = (np.array([getattr(choice, name) for choice in choices]) for name in ("plain", "nested"))
    error = nested.std() / np.sqrt(len(nested))
    assert plain.mean() > 0.05, plain.mean()
    assert nested.mean() < 0.01 + 2 * error, (nested.mean(), error)
    assert plain.mean() - nested.mean() > 0.06, (plain.mean(), nested.mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 4), st.booleans())
def test_sums_of_parts_give_the_correlation_of_the_whole(seed: int, parts: int, units: int, constant: bool) -> None:
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, 40, units)) * random.uniform(0.1, 10) + random.uniform(-2, 2)
    y[random.random(y.shape) < 0.2] = np.nan
    if constant:
        x[:, 0] = random.uniform(-3, 3)
    cuts = np.array_split(random.permutation(40), parts)
    from sweeps.scores.fold_statistics import _sums

    total = sum(_sums(x[rows], y[rows]) for rows in cuts)
    assert prediction_of(total) == pytest.approx(float(np.nan_to_num(correlation(x, y)).mean()), abs=1e-9)


def test_a_winner_without_a_seed_gives_that_of_its_first_and_old_rows_give_no_estimate() -> None:
    cells, responses, groups, folds = draw(1, depths=3)
    recording = recording_of(responses, groups)
    statistics = [fold_statistics(*views_of(recording, held), folds) for held in cells]
    first = tables(statistics, [(0.1, 0.2)] * 3)
    second = tables(statistics[:1], [(0.1, 0.2)], seed=1)
    both = [pd.concat(pair, ignore_index=True) for pair in zip(first, second, strict=True)]
    [choice] = nested_choices(*both)
    assert choice.nested == pytest.approx(nested_choices(*first)[0].nested)
    assert nested_choices(both[0], both[1].iloc[1:]) == []
    assert nested_choices(both[0], pd.DataFrame()) == []


def test_a_run_keeps_folds_and_show_prints_the_nested_estimate(experiment: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of({**experiment, "scores": ["prediction"]}, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    cells, folds = load(plan.storage, "cells"), load(plan.storage, "folds")
    assert set(folds["cell_id"]) == set(cells["cell_id"])
    sums = {row.cell_id: np.asarray(row.sums).reshape(5, -1, 6) for row in folds.itertuples()}
    for row in cells.to_dict("records"):  # all folds of one cell are that cell's own score
        assert prediction_of(sums[row["cell_id"]].sum(axis=0)) == pytest.approx(row["score.prediction"], abs=1e-9)
    text = io.StringIO()
    show(plan.storage, Console(file=text, width=120, highlight=False))
    printed = text.getvalue()
    for choice in nested_choices(cells, folds):
        assert f"{choice.nested:.3f}" in printed
        assert sum(choice.wins.values()) == 5
    assert "each outer fold chose" in printed
    assert "…" not in printed
