"""How sure the best depth of an area is: planted depths with paired draws, and what is said of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import plan_of, run_inline
from rich.console import Console

from sweeps.commands.run import write_experiment
from sweeps.report.answers.best_depth import BestDepth, Draws, best_depths, candidates_of, cells_compared
from sweeps.report.depth_lines import lines_of, why_the_best_trial_differs
from sweeps.report.terminal import show

GROUPS, DRAWS = 60, 300


def planted(truth: dict[tuple[str, int], float], seed: int = 0, recordings: int = 1) -> tuple[pd.DataFrame, Draws]:
    """Cells of two seeds at (weights, depth) of these report predictions, and draws over shared groups."""
    random = np.random.default_rng(seed)
    rows, draws = [], {}
    for recording in range(recordings):
        weights = random.multinomial(GROUPS, np.full(GROUPS, 1 / GROUPS), size=DRAWS)
        shared, orders = random.normal(size=GROUPS), random.normal(size=DRAWS)
        for (name, depth), value in truth.items():
            own = value + 0.3 * (shared + random.normal(size=GROUPS))
            for twin_seed in range(2):
                cell_id = f"{recording}{name}{depth}{twin_seed}"
                rows.append(cell(cell_id, name, depth, twin_seed, value, float(own.mean()), f"r{recording}"))
                draws[cell_id] = {"replicates": weights @ own / GROUPS, "chance": 0.1 * orders}
    return pd.DataFrame(rows), draws


def cell(cell_id: str, weights: str, depth: int, seed: int, select: float, report: float, recording: str) -> Any:
    return {
        "cell_id": cell_id,
        "status": "done",
        "recording": recording,
        "area": "V1",
        "depth": depth,
        "config.backbone": "net",
        "config.backbone.weights": weights,
        "config.readout": "ridge",
        "config.seed": seed,
        "select.prediction": select,
        "score.prediction": report,
        "score.prediction_groups": float(GROUPS),
    }


TRUTH = {("a", depth): value for depth, value in enumerate([0.2, 0.6, 0.6, 0.3, 0.1])} | {("b", 1): 0.25}


@pytest.mark.parametrize("recordings", [1, 3])
def test_the_set_holds_what_is_as_good_and_nothing_that_is_far_worse(recordings: int) -> None:
    found = [best_depths(*planted(TRUTH, seed, recordings))["V1"] for seed in range(30)]
    assert {(answer.best.twin, answer.best.blocks) for answer in found} == {("net a", "1")}
    assert all(answer.above_chance and answer.groups == GROUPS and answer.compared == 6 for answer in found)
    equal = [{("net a", "1"), ("net a", "2")} <= set(answer.alike) for answer in found]
    assert np.mean(equal) >= 0.8
    assert all(("net a", "4") not in answer.alike for answer in found)
    assert all(("net b", "1") not in answer.alike for answer in found)


def test_the_interval_covers_and_narrows_with_recordings() -> None:
    one, four = ([best_depths(*planted(TRUTH, seed, count))["V1"] for seed in range(25)] for count in (1, 4))
    covered = [answer.low <= 0.6 <= answer.high for answer in one]
    assert np.mean(covered) >= 0.85
    assert np.mean([a.high - a.low for a in four]) < 0.6 * np.mean([a.high - a.low for a in one])


def test_a_best_of_noise_gets_no_star() -> None:
    cells, draws = planted({("a", depth): 0.0 for depth in range(5)}, 3)
    answer = best_depths(cells.assign(**{"score.prediction": 0.006}), draws)["V1"]
    assert not answer.above_chance
    [first, *rest] = lines_of(answer, "results/x")
    assert "NOT above chance" in first
    assert not any("told" in line for line in rest)


def test_without_draws_it_is_said_what_is_missing() -> None:
    cells, draws = planted(TRUTH)
    lost = next(iter(draws))
    bare = {cell_id: {} if cell_id in (lost, "0a10") else arrays for cell_id, arrays in draws.items()}
    answer = best_depths(cells, bare)["V1"]
    assert np.isnan([answer.low, answer.p]).all()
    assert not answer.above_chance
    assert "sweeps score results/x --scores interval --trials all" in lines_of(answer, "results/x")[1]
    old = {cell_id: {"replicates": arrays["replicates"]} for cell_id, arrays in draws.items()}
    assert np.isnan(best_depths(cells, old)["V1"].p)
    assert best_depths(cells, old)["V1"].alike  # replicates alone tell depths apart
    assert set(cells_compared(cells)) == set(draws)
    assert best_depths(cells.assign(status="failed"), draws) == {}
    assert candidates_of(cells.assign(**{"select.prediction": np.nan})) == {}


def test_what_lacks_a_recording_is_not_compared() -> None:
    cells, draws = planted(TRUTH, recordings=2)
    lacking = cells[~((cells["recording"] == "r1") & (cells["depth"] == 2))]
    answer = best_depths(lacking, draws)["V1"]
    assert answer.compared == 5
    assert ("net a", "2") not in answer.alike


def answer_of(alike: tuple[tuple[str, str], ...], blocks: str = "1", groups: float = 60) -> BestDepth:
    best = next(
        pair for pair in candidates_of(planted(TRUTH)[0])["V1"] if (pair.twin, pair.blocks) == ("net a", blocks)
    )
    return BestDepth(best, 0.5, 0.7, 0.002, groups, alike, 6)


def test_lines_name_depths_and_twins_in_order() -> None:
    several = answer_of((("net a", "10"), ("net a", "1"), ("net a", "2"), ("net b", "1")))
    assert "cannot be told apart: depth 1, 2, 10; net b at 1 (" in lines_of(several, "x")[1]
    assert "told from every other" in lines_of(answer_of((("net a", "1"),)), "x")[1]
    assert "others predict better there: depth 2 (" in lines_of(answer_of((("net a", "2"),)), "x")[1]
    assert "fewer than 20 groups" in lines_of(answer_of((("net a", "1"),), groups=6), "x")[-1]


def test_why_the_best_trial_differs_is_said_where_it_does() -> None:
    answers = {"V1": answer_of(()), "V4": answer_of((), "2")}
    assert why_the_best_trial_differs({"V1": "1", "V4": "2"}, "select.prediction", answers) is None
    reason = why_the_best_trial_differs({"V1": "1", "V4": "3"}, "select.prediction", answers)
    assert reason is not None
    assert "V4 at 3, its own best being 2" in reason
    assert "V1" not in reason


def printed(storage: str) -> str:
    text = io.StringIO()
    show(storage, Console(file=text, width=160, highlight=False))
    return text.getvalue()


def test_a_sweep_of_noise_shows_short_bars_and_no_star(
    experiment: dict[str, Any], recording: Path, tmp_path: Path
) -> None:
    responses = np.load(recording / "responses.npy")
    noise = np.random.default_rng(0).normal(size=responses.shape).astype(responses.dtype)
    np.save(recording / "responses.npy", noise)
    plan = plan_of({**experiment, "scores": ["prediction", "interval"]}, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    text = printed(plan.storage)
    assert "a full bar is 1.00" in text
    bars = [line for line in text.splitlines() if "█" in line]
    assert all(line.count("█") <= 8 for line in bars)
    assert text.count("NOT above chance") == 2
    assert "*" not in text


def test_signal_gets_a_star_and_a_sweep_without_the_score_a_remedy(experiment: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of({**experiment, "scores": ["prediction", "interval"]}, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    text = printed(plan.storage)
    assert "; above chance (p = " in text
    assert sum(line.rstrip().endswith(" *") for line in text.splitlines()) == 2
    bare = plan_of(experiment, tmp_path / "bare")
    run_inline(bare)
    write_experiment(bare)
    text = printed(bare.storage)
    assert f"sweeps score {bare.storage} --scores interval" in text.replace("\n", " ").replace("  ", " ")
    assert not any(line.rstrip().endswith(" *") for line in text.splitlines())
