"""Searches are not drawn to where trials fail or have no score: as little as to where scores are known to be bad."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration
from sweeps.hashing import canonical
from sweeps.search.history import History
from sweeps.search.methods import make_proposer
from sweeps.search.optuna_search import ASK, OptunaSearch

PREDICTION, DIMENSIONALITY = "select.prediction", "select.dimensionality"
BEST, BAD = 0.3, -1.0
TRIALS = 60
SETS = {"a": 0.0, "b": BEST, "c": 0.6}
"""Where c fails or has no score, the best numbers lie beside what is bad: at b."""

Scores = dict[str, float] | None
OUTCOMES: dict[str, dict[str, float] | None] = {
    "bad": {PREDICTION: BAD, DIMENSIONALITY: -21.0},
    "nan": {PREDICTION: math.nan, DIMENSIONALITY: math.nan},
    "one-nan": {PREDICTION: math.nan},
    "failed": None,
}


def proposer(method: str, objectives: tuple[str, ...] = (PREDICTION,), seed: int = 0) -> OptunaSearch:
    """A search over 3 feature sets x 20 penalties x 40 seeds."""
    raw = {
        "backbone": [{"features": {"set": list(SETS)}}],
        "depth": {"V1": [0]},
        "readout": [{"ridge": {"alpha": [float(alpha) for alpha in range(1, 21)]}}],
        "seed": list(range(40)),
    }
    settings = {"method": method, "trials": TRIALS, "objectives": list(objectives), "seed": seed}
    found = make_proposer(read_space(raw, ["V1"]), Search.model_validate(settings))
    assert isinstance(found, OptunaSearch)
    return found


def scores(configuration: Configuration, outcome: str) -> Scores:
    name, alpha = configuration["backbone"]["set"], configuration["readout"]["alpha"]
    values = {PREDICTION: SETS[name] - abs(alpha - 12) / 40, DIMENSIONALITY: -alpha}
    if name != "c":
        return values
    bad = OUTCOMES[outcome]
    return None if bad is None else {**values, **bad}


def search(found: OptunaSearch, outcome: str, trials: int = TRIALS) -> tuple[float, float]:
    """Ask and tell one by one, until so many distinct ones were asked; the share of c, and the best prediction."""
    asked: list[str] = []
    best = -math.inf
    known: set[str] = set()
    while len(known) < trials and len(asked) < 10 * trials:
        [configuration] = found.propose(1)
        known.add(canonical(configuration))
        asked.append(configuration["backbone"]["set"])
        values = scores(configuration, outcome)
        best = best if asked[-1] == "c" or values is None else max(best, values[PREDICTION])
        found.tell(configuration, values)
    return asked.count("c") / len(asked), best


def compared(method: str, objectives: tuple[str, ...], outcome: str, seeds: range) -> tuple[float, float, float, float]:
    """Mean share of c and mean best prediction, for an outcome and where c is told to be bad."""
    sums = [0.0] * 4
    for seed in seeds:
        ends = [search(proposer(method, objectives, seed), kind) for kind in (outcome, "bad")]
        sums = [total + value for total, value in zip(sums, (*ends[0], *ends[1]), strict=True)]
    share, best, bad_share, bad_best = (total / len(seeds) for total in sums)
    return share, best, bad_share, bad_best


@pytest.mark.parametrize("outcome", ["nan", "failed"])
@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_a_search_avoids_what_has_no_score(method: str, outcome: str) -> None:
    """Were such trials told as failed, tpe would ask 73 % and more of its configurations of them."""
    share, best, bad_share, bad_best = compared(method, (PREDICTION,), outcome, range(1, 2))
    assert share <= bad_share + 0.1
    assert best >= bad_best - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [(PREDICTION,), (PREDICTION, DIMENSIONALITY)], ids=["one", "two"])
@pytest.mark.parametrize("outcome", ["nan", "failed", "one-nan"])
@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_what_has_no_score_is_asked_no_more_than_what_is_known_to_be_bad(
    method: str, outcome: str, objectives: tuple[str, ...]
) -> None:
    share, best, bad_share, bad_best = compared(method, objectives, outcome, range(6))
    assert share <= bad_share + 0.04
    assert best >= bad_best - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [(PREDICTION,), (PREDICTION, DIMENSIONALITY)], ids=["one", "two"])
@pytest.mark.parametrize("outcome", ["nan", "failed"])
@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_a_search_that_goes_on_avoids_what_had_no_score(method: str, outcome: str, objectives: tuple[str, ...]) -> None:
    shares: dict[str, float] = {}
    for kind in (outcome, "bad"):
        total = 0.0
        for seed in range(6):
            before, again = proposer(method, objectives, seed), proposer(method, objectives, seed + 100)
            search(before, kind)
            for configuration, values in before.history:
                assert again.adopt(configuration, values)
            total += search(again, kind)[0] / 6
        shares[kind] = total
    assert shares[outcome] <= shares["bad"] + 0.04


def told(found: OptunaSearch) -> list[list[float]]:
    """What the study knows of the trials that have ended."""
    trials = found.study.get_trials(deepcopy=False)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.RUNNING}
    return [trial.values for trial in trials if trial.state == TrialState.COMPLETE]


def test_what_is_no_number_is_told_as_worse_than_all_that_was_seen() -> None:
    found = proposer("tpe", (PREDICTION, DIMENSIONALITY))
    values: list[Any] = [
        {PREDICTION: 0.5, DIMENSIONALITY: 9.0},
        {PREDICTION: 0.1, DIMENSIONALITY: 5.0},
        None,
        {PREDICTION: math.nan, DIMENSIONALITY: 7.0},
        {PREDICTION: 0.3, DIMENSIONALITY: math.nan},
        {PREDICTION: math.inf, DIMENSIONALITY: 6.0},
    ]
    for configuration, outcome in zip(found.propose(len(values)), values, strict=True):
        found.tell(configuration, outcome)
    bad = [pytest.approx(0.1 - 0.4), pytest.approx(5.0 - 4.0)]
    assert told(found) == [[0.5, 9.0], [0.1, 5.0], bad, [bad[0], 7.0], [0.3, bad[1]], [bad[0], 6.0]]


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_bad_values_stay_the_worst_when_worse_numbers_come(method: str) -> None:
    """Also of trials that failed before there was any number, and in a study that is begun anew."""
    found = proposer(method)
    first, second, third, fourth = found.propose(4)
    found.tell(first, None)
    found.tell(second, {PREDICTION: -50.0})
    found.tell(third, {PREDICTION: -40.0})
    found.propose(1)
    assert sorted(value for [value] in told(found)) == [-60.0, -50.0, -40.0]
    found.tell(fourth, {PREDICTION: -70.0})
    found.propose(1)
    assert min(told(found)) == [-100.0]
    again = proposer(method)
    for configuration, values in found.history:
        again.adopt(configuration, values)
    again.propose(1)
    assert sorted(value for [value] in told(again)) == [-100.0, -70.0, -50.0, -40.0]


def test_a_pruned_trial_is_told_with_the_scores_that_it_had() -> None:
    found = proposer("tpe", (PREDICTION, DIMENSIONALITY))
    one, two = found.propose(2)
    found.tell(one, {PREDICTION: 0.4, DIMENSIONALITY: 8.0})
    found.tell(two, {PREDICTION: 0.2, DIMENSIONALITY: math.nan})  # dimensionality is scored at the end of a fit
    assert told(found) == [[0.4, 8.0], [0.2, 7.0]]


def test_a_trial_that_failed_counts_as_no_score_and_is_replaced_when_it_is_run_again() -> None:
    history = History([PREDICTION])
    history.add({"seed": 0}, None)
    assert (history.count, history.scored, history.numbered, history.below(PREDICTION)) == (1, 0, set(), -1.0)
    history.add({"seed": 0}, {PREDICTION: 0.5})
    assert list(history) == [({"seed": 0}, {PREDICTION: 0.5})]
    assert history.below(PREDICTION) < 0.5


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_where_nothing_fails_the_study_is_not_made_anew(method: str) -> None:
    """Proposals are then those of earlier versions."""
    found = proposer(method)
    found.propose(1)
    study = found.study
    for number in range(2 * ASK):
        [configuration] = found.propose(1)
        found.tell(configuration, {PREDICTION: -float(number)})
    assert found.study is study
