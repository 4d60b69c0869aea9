"""The search space: what a grid holds, and that every way to a configuration leads to the same one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.errors import InputError
from sweeps.experiment.cells import Planner
from sweeps.experiment.domains import Range
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import Split
from sweeps.experiment.space import Space
from sweeps.hashing import canonical
from sweeps.recordings.recording import RecordingFacts
from sweeps.search.optuna_space import encode, suggest

AREAS = ("V1", "V4")
FACTS = [RecordingFacts("a", "0" * 20, {"V1": 4, "V4": 5}, 300, 300, 1, ("fit",))]


def space(**raw: Any) -> Space:
    return read_space({"backbone": "pixels", "readout": "ridge"} | raw, AREAS)


def trial_id(configuration: dict[str, Any]) -> str:
    planner = Planner(FACTS, Split())
    return planner.trial_id(planner.cells(configuration))


# -- grids ------------------------------------------------------------------------------------------


def test_a_grid_is_the_product_of_its_lists() -> None:
    held = space(
        backbone=["pixels", {"efficientnet-lite0": {"weights": ["imagenet", "random"]}}],
        depth={"V1": [0], "V4": "all"},
        readout={"ridge": {"alpha": ["auto", 0.1], "pool": 4}},
        seed=[0, 1, 2],
    )
    grid = list(held.grid())
    assert len(grid) == held.size() == (1 + 2 * 16) * 2 * 3
    assert len({canonical(configuration) for configuration in grid}) == len(grid)
    assert {configuration["depth"]["V1"] for configuration in grid} == {0}
    lite = [each for each in grid if each["backbone"]["name"] == "efficientnet-lite0"]
    assert {each["depth"]["V4"] for each in lite} == set(range(16))
    assert {each["readout"]["pool"] for each in grid} == {4}


def test_defaults_are_filled_in_and_nothing_else_is_there() -> None:
    [only] = space(depth={"V1": 0}).grid()
    assert only == {
        "backbone": {"name": "pixels"},
        "depth": {"V1": 0},
        "readout": {"name": "ridge", "alpha": "auto", "pool": 7, "delays": 0, "layer": "fixed", "refit": True},
        "seed": 0,
    }


def test_parameters_live_only_under_the_choice_that_owns_them() -> None:
    held = space(readout=[{"ridge": {"alpha": [0.1, 1]}}, {"gaussian": {"l1": [0, 1, 2]}}], depth={"shared": "all"})
    grid = list(held.grid())
    assert len(grid) == 2 + 3
    for each in grid:
        assert ("alpha" in each["readout"]) == (each["readout"]["name"] == "ridge")
        assert ("l1" in each["readout"]) == (each["readout"]["name"] == "gaussian")


def test_a_readout_that_does_not_fit_a_backbone_is_not_tried_with_it() -> None:
    held = space(backbone=["pixels", {"conv": {"layers": 1}}], readout=["ridge", "gaussian"], depth={"shared": "all"})
    pairs = [(each["backbone"]["name"], each["readout"]["name"]) for each in held.grid()]
    assert pairs == [("pixels", "ridge"), ("pixels", "gaussian"), ("conv", "gaussian")]


def test_shared_depth_ties_all_areas() -> None:
    held = space(backbone="efficientnet-lite0", depth={"shared": [3, 1]})
    assert [each["depth"] for each in held.grid()] == [{"V1": 1, "V4": 1}, {"V1": 3, "V4": 3}]


def test_all_follows_the_layers_of_a_core() -> None:
    held = space(backbone={"conv": {"layers": [2, 3]}}, readout="gaussian", depth={"V4": "all"})
    assert [(each["backbone"]["layers"], each["depth"]["V4"]) for each in held.grid()] == [
        (2, 0), (2, 1), (3, 0), (3, 1), (3, 2),
    ]  # fmt: skip


def test_overlapping_choices_and_repeated_values_are_tried_once() -> None:
    held = space(
        backbone=["efficientnet-lite0", {"efficientnet-lite0": {"weights": ["random", "imagenet", "random"]}}],
        depth={"V1": [1, 1, 0]},
        seed=[0, 0],
    )
    grid = list(held.grid())
    assert len(grid) == held.size() == 4
    assert len({canonical(each) for each in grid}) == 4


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"low": 1, "high": 3, "steps": 5}, [1.0, 1.5, 2.0, 2.5, 3.0]),
        ({"low": 0.001, "high": 1, "log": True, "steps": 4}, [0.001, 0.01, 0.1, 1.0]),
    ],
)
def test_steps(raw: dict[str, Any], expected: list[float]) -> None:
    held = space(readout={"ridge": {"alpha": raw}}, depth={"V1": 0})
    values = [each["readout"]["alpha"] for each in held.grid()]
    assert values == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"low": 1, "high": 4, "steps": 10}, [1, 2, 3, 4]),
        ({"low": 1, "high": 1000, "log": True, "steps": 4}, [1, 10, 100, 1000]),
    ],
)
def test_steps_of_integers_are_integers_and_come_once(raw: dict[str, Any], expected: list[int]) -> None:
    values = [each["readout"]["pool"] for each in space(readout={"ridge": {"pool": raw}}, depth={"V1": 0}).grid()]
    assert values == expected
    assert all(type(value) is int for value in values)


def test_a_continuous_space_has_no_size() -> None:
    held = space(readout={"ridge": {"alpha": {"low": 0.1, "high": 1}}})
    assert held.size() is None
    assert held.continuous() == "space.readout.ridge.alpha"


@pytest.mark.parametrize(
    "spellings",
    [
        ["ridge", {"ridge": {}}, [{"ridge": {"alpha": "auto"}}], {"ridge": {"pool": 7, "alpha": ["auto"]}}],
        [{"ridge": {"alpha": 1}}, {"ridge": {"alpha": 1.0}}],
    ],
)
def test_two_spellings_are_one_configuration(spellings: list[Any]) -> None:
    grids = [[(canonical(each), trial_id(each)) for each in space(readout=raw).grid()] for raw in spellings]
    assert all(grid == grids[0] for grid in grids)


def test_the_order_of_areas_and_backbones_changes_no_identity() -> None:
    one = space(depth={"V1": 0, "V4": 0}, backbone=["pixels", "efficientnet-lite0"])
    two = space(depth={"V4": 0, "V1": 0}, backbone=["efficientnet-lite0", "pixels"])
    assert {trial_id(each) for each in one.grid()} == {trial_id(each) for each in two.grid()}


def test_what_means_nothing_beside_the_others_makes_no_configurations() -> None:
    """A parameter that is idle has its default: two trials that mean the same are the same."""
    srp = {"srp-ridge": {"kernel": ["projection", "centred"], "projection_seed": [1, 2], "eps": [0.2, 0.3]}}
    held = space(readout=srp, depth={"V1": 0})
    grid = list(held.grid())
    assert len(grid) == held.size() == 4 + 1
    [centred] = [each["readout"] for each in grid if each["readout"]["kernel"] == "centred"]
    assert (centred["projection_seed"], centred["eps"]) == (0, 0.1)
    gaussian = {"gaussian": {"balance": ["none", "areas"], "group": [0.0, 0.1], "group_over": ["channels", "units"]}}
    frozen = [each["readout"] for each in space(readout=gaussian, depth={"V1": 0}).grid()]
    assert [(each["group"], each["group_over"], each["balance"]) for each in frozen] == [
        (0.0, "channels", "none"), (0.1, "channels", "none"), (0.1, "units", "none"),
    ]  # fmt: skip
    trained = space(backbone={"conv": {"layers": 1}}, readout=gaussian, depth={"V1": 0})
    assert trained.size() == 2 * 3


def test_every_idle_parameter_names_one_of_its_component() -> None:
    for components in (BACKBONES, READOUTS):
        for name, component in components.items():
            for key, parameter in component.parameters.items():
                for other, values in parameter.idle.items():
                    assert other in component.parameters, f"{name}.{key}"
                    assert all(component.parameters[other].accepts(value) for value in values), f"{name}.{key}"
            assert set(
                component.settled({key: held.default for key, held in component.parameters.items()}).items()
            ) == {(key, held.default) for key, held in component.parameters.items()}


def test_an_unknown_key_has_its_nearest_match() -> None:
    with pytest.raises(InputError, match=r"space\.readout\.ridge\.aplha: unknown key; .*did you mean 'alpha'\?"):
        space(readout={"ridge": {"aplha": 1}})


# -- drawn and asked --------------------------------------------------------------------------------

numbers = st.floats(0.01, 100, allow_nan=False)
alphas = st.one_of(
    st.lists(st.one_of(st.just("auto"), numbers), min_size=1, max_size=3),
    st.tuples(numbers, numbers, st.booleans())
    .filter(lambda held: held[0] < held[1])
    .map(lambda held: {"low": held[0], "high": held[1], "log": held[2]}),
)
pools = st.one_of(
    st.integers(1, 9),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.tuples(st.integers(1, 9), st.integers(10, 30), st.booleans()).map(
        lambda held: {"low": held[0], "high": held[1], "log": held[2]}
    ),
)
ridges = st.fixed_dictionaries({}, optional={"alpha": alphas, "pool": pools}).map(lambda held: {"ridge": held})
projected = st.fixed_dictionaries(
    {"kernel": st.sampled_from(["centred", ["projection", "zscored"]])},
    optional={
        "projection_seed": st.sampled_from([3, [1, 2], {"low": 4, "high": 9}]),
        "eps": numbers.map(lambda x: x / 200),
    },
).map(lambda held: {"srp-ridge": held})
gaussians = st.fixed_dictionaries({}, optional={"loss": st.just(["gaussian", "poisson"]), "pool": pools}).map(
    lambda held: {"gaussian": held}
)
lites = st.sampled_from(["efficientnet-lite0", {"efficientnet-lite0": {"weights": ["random", "imagenet"]}}])
cores = st.fixed_dictionaries({"layers": st.sampled_from([2, [2, 4], {"low": 2, "high": 5}])}).map(
    lambda held: {"conv": held}
)
listed = st.one_of(st.just("all"), st.lists(st.integers(0, 1), min_size=1, max_size=3))
depths = st.one_of(
    st.fixed_dictionaries({"shared": listed}),
    st.fixed_dictionaries({"V1": listed}, optional={"V4": listed}),
)
spaces = st.fixed_dictionaries(
    {
        "backbone": st.lists(st.one_of(lites, cores), min_size=1, max_size=3),
        "depth": depths,
        "readout": st.tuples(gaussians, st.lists(st.one_of(ridges, gaussians, projected), max_size=2)).map(
            lambda held: [held[0], *held[1]]
        ),
        "seed": st.lists(st.integers(0, 5), min_size=1, max_size=4),
    }
).map(lambda raw: read_space(raw, AREAS))


@settings(max_examples=60, deadline=None)
@given(spaces, st.integers(0, 2**20))
def test_what_is_drawn_is_encoded_and_suggested_again(held: Space, seed: int) -> None:
    drawn = held.sample(np.random.default_rng(seed))
    assert suggest(held, optuna.trial.FixedTrial(encode(held, drawn))) == drawn


@settings(max_examples=30, deadline=None)
@given(spaces, st.integers(0, 2**20))
def test_what_optuna_suggests_is_encoded_again(held: Space, seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    asked = suggest(held, trial)
    assert suggest(held, optuna.trial.FixedTrial(encode(held, asked))) == asked


@settings(max_examples=60, deadline=None)
@given(spaces, st.integers(0, 2**20))
def test_draws_lie_inside(held: Space, seed: int) -> None:
    drawn = held.sample(np.random.default_rng(seed))
    for family, choices in (("backbone", held.backbones), ("readout", held.readouts_for(drawn["backbone"]))):
        values = drawn[family]
        assert any(
            choice.name == values["name"]
            and set(values) == {"name", *choice.domains}
            and all(
                inside(domain, values[key]) or choice.component.parameters[key].is_idle(values)
                for key, domain in choice.domains.items()
            )
            for choice in choices
        )
    assert set(drawn["depth"]) == set(held.areas)
    for area, block in drawn["depth"].items():
        assert block in held.depth_values(area, drawn["backbone"])
    assert not held.depths.shared or len(set(drawn["depth"].values())) == 1
    assert drawn["seed"] in held.seeds
    assert held.readouts_for(drawn["backbone"])
    canonical(drawn)


def inside(domain: Any, value: Any) -> bool:
    if isinstance(domain, Range):
        return type(value) is (int if domain.integer else float) and domain.low <= value <= domain.high
    return value in domain.values


def test_integers_of_a_range_are_drawn_equally_often() -> None:
    random = np.random.default_rng(0)
    counts = np.bincount([Range(1, 4, integer=True).draw(random.random()) for _ in range(8000)])[1:]
    assert np.abs(counts / 2000 - 1).max() < 0.1


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e6), st.booleans(), st.floats(0, 1))
def test_a_range_holds_its_ends(low: float, factor: float, log: bool, share: float) -> None:
    held = Range(low, low * factor, log)
    assert held.low <= held.at(share) <= held.high
    assert held.at(0.0) == pytest.approx(held.low)
    assert held.at(1.0) == pytest.approx(held.high)
    if log:
        assert held.at(0.5) == pytest.approx(math.sqrt(held.low * held.high))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"depth": {"V1": 1, "V4": 2}},
        {"depth": {"V1": 1}},
        {"depth": {"V1": 9, "V4": 9}},
        {"backbone": {"name": "pixels"}},
        {"readout": {"name": "ridge", "alpha": 3.0, "pool": 7}},
    ],
)
def test_what_an_edited_space_no_longer_holds(change: dict[str, Any]) -> None:
    held = space(backbone="efficientnet-lite0", depth={"shared": [1, 2]})
    configuration = next(held.grid())
    encode(held, configuration)
    with pytest.raises(KeyError):
        encode(held, configuration | change)
