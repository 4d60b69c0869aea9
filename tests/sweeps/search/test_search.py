"""Which configuration next: grids and random draws that can be repeated, and Optuna asked and told."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline, run_simulated, trials_of

from sweeps.errors import InputError
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import Search
from sweeps.experiment.space import Configuration, Space
from sweeps.hashing import canonical
from sweeps.planning import scheduler
from sweeps.search.history import MOST, History, best
from sweeps.search.methods import make_proposer
from sweeps.search.optuna_search import ASK, POPULATION, OptunaSearch
from sweeps.search.proposer import ALL_AT_ONCE, TRIES, Listed, Proposer

PREDICTION, DIMENSIONALITY = "select.prediction", "select.dimensionality"
PLANTED = {"V1": 3, "V4": 9}
Objective = Callable[[Configuration], dict[str, float] | None]


def space(**raw: Any) -> Space:
    return read_space({"backbone": "efficientnet-lite0", "readout": "ridge"} | raw, list(PLANTED))


def proposer(held: Space, method: str, seed: int = 0, objectives: tuple[str, ...] = (PREDICTION,)) -> Any:
    trials = None if method == "grid" else 100
    raw = {"method": method, "trials": trials, "seed": seed, "objectives": list(objectives)}
    return make_proposer(held, Search.model_validate(raw))


def first(found: Proposer, count: int) -> list[str]:
    batches = iter(found.propose, [])
    return [canonical(each) for each in itertools.islice(itertools.chain.from_iterable(batches), count)]


def planted(configuration: Configuration) -> dict[str, float]:
    """Best where every area is read from its planted depth."""
    return {PREDICTION: -float(sum((configuration["depth"][area] - block) ** 2 for area, block in PLANTED.items()))}


def search(found: OptunaSearch, objective: Objective, batches: int) -> list[Configuration]:
    """Ask and tell as the sweep does: an equal configuration is told each time that it is asked."""
    asked = []
    for _ in range(batches):
        for configuration in found.propose():
            asked.append(configuration)
            found.tell(configuration, objective(configuration))
    return asked


# -- grid and random --------------------------------------------------------------------------------


def test_a_grid_is_proposed_once_in_order() -> None:
    held = space(depth={"shared": "all"}, seed=[0, 1])
    found = proposer(held, "grid")
    assert isinstance(found, Listed)
    assert not found.adaptive
    assert first(found, 100) == [canonical(each) for each in held.grid()]
    assert found.propose() == []
    assert found.notices() == []


def test_a_large_grid_comes_in_batches() -> None:
    found = proposer(space(seed=list(range(400)), depth={"shared": "all"}), "grid")
    assert [len(batch) for batch in iter(found.propose, [])] == [ALL_AT_ONCE, 400 * 16 - ALL_AT_ONCE]


def test_a_grid_over_a_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.readout\.ridge\.alpha\.steps: a grid needs `steps`"):
        proposer(space(readout={"ridge": {"alpha": {"low": 0.1, "high": 1}}}), "grid")


def test_random_is_the_same_sequence_again_and_another_with_another_seed() -> None:
    held = space(readout={"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}}})
    one, two, other = (first(proposer(held, "random", seed), 300) for seed in (0, 0, 1))
    assert one == two
    assert not set(one) & set(other)


def test_random_draws_nothing_twice_and_ends_when_there_is_nothing_new() -> None:
    held = space(depth={"shared": "all"}, seed=[0, 1])
    drawn = first(proposer(held, "random"), 10**6)
    assert len(drawn) == len(set(drawn)) == held.size() == 32
    assert set(drawn) == {canonical(each) for each in held.grid()}


def test_sobol_is_the_same_sequence_again_and_another_with_another_seed() -> None:
    held = space(readout={"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}}})
    one, two, other = (first(proposer(held, "sobol", seed), 99) for seed in (0, 0, 1))
    assert one == two
    assert len(set(one)) == 99
    assert not set(one) & set(other)


@pytest.mark.parametrize("seed", range(3))
def test_sobol_fills_a_range_more_evenly_than_random_draws(seed: int) -> None:
    """The largest hole among 64 draws from a range: 1 / 64 if they were even, over 4 / 64 at random."""
    held = space(readout={"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}}}, depth={"shared": "all"})
    holes = {}
    for method in ("sobol", "random"):
        drawn = [json.loads(each) for each in first(proposer(held, method, seed), 64)]
        shares = np.sort([(math.log10(each["readout"]["alpha"]) + 1) / 2 for each in drawn])
        holes[method] = np.diff([0, *shares, 1]).max() * 64
        blocks = np.bincount([each["depth"]["V1"] for each in drawn], minlength=16)
        if method == "sobol":
            assert set(blocks) == {4}
    assert holes["sobol"] < 2.5 < holes["random"]


def test_sobol_tries_everything_where_there_is_no_more() -> None:
    held = space(depth={"shared": "all"}, seed=[0, 1])
    assert set(first(proposer(held, "sobol"), 10**6)) == {canonical(each) for each in held.grid()}


# -- Optuna -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_tpe_finds_the_planted_depths_before_a_grid_would(seed: int) -> None:
    """A grid has tried 256 / 2 configurations, on average, when it comes to the best one."""
    held = space(depth={"V1": "all", "V4": "all"})
    asked = search(proposer(held, "tpe", seed), planted, batches=128 // ASK)
    distinct = {canonical(each): planted(each)[PREDICTION] for each in asked}
    assert held.size() == 256
    assert len(distinct) < 128
    assert max(distinct.values()) == 0.0


MANY = {f"A{index}": 5 * index % 16 for index in range(8)}
"""Areas and their planted depths: 16^8 maps."""


def nearness(configuration: Configuration) -> dict[str, float]:
    """Minus the blocks by which all areas miss their planted depths: -45 for random maps."""
    return {PREDICTION: -float(sum(abs(configuration["depth"][area] - block) for area, block in MANY.items()))}


def mean_of(batch: list[Configuration]) -> float:
    return float(np.mean([nearness(each)[PREDICTION] for each in batch]))


@pytest.mark.parametrize("seed", range(3))
def test_nsga2_breeds_and_goes_on_from_the_rows_of_an_earlier_run(seed: int) -> None:
    """Twelve generations halve the distance at least twice; a search that is taken up again does not lose that."""
    depth = dict.fromkeys(MANY, "all")
    held = read_space({"backbone": "efficientnet-lite0", "readout": "ridge", "depth": depth}, list(MANY))
    found = proposer(held, "nsga2", seed)
    asked = search(found, nearness, batches=12)
    assert len(asked) == 12 * POPULATION
    first, last = mean_of(asked[:POPULATION]), mean_of(asked[-POPULATION:])
    assert first < -40
    assert last > first / 2
    again = proposer(held, "nsga2", seed + 1)
    for configuration, scores in found.history:
        assert again.adopt(configuration, scores)
    assert mean_of(again.propose()) > first / 2


def test_nsga2_takes_several_objectives() -> None:
    """A twin that is good at one and one that is good at the other both stay in the population."""
    held = space(depth={"V1": "all", "V4": [0]})

    def two(configuration: Configuration) -> dict[str, float]:
        block = configuration["depth"]["V1"]
        return {PREDICTION: -abs(block - 2), DIMENSIONALITY: -abs(block - 13)}

    found = proposer(held, "nsga2", objectives=(PREDICTION, DIMENSIONALITY))
    search(found, two, batches=4)
    front = {tuple(trial.values) for trial in found.study.best_trials}
    assert front <= {(-abs(block - 2), -abs(block - 13)) for block in range(2, 14)}
    assert {(0, -11), (-11, 0)} <= front


def test_tpe_repeats_itself() -> None:
    held = space(depth={"shared": "all"}, readout={"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}}})
    one, two = (search(proposer(held, "tpe"), planted, batches=2) for _ in range(2))
    assert one == two


def test_what_is_asked_twice_is_told_twice() -> None:
    found = proposer(space(depth={"shared": [0, 1]}), "tpe")
    batch = found.propose()
    assert len(batch) == ASK
    for configuration in {canonical(each): each for each in batch}.values():
        found.tell(configuration, planted(configuration))
    assert len(found.study.get_trials(deepcopy=False)) == ASK
    assert {trial.state.name for trial in found.study.get_trials(deepcopy=False)} == {"COMPLETE"}


def test_a_search_goes_on_where_everything_fails() -> None:
    found = proposer(space(), "tpe")
    search(found, lambda configuration: None, batches=2)
    assert {trial.state.name for trial in found.study.get_trials(deepcopy=False)} == {"COMPLETE"}
    assert found.notices() == []
    assert len(found.propose()) == ASK


def test_two_objectives_find_both_ends() -> None:
    def both(configuration: Configuration) -> dict[str, float]:
        depth = configuration["depth"]["V1"]
        return {PREDICTION: -float(depth), DIMENSIONALITY: float(depth)}

    found = proposer(space(depth={"shared": "all"}), "tpe", objectives=(PREDICTION, DIMENSIONALITY))
    depths = [each["depth"]["V1"] for each in search(found, both, batches=4)]
    assert {0, 15} <= set(depths)
    assert len(found.study.directions) == 2
    assert {trial.values[0] for trial in found.study.best_trials} == {-float(depth) for depth in set(depths)}


def test_an_objective_that_is_never_a_number_is_dropped_with_a_notice() -> None:
    found = proposer(space(), "tpe", objectives=(PREDICTION, DIMENSIONALITY))
    assert found.notices() == []
    asked = search(found, lambda each: planted(each) | {DIMENSIONALITY: math.nan}, batches=8)
    assert found.notices() == [f"objective {DIMENSIONALITY} is NaN throughout and was dropped"]
    assert len(found.study.directions) == 1
    best = max(planted(each)[PREDICTION] for each in asked[ASK:])
    assert best >= max(planted(each)[PREDICTION] for each in asked[:ASK])


def test_an_objective_that_becomes_a_number_is_taken_up() -> None:
    found = proposer(space(), "tpe", objectives=(PREDICTION, DIMENSIONALITY))
    search(found, lambda each: planted(each) | {DIMENSIONALITY: math.nan}, batches=1)
    search(found, lambda each: planted(each) | {DIMENSIONALITY: 1.0}, batches=2)
    assert found.notices() == []
    assert len(found.study.directions) == 2


def test_nothing_but_nan_is_an_error() -> None:
    found = proposer(space(), "tpe")
    search(found, lambda each: {PREDICTION: math.nan}, batches=1)
    with pytest.raises(InputError, match=r"search\.objectives = .*every objective is NaN throughout"):
        found.propose()


def test_finished_trials_of_an_earlier_run_are_learnt() -> None:
    held = space(depth={"V1": "all", "V4": "all"})
    found = proposer(held, "tpe")
    for configuration in held.grid():
        assert found.adopt(configuration, planted(configuration))
    scores = [planted(configuration)[PREDICTION] for configuration in found.propose()]
    chance = [planted(configuration)[PREDICTION] for configuration in held.grid()]
    assert len(found.study.get_trials(deepcopy=False)) == 256 + ASK
    assert sum(scores) / len(scores) > sum(chance) / len(chance) / 3


def test_trials_that_an_edited_space_does_not_hold_are_left_out() -> None:
    found = proposer(space(depth={"shared": [0, 1]}), "tpe")
    other = next(space(depth={"V1": [0], "V4": [1]}).grid())
    assert not found.adopt(other, planted(other))
    assert len(found.history) == 0


# -- the history ------------------------------------------------------------------------------------


def far() -> Space:
    """A space of which nothing is asked twice."""
    return space(readout={"ridge": {"alpha": {"low": 0.1, "high": 10, "log": True}}})


def states(found: OptunaSearch) -> list[str]:
    return [trial.state.name for trial in found.study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_the_study_stays_small_and_keeps_what_runs_and_what_is_best(method: str) -> None:
    found = proposer(far(), method)
    found.history.most = 40
    running = found.propose(3)
    most = -math.inf
    for _ in range(300):
        [asked] = found.propose(1)
        score = -abs(math.log(asked["readout"]["alpha"] / 3))
        most = max(most, score)
        found.tell(asked, {PREDICTION: score})
        assert len(states(found)) <= 2 * 40 + 4 + 3
        assert states(found).count("RUNNING") == 3
        assert found.study.best_value == most
    for each in running:
        found.tell(each, {PREDICTION: 1000.0})
    assert states(found).count("RUNNING") == 0
    assert found.study.best_value == 1000.0


def test_what_is_asked_depends_on_the_order_of_the_calls_alone() -> None:
    def asked(order: list[int]) -> list[str]:
        found = proposer(far(), "tpe")
        found.history.most = 12
        texts = []
        for _ in range(15):
            batch = found.propose(4)
            texts += [canonical(each) for each in batch]
            for place in order:
                found.tell(batch[place], {PREDICTION: -abs(math.log(batch[place]["readout"]["alpha"]))})
        return texts

    assert asked([0, 1, 2, 3]) == asked([0, 1, 2, 3])
    assert asked([0, 1, 2, 3]) != asked([3, 2, 1, 0])


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7, 40, 200])
def test_the_best_are_the_first_fronts(columns: int, count: int) -> None:
    """No row that is left out beats one that is chosen, and every objective's own best is among them."""
    values = np.round(np.random.default_rng(columns).random((90, columns)), 2)
    values[[5, 50]] = np.nan
    chosen = set(best(values, count).tolist())
    assert len(chosen) == min(count, 88)
    for row in set(range(90)) - chosen - {5, 50}:
        assert not any((values[row] >= values[each]).all() and (values[row] > values[each]).any() for each in chosen)
    if count >= 7:
        assert np.array_equal(values[sorted(chosen)].max(axis=0), np.nanmax(values, axis=0))


def test_of_a_front_that_is_too_large_the_least_crowded_stay() -> None:
    along = np.array([0.0, 0.01, 0.02, 0.5, 0.98, 0.99, 1.0])
    assert best(np.column_stack([along, 1 - along]), 3).tolist() == [0, 3, 6]


def test_the_history_holds_the_best_and_the_newest_of_distinct_configurations() -> None:
    history = History([PREDICTION])
    scores = np.random.default_rng(1).random(5 * MOST)
    for number, score in enumerate(scores):
        history.add({"seed": number}, {PREDICTION: float(score)})
        history.add({"seed": number}, {PREDICTION: float(score)})
    history.add({"seed": -1}, None)
    history.thin()
    held = {configuration["seed"] for configuration, _ in history}
    assert (history.count, history.scored, len(held)) == (10 * MOST + 1, 10 * MOST, MOST)
    assert set(np.argsort(scores)[-MOST // 4 :]) <= held
    assert set(range(5 * MOST - MOST // 2, 5 * MOST)) <= held


# -- in a sweep -------------------------------------------------------------------------------------


@pytest.fixture
def searched(experiment: dict[str, Any]) -> dict[str, Any]:
    """The small experiment, searched: 4 trials in all."""
    experiment["space"] |= {"backbone": "pixels", "depth": {"shared": "all"}, "seed": [0, 1]}
    experiment["space"]["readout"] = {"ridge": {"pool": [2, 4]}}
    experiment["scores"] = ["prediction"]
    return experiment


def test_a_search_ends_after_ten_batches_of_nothing_new(searched: dict[str, Any], tmp_path: Path) -> None:
    searched["search"] = {"method": "tpe", "trials": 50, "batch": 4}
    plan = plan_of(searched, tmp_path)
    sweep = run_inline(plan)
    assert (sweep.progress.trials, sweep.progress.done, len(trials_of(plan))) == (4, 4, 4)
    assert sweep.proposals.stale == TRIES
    assert sweep.finished


def test_a_search_goes_on_where_it_ended(searched: dict[str, Any], tmp_path: Path) -> None:
    searched["space"]["readout"] = {"ridge": {"alpha": {"low": 0.01, "high": 10, "log": True}, "pool": 2}}
    searched["search"] = {"method": "tpe", "trials": 4, "batch": 2}
    first_run = run_inline(plan_of(searched, tmp_path))
    assert (first_run.progress.done, first_run.progress.known) == (4, 0)
    searched["search"]["trials"] = 6
    plan = plan_of(searched, tmp_path)
    second = run_inline(plan)
    assert (second.progress.trials, second.progress.done, second.progress.known) == (6, 2, 4)
    assert len(trials_of(plan)) == 6


def unequal(pack: Any) -> float:
    """Seconds of a pack: from 1 to 16, by its cells."""
    return float(sum(1 + int(cell.cell_id[:1], 16) for cell in pack.cells))


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
@pytest.mark.parametrize("workers", [2, 7])
def test_no_worker_waits_while_trials_are_to_be_proposed(
    searched: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, workers: int
) -> None:
    monkeypatch.setattr(scheduler, "TURN_SECONDS", math.inf)  # the simulated clock knows no asking
    searched["space"]["readout"] = {"ridge": {"alpha": {"low": 0.01, "high": 10, "log": True}, "pool": 2}}
    searched["search"] = {"method": method, "trials": 50}
    plan = plan_of(searched, tmp_path)
    sweep, in_vain = run_simulated(plan, workers, unequal)
    assert in_vain == []
    assert (sweep.progress.trials, sweep.progress.done, len(trials_of(plan))) == (50, 50, 50)


def test_trials_are_told_one_by_one_and_asked_by_what_is_known(searched: dict[str, Any], tmp_path: Path) -> None:
    """While one pack runs on, the others come and go, and each is known to the study when the next is asked."""
    searched["space"]["readout"] = {"ridge": {"alpha": {"low": 0.01, "high": 10, "log": True}, "pool": 2}}
    searched["search"] = {"method": "tpe", "trials": 30}
    slowest = []

    def seconds(pack: Any) -> float:
        slowest.append(pack.cells[0].cell_id)
        return 1000.0 if len(slowest) == 1 else 1.0

    sweep, _ = run_simulated(plan_of(searched, tmp_path), 2, seconds)
    found = sweep.proposals.proposer
    assert isinstance(found, OptunaSearch)
    assert states(found)[0] == "COMPLETE"
    times = [trial.datetime_complete for trial in found.study.get_trials(deepcopy=False)]
    assert times[0] == max(times)
    assert sweep.progress.done == 30


def test_one_worker_repeats_itself(searched: dict[str, Any], tmp_path: Path) -> None:
    searched["space"]["readout"] = {"ridge": {"alpha": {"low": 0.01, "high": 10, "log": True}, "pool": 2}}
    searched["search"] = {"method": "tpe", "trials": 30}
    plans = [plan_of(searched, tmp_path / name) for name in ("one", "two")]
    for plan in plans:
        run_inline(plan)
    one, two = (list(trials_of(plan).index) for plan in plans)
    assert one == two


@pytest.mark.parametrize("method", ["tpe", "nsga2"])
def test_several_workers_find_all_of_a_small_space(searched: dict[str, Any], tmp_path: Path, method: str) -> None:
    """A worker waits where a batch brought nothing new; the search does not end for that while a trial is open."""
    searched["search"] = {"method": method, "trials": 50, "batch": 4}
    sweep, _ = run_simulated(plan_of(searched, tmp_path), 3, unequal)
    assert (sweep.progress.trials, sweep.progress.done) == (4, 4)
    assert sweep.proposals.stale >= TRIES


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_listed_search_is_resumed_in_the_same_order(searched: dict[str, Any], tmp_path: Path, method: str) -> None:
    """Whatever was finished before, the same trials are found in the end."""
    if method == "random":
        searched["search"] = {"method": "random", "trials": 3}
    whole = run_inline(plan_of(searched, tmp_path / "whole"))
    half = searched | {"search": {"method": "random", "trials": 1, "seed": whole.experiment.search.seed}}
    run_inline(plan_of(half, tmp_path / "parts"))
    again = run_inline(plan_of(searched, tmp_path / "parts"))
    assert again.progress.known == 1
    assert again.progress.done == whole.progress.done - 1
    expected = trials_of(plan_of(searched, tmp_path / "whole"))
    assert list(trials_of(plan_of(searched, tmp_path / "parts")).index) == list(expected.index)
