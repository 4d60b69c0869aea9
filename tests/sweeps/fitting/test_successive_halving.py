"""Successive halving: which fits are ended, and what becomes of their rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline import plan_of, run_inline, trials_of

import sweeps
from models.readouts import READOUTS
from models.training.frozen_backbone import FrozenFit, fit_frozen_many
from sweeps.errors import InputError
from sweeps.fitting.successive_halving import RungScores, SuccessiveHalving
from sweeps.storage.load import load

Writer = Callable[..., Path]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40, unique=True), st.integers(2, 5))
def test_a_fit_goes_on_if_it_is_among_the_best_that_have_come(scores: list[float], factor: int) -> None:
    rungs = RungScores(factor)
    for turn, score in enumerate(scores):
        come = scores[: turn + 1]
        best = sorted(come, reverse=True)[: math.ceil(len(come) / factor)]
        assert rungs.stays("V1", 4, str(turn), score) == (len(come) < factor or score in best)


def test_groups_and_rungs_are_apart_and_a_fit_counts_once() -> None:
    rungs = RungScores(2)
    assert rungs.stays("V1", 4, "a", 0.9)
    assert rungs.stays("V4", 4, "b", 0.1)
    assert rungs.stays("V1", 8, "c", 0.1)
    assert rungs.stays("V1", 4, "a", 0.2)  # again, after its process died
    assert rungs.stays("V1", 4, "d", 0.5)
    assert not rungs.stays("V1", 4, "e", math.nan)
    assert rungs.scores["V1", 4] == [-math.inf, 0.2, 0.5]


@pytest.mark.parametrize(("first", "factor", "rungs"), [(1, 2, [1, 2, 4, 8, 16]), (4, 3, [4, 12]), (6, 3, [6, 18])])
def test_rungs(first: int, factor: int, rungs: list[int]) -> None:
    halving = SuccessiveHalving(first, factor, lambda *_: True)
    assert [epochs for epochs in range(1, 20) if halving.rung(epochs)] == rungs


def test_a_stack_and_single_fits_ask_the_same() -> None:
    import torch

    draws = torch.Generator().manual_seed(0)
    maps = torch.randn(120, 4, 5, 5, generator=draws)
    responses = maps[:, :3, 2, 2] + 0.3 * torch.randn(120, 3, generator=draws)
    parameters = {name: each.default for name, each in READOUTS["gaussian"].parameters.items()}
    asked: dict[str, list[tuple[Any, ...]]] = {}
    for path in ("stack", "each"):
        heard = asked[path] = []

        def ask(group: str, epochs: int, fit: str, score: float, heard: list[tuple[Any, ...]] = heard) -> bool:
            heard.append((fit, epochs, score))
            return fit != "1"

        halving = SuccessiveHalving(2, 2, ask)
        wanted = []
        for turn, (l1, seed) in enumerate([(0.0, 0), (0.1, 0), (0.0, 1)]):
            chosen = parameters | {"loss": "gaussian", "epochs": 9, "l1": l1}
            rows, pruner = (torch.arange(80), torch.arange(80, 120)), halving.pruner("V1", str(turn))
            wanted.append(FrozenFit("gaussian", [maps], responses, *rows, chosen, seed, None, True, pruner))
        found = dict(each for done in fit_frozen_many(wanted, path) for each in done)
        assert [found[turn].pruned for turn in range(3)] == [False, True, False]
        assert torch.equal(found[1].select(maps), found[1].report(maps)), "an ended fit has no second one"
    single, stacked = sorted(asked["each"]), sorted(asked["stack"])
    assert [each[:2] for each in single] == [each[:2] for each in stacked]
    assert [each[1] for each in single if each[0] == "0"] == [2, 4, 8]
    assert np.allclose([each[2] for each in single], [each[2] for each in stacked], atol=1e-4)


def experiment_of(folder: Path, **search: Any) -> dict[str, Any]:
    return {
        "name": "halved",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {
            "backbone": "pixels",
            "depth": {"V1": [0]},
            "readout": {"gaussian": {"loss": "gaussian", "epochs": 6, "pool": 6, "l1": [0, 0.01, 0.1, 1, 10, 100]}},
            "seed": 0,
        },
        "scores": ["prediction"],
        "search": {"method": "grid", **search},
    }


def test_losers_are_rows_with_their_scores_that_are_final_under_the_same_settings(
    make_recording: Writer, tmp_path: Path
) -> None:
    folder = make_recording(tmp_path / "data" / "small")
    halved = experiment_of(folder, halving={"first": 1, "factor": 2})
    first = run_inline(plan_of(halved, tmp_path))
    trials = trials_of(plan_of(halved, tmp_path))
    lost = trials[trials["status"] == "pruned"]
    assert 0 < len(lost) < len(trials) == 6
    assert first.progress.pruned == len(lost)
    assert lost["select.prediction"].notna().all()
    assert set(lost["halving"]) == {'{"factor":2,"first":1}'}
    assert trials.loc[trials["status"] == "done", "halving"].isna().all()
    best = trials["select.prediction"].idxmax()
    assert trials["status"][best] == "done"

    assert run_inline(plan_of(halved, tmp_path)).progress.executed == 0

    whole = experiment_of(folder)
    again = run_inline(plan_of(whole, tmp_path))
    assert again.progress.executed == len(lost)
    cells = load(str(tmp_path / "results"), "cells")
    assert set(cells["status"]) == {"done"}
    assert set(trials_of(plan_of(whole, tmp_path))["status"]) == {"done"}

    assert run_inline(plan_of(halved, tmp_path)).progress.executed == 0, "done rows are final under any settings"


def test_other_settings_run_the_losers_again(make_recording: Writer, tmp_path: Path) -> None:
    folder = make_recording(tmp_path / "data" / "small")
    run_inline(plan_of(experiment_of(folder, halving={"first": 1, "factor": 2}), tmp_path))
    lost = (load(str(tmp_path / "results"))["status"] == "pruned").sum()
    other = run_inline(plan_of(experiment_of(folder, halving={"first": 2, "factor": 2}), tmp_path))
    assert other.progress.executed == lost > 0


def test_a_new_score_is_taken_of_losers_too_and_never_ends_a_finished_cell(
    make_recording: Writer, tmp_path: Path
) -> None:
    folder = make_recording(tmp_path / "data" / "small")
    halved = experiment_of(folder, halving={"first": 1, "factor": 2}) | {"compute": {"fits_gb": 0}}
    run_inline(plan_of(halved, tmp_path))
    before = load(str(tmp_path / "results")).set_index("trial_id")["status"]
    run_inline(plan_of(halved | {"scores": ["prediction", "feve"]}, tmp_path))
    after = load(str(tmp_path / "results")).set_index("trial_id")
    assert (after["status"][before.index[before == "done"]] == "done").all()
    assert after["select.feve"].notna().all()


def test_halving_without_descent_is_refused(make_recording: Writer, tmp_path: Path) -> None:
    experiment = experiment_of(make_recording(tmp_path / "data" / "small"), halving={"first": 1})
    experiment["space"]["readout"] = "ridge"
    with pytest.raises(InputError, match="no readout of the space is fitted so") as caught:
        plan_of(experiment, tmp_path)
    assert caught.value.key == "search.halving"


@pytest.mark.slow
def test_workers_of_a_cluster_ask_one_actor(make_recording: Writer, tmp_path: Path) -> None:
    """Packs of one cell on two workers: what a fit is compared with comes from both."""
    folder = make_recording(tmp_path / "data" / "small")
    halved = experiment_of(folder, halving={"first": 1, "factor": 2}) | {"compute": {"cells_per_pack": 1}}
    places = {"storage": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    result = sweeps.run(halved, cpus=2, **places)
    counts = result.trials["status"].value_counts()
    assert counts["pruned"] >= 1, "with one actor for each worker three fits each would rarely end"
    assert counts["done"] >= 1
    assert result.progress.pruned == counts["pruned"]
    assert sweeps.run(halved, cpus=2, **places).progress.executed == 0
