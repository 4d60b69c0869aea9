"""More scores for a finished sweep: nothing is fitted again, nothing that was known is lost."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline import ProcessDied, plan_of, run_inline
from registries import declare_version
from rich.console import Console

from sweeps.commands.rescore import choose, plan_scores
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.planning.plan import Plan
from sweeps.report.score_table import show_chosen
from sweeps.scores import SCORES
from sweeps.scores.view import CellView
from sweeps.storage.current_rows import experiment_of
from sweeps.storage.load import load

Experiment = dict[str, Any]


def run(experiment: Experiment, folder: Path) -> Plan:
    plan = plan_of(experiment, folder)
    run_inline(plan)
    write_experiment(plan)
    return plan


def no_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any, jobs: list[Any], halving: Any) -> list[Any]:
        return [[(number, AssertionError("a stored fit was fitted again"))] for number in range(len(jobs))]

    monkeypatch.setattr("sweeps.fitting.fit_cells.fit_jobs", refuse)


def scores_of(frame: pd.DataFrame) -> pd.DataFrame:
    columns = [c for c in frame.columns if c.startswith(("select.", "score."))]
    return frame[columns].astype(float)


MIXED = {
    "backbone": ["efficientnet-lite0", {"conv": {"epochs": 1, "layers": 2, "channels": 4}}],
    "depth": {"shared": [0, 1]},
    "readout": [{"ridge": {"pool": 4}}, {"gaussian": {"loss": "poisson", "epochs": 2, "pool": 4}}],
}


def test_a_new_score_of_a_finished_sweep_fits_nothing_again(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = {**experiment, "space": MIXED, "scores": ["prediction"]}
    wider = {**mixed, "scores": ["prediction", "interval", "feve", "dimensionality", "likelihood"]}
    first = run(mixed, tmp_path)
    before = load(first.storage, "cells").set_index("cell_id")
    assert set(before["status"]) == {"done"}, before["error"].dropna().tolist()
    no_fitting(monkeypatch)
    sweep = run_inline(plan_of(wider, tmp_path))
    assert sweep.progress.cells_done == len(before)
    after = load(first.storage, "cells").set_index("cell_id").loc[before.index]
    assert after["error"].isna().all()
    monkeypatch.undo()
    afresh = run(wider, tmp_path / "afresh")
    expected = load(afresh.storage, "cells").set_index("cell_id").loc[before.index]
    pd.testing.assert_frame_equal(scores_of(after), scores_of(expected)[scores_of(after).columns], rtol=1e-6)
    assert (after["score.prediction"] == before["score.prediction"]).all()
    assert len(load(first.storage, "bootstraps")) == len(before)
    again = run_inline(plan_of(wider, tmp_path))
    assert again.progress.executed == 0


def test_without_the_kept_fits_the_cells_are_fitted_again(experiment: Experiment, tmp_path: Path) -> None:
    small = {**experiment, "scores": ["prediction"], "compute": {"fits_gb": 0}}
    first = run(small, tmp_path)
    assert not list((tmp_path / "cache" / "fits").rglob("*.*"))
    before = load(first.storage, "cells").set_index("cell_id")
    run_inline(plan_of({**small, "scores": ["prediction", "feve"]}, tmp_path))
    after = load(first.storage, "cells").set_index("cell_id").loc[before.index]
    assert after["score.feve"].notna().all()
    assert (after["score.prediction"] == before["score.prediction"]).all()


def test_a_score_that_cannot_be_added_leaves_the_rest_and_is_not_tried_for_ever(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**experiment, "scores": ["prediction"], "compute": {"fits_gb": 0}}
    first = run(small, tmp_path)
    before = load(first.storage, "cells").set_index("cell_id")
    no_fitting(monkeypatch)
    wider = {**small, "scores": ["prediction", "feve"]}
    run_inline(plan_of(wider, tmp_path))
    after = load(first.storage, "cells").set_index("cell_id").loc[before.index]
    assert (after["status"] == "done").all()
    assert after["error"].str.contains("a stored fit was fitted again").all()
    assert (after["score.prediction"] == before["score.prediction"]).all()
    assert after["score.feve"].isna().all()
    assert run_inline(plan_of(wider, tmp_path)).progress.executed == 0
    monkeypatch.undo()
    run_inline(plan_of(wider, tmp_path), retry_failed=True)
    healed = load(first.storage, "cells").set_index("cell_id").loc[before.index]
    assert healed["score.feve"].notna().all()
    assert healed["error"].isna().all()


def test_chosen_trials_get_scores_and_the_others_do_not(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(experiment, tmp_path)
    stored = experiment_of(first.storage)
    trials = load(first.storage).sort_values("select.prediction", ascending=False)
    no_fitting(monkeypatch)
    plan, choice = plan_scores(first.storage, ["feve"], "best:2", cache=str(tmp_path / "cache"))
    assert list(choice.trials["trial_id"]) == list(trials["trial_id"][:2])
    sweep = run_inline(plan)
    assert sweep.progress.trials == 2
    after = load(first.storage).set_index("trial_id").loc[trials["trial_id"]]
    assert after["score.feve"].notna().tolist()[:2] == [True, True]
    cells = load(first.storage, "cells").set_index("cell_id")
    places = [c for c in after.columns if c.startswith("cell.")]
    scored = set(cells.index[cells["score.feve"].notna()])
    assert scored == set(after[places].iloc[:2].to_numpy().ravel())
    pd.testing.assert_series_equal(
        after["score.prediction"], trials.set_index("trial_id")["score.prediction"], check_exact=True
    )
    assert experiment_of(first.storage) == stored
    assert run_inline(plan_scores(first.storage, ["feve"], "best:2")[0]).progress.executed == 0
    assert run_inline(plan_of(experiment, tmp_path)).progress.executed == 0


def test_choosing() -> None:
    trials = pd.DataFrame(
        {
            "trial_id": ["aa1", "aa2", "bb1", "cc1"],
            "status": ["done", "done", "done", "failed"],
            "select.prediction": [0.1, 0.3, math.nan, 0.9],
        }
    )

    def chosen(wanted: str) -> list[str]:
        return list(choose(trials, "select.prediction", wanted)["trial_id"])

    assert chosen("all") == ["aa1", "aa2", "bb1"]
    assert chosen("best:1") == ["aa2"]
    assert chosen("best:9") == ["aa2", "aa1", "bb1"]
    assert chosen("bb, aa2,bb1") == ["bb1", "aa2"]
    for wanted, problem in (
        ("best:0", "not a number"),
        ("best:x", "not a number"),
        ("aa", "several trials"),
        ("cc1", "no done trial"),
        ("", "no done trial"),
        ("zz", "no done trial"),
    ):
        with pytest.raises(InputError, match=problem):
            chosen(wanted)


def test_what_is_asked_wrongly_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sweep has written here"):
        plan_scores(str(tmp_path / "nothing"), ["feve"], "all")
    first = run({**experiment, "scores": ["prediction"]}, tmp_path)
    with pytest.raises(InputError, match="unknown score"):
        plan_scores(first.storage, ["fever"], "all")
    responses = Path(experiment["recordings"][0]["path"]) / "responses.npy"
    np.save(responses, np.load(responses) + 1)
    with pytest.raises(InputError, match="have changed since this trial"):
        plan_scores(first.storage, ["feve"], "all")


def test_the_new_scores_are_printed(experiment: Experiment, tmp_path: Path) -> None:
    first = run({**experiment, "scores": ["prediction"]}, tmp_path)
    plan, choice = plan_scores(first.storage, ["feve", "nonlinearity"], "best:4", cache=str(tmp_path / "cache"))
    run_inline(plan)
    held = io.StringIO()
    show_chosen(first.storage, list(choice.trials["trial_id"]), choice.scores, Console(file=held, width=120))
    text = held.getvalue()
    areas = load(first.storage, "areas").set_index(["trial_id", "area"])
    best = choice.trials["trial_id"].iloc[0]
    assert f"{areas.loc[(best, 'V4'), 'score.feve']:.3f}" in text
    assert "nonlinearity is NaN throughout: a linear readout" in text
    assert "all 4 trials: sweeps.load" in text
    assert text.count("trial ") >= 3


def failing(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[[CellView], bool]) -> None:
    """Let a score raise for some views."""
    original = SCORES[name].load()

    def compute(view: CellView) -> dict[str, float]:
        if when(view):
            raise OSError("no room; try later")
        return original(view)

    monkeypatch.setattr(f"{SCORES[name].module}.compute", compute)


@pytest.mark.parametrize("kept", [5.0, 0.0])
def test_an_error_in_one_area_of_a_trained_twin_is_tried_again_on_the_whole_twin(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    space = {
        "backbone": {"conv": {"epochs": 2, "layers": 2, "channels": 4}},
        "depth": {"V1": [0], "V4": [1]},
        "readout": {"gaussian": {"loss": "gaussian", "epochs": 2}},
    }
    twin = {**experiment, "space": space, "scores": ["prediction", "feve"], "compute": {"fits_gb": kept}}
    failing(monkeypatch, "feve", lambda view: view.common_units == len(view.units))  # V1, the smaller area
    first = run(twin, tmp_path)
    before = load(first.storage, "cells").set_index("area").loc[["V1", "V4"]]
    assert before["error"].notna().tolist() == [True, False]
    monkeypatch.undo()
    run_inline(plan_of(twin, tmp_path), retry_failed=True)
    after = load(first.storage, "cells").set_index("area").loc[["V1", "V4"]]
    assert after["error"].isna().all()
    assert after["score.feve"].notna().all()
    np.testing.assert_allclose(after["score.prediction"], before["score.prediction"], rtol=1e-6)


def test_what_a_fit_gave_stays_when_adding_a_score_kills_every_process(experiment: Experiment, tmp_path: Path) -> None:
    small = {**experiment, "scores": ["prediction"]}
    first = run(small, tmp_path)
    before = load(first.storage, "cells").set_index("cell_id")

    def die(_: Any) -> None:
        raise ProcessDied("killed")

    wider = {**small, "scores": ["prediction", "feve"], "compute": {"max_failures": 0}}
    run_inline(plan_of(wider, tmp_path), before=die)
    after = load(first.storage, "cells").set_index("cell_id").loc[before.index]
    columns = ["status", "alpha", "units", "stimuli", "groups", "outer_folds", "score.prediction"]
    pd.testing.assert_frame_equal(after[columns], before[columns])
    assert after["error"].str.contains("killed").all()
    held = io.StringIO()
    assert show_chosen(first.storage, [load(first.storage)["trial_id"][0]], ["feve"], Console(file=held, width=120))
    assert "killed" in held.getvalue()
    assert "NaN throughout" not in held.getvalue()
    assert run_inline(plan_of(wider, tmp_path)).progress.executed == 0


def test_an_error_goes_when_its_score_has_a_new_version(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**experiment, "scores": ["prediction", "feve"]}
    failing(monkeypatch, "feve", lambda view: True)
    first = run(small, tmp_path)
    assert load(first.storage, "cells")["error"].str.contains("no room; try later").all()
    monkeypatch.undo()
    declare_version(monkeypatch, SCORES, "feve", SCORES["feve"].version + 1)
    run_inline(plan_of(small, tmp_path))
    after = load(first.storage, "cells")
    assert after["score.feve"].notna().all()
    assert after["error"].isna().all()


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_trials_of_a_continuous_search_can_be_scored(experiment: Experiment, tmp_path: Path, method: str) -> None:
    space = {**experiment["space"], "readout": {"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}, "pool": 4}}}
    found = {**experiment, "space": space, "scores": ["prediction"], "search": {"method": method, "trials": 4}}
    first = run(found, tmp_path)
    sweep = run_inline(plan_scores(first.storage, ["feve"], "best:2")[0])
    assert sweep.progress.trials == 2
    assert load(first.storage)["score.feve"].notna().sum() == 2


def test_trials_of_a_backbone_that_is_no_longer_tried_can_be_scored(experiment: Experiment, tmp_path: Path) -> None:
    both = {**experiment["space"], "backbone": ["efficientnet-lite0", "pixels"], "depth": {"shared": [0]}}
    run({**experiment, "space": both, "scores": ["prediction"]}, tmp_path)
    one = {**both, "backbone": "pixels"}
    first = run({**experiment, "space": one, "scores": ["prediction"]}, tmp_path)
    every = ",".join(load(first.storage)["trial_id"])  # "all" are those of the present experiment
    run_inline(plan_scores(first.storage, ["dimensionality-battery"], every)[0])
    cells = load(first.storage, "cells")
    assert cells["error"].isna().all()
    assert cells["score.features_flat_two_nn"].notna().all()


def test_the_cache_of_the_sweep_is_found_again(experiment: Experiment, tmp_path: Path) -> None:
    first = run({**experiment, "scores": ["prediction"]}, tmp_path)
    assert plan_scores(first.storage, ["feve"], "all")[0].cache == str(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert plan_scores(first.storage, ["feve"], "all")[0].cache != str(tmp_path / "cache")
