"""The answer: recovered depth, Pareto front, contrasts, and what `show` prints."""

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

from sweeps.commands.run import write_experiment
from sweeps.experiment.schema import Contrast, Side
from sweeps.report.answers.analysis import are_recovered, by_depth, compare, pareto_front, recovered
from sweeps.report.terminal import _verdict, bar, show
from sweeps.storage.load import load


def cell(
    name: str, area: str, depth: int, score: float, recording: str = "r", weights: str = "imagenet"
) -> dict[str, Any]:
    return {
        "cell_id": name,
        "status": "done",
        "recording": recording,
        "area": area,
        "depth": depth,
        "config.backbone": "efficientnet-lite0",
        "config.backbone.weights": weights,
        "config.readout": "ridge",
        "config.seed": 0,
        "select.prediction": score,
        "score.prediction": score,
    }


def test_scores_by_depth_are_means_over_recordings() -> None:
    cells = pd.DataFrame(
        [
            cell("a", "V1", 2, 0.6),
            cell("b", "V1", 2, 0.1, "s"),
            cell("c", "V1", 1, 0.3, weights="random"),
        ]
    )
    held = by_depth(cells).set_index(["twin", "depth"])["select"]
    assert held[("efficientnet-lite0 imagenet", 2)] == pytest.approx(0.35)
    assert held[("efficientnet-lite0 random", 1)] == pytest.approx(0.3)


def test_a_depth_is_recovered_only_from_the_teacher_itself() -> None:
    teacher = {"backbone": "efficientnet-lite0", "weights": "imagenet"}
    cells = pd.DataFrame([cell("a", "V1", 7, 0.5), cell("b", "V1", 1, 0.6, weights="random")])
    [answer] = recovered(cells).to_dict("records")
    assert (answer["depth"], answer["config.backbone.weights"]) == (1, "random")
    assert not are_recovered(recovered(cells), teacher, [1, 2]).any()
    better = recovered(pd.concat([cells, pd.DataFrame([cell("c", "V1", 2, 0.7)])]))
    assert are_recovered(better, teacher, [1, 2]).tolist() == [True]
    assert not are_recovered(better, teacher, [1]).any()
    assert are_recovered(recovered(cells.iloc[:0]), teacher, [1]).empty


def test_twins_that_predict_the_same_are_all_named() -> None:
    teacher = {"backbone": "efficientnet-lite0", "weights": "imagenet"}
    cells = pd.DataFrame([cell("a", "V1", 2, 0.6, weights="random"), cell("b", "V1", 2, 0.6), cell("c", "V1", 1, 0.5)])
    answers = recovered(cells)
    assert answers["cell_id"].tolist() == ["a", "b"]
    assert are_recovered(answers, teacher, [2]).tolist() == [False, True]
    tie = "a tie with efficientnet-lite0 random"
    assert _verdict(answers, are_recovered(answers, teacher, [2])) == ("2", f"recovered, {tie}")
    neither = _verdict(answers, are_recovered(answers, teacher, [1]))
    assert neither == (
        "2",
        "NOT recovered, read from efficientnet-lite0 random, a tie with efficientnet-lite0 imagenet",
    )
    assert _verdict(answers.iloc[:0], pd.Series(dtype=bool)) == ("-", "NOT recovered")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_front_holds_exactly_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    trials = pd.DataFrame(points, columns=["select.a", "select.b"]).assign(status="done")
    front = set(pareto_front(trials, ["select.a", "select.b"]).index)
    for index, (a, b) in enumerate(points):
        beaten = any(c >= a and d >= b and (c > a or d > b) for c, d in points)
        assert (index in front) != beaten


def test_a_contrast_is_the_paired_difference_of_means_over_recordings() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=1000)
    cells = pd.DataFrame(
        [
            cell("a", "V1", 1, 0.5),
            cell("b", "V1", 2, 0.4),
            cell("c", "V1", 9, 0.2),
            cell("d", "V1", 1, 0.9, "s"),
            cell("e", "V1", 9, 0.6, "s"),
            cell("f", "V4", 1, 9.0),
        ]
    )
    draws = {name: value + shared for name, value in zip("abcde", (0.5, 0.4, 0.2, 0.9, 0.6), strict=True)}
    bootstraps = pd.DataFrame({"cell_id": list(draws), "replicates": list(draws.values())})
    found = compare(cells, bootstraps, Contrast(name="x", area="V1", left=Side(depth=[1, 2]), right=Side(depth=[9])))
    assert found is not None
    assert found.left == pytest.approx((0.45 + 0.9) / 2)
    assert found.right == pytest.approx(0.4)
    assert (found.low, found.high) == (pytest.approx(found.difference), pytest.approx(found.difference))
    assert compare(cells, bootstraps, Contrast(name="x", area="V9")) is None
    lost = cells[cells["cell_id"] != "e"]
    alone = compare(lost, bootstraps, Contrast(name="x", area="V1", left=Side(depth=[1]), right=Side(depth=[9])))
    assert alone is not None
    assert (alone.left, alone.right) == (pytest.approx(0.5), pytest.approx(0.2))
    only = Side(where={"backbone.weights": "random"})
    assert compare(cells, bootstraps, Contrast(name="x", area="V1", left=only)) is None


def test_bars_grow_with_their_share() -> None:
    assert bar(0.0) == bar(float("nan")) == " " * 20
    assert bar(1.0) == "█" * 20
    widths = [bar(share / 160).rstrip() for share in range(161)]
    assert all(len(bar(share / 160)) == 20 for share in range(161))
    assert len(set(widths)) == 161


def test_show_prints_trials_depths_and_contrasts(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["search"] = {"objectives": ["select.prediction", "select.dimensionality"]}
    experiment["contrasts"] = [
        {"name": "shallow over deep", "area": "V1", "left": {"depth": [0]}, "right": {"depth": [2]}}
    ]
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    write_experiment(plan)
    text = io.StringIO()
    show(plan.storage, Console(file=text, width=120, highlight=False))
    printed = text.getvalue()
    for words in (
        "18 done",
        "Best trials by select.prediction",
        "Pareto front",
        "V1: select prediction",
        "shallow over deep",
    ):
        assert words in printed
    assert printed.count("█") > 20
    assert "…" not in printed


def test_rows_of_an_earlier_split_are_kept_but_not_shown(experiment: dict[str, Any], tmp_path: Path) -> None:
    for seed in (0, 5):
        plan = plan_of({**experiment, "split": {"seed": seed}}, tmp_path)
        run_inline(plan)
        write_experiment(plan)
    assert len(load(plan.storage)) == 36
    text = io.StringIO()
    show(plan.storage, Console(file=text, width=120, highlight=False))
    assert "18 done" in text.getvalue()
    assert "30 rows of other data, splits or versions" in text.getvalue()
