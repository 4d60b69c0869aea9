"""Depths: blocks read together, words, and named maps; what they mean in cells and rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline, trials_of

from sweeps.errors import InputError
from sweeps.experiment.depths import ANATOMY, AreaDepths, DepthMaps, blocks_of, depth_text, resolve
from sweeps.experiment.parse_space import read_space
from sweeps.search.optuna_space import encode, suggest
from sweeps.storage.load import load

AREAS = ("V1", "LM", "RL", "AL")
CORE = {"conv": {"layers": 8, "channels": 2, "epochs": 1}}


def space(depth: Any, backbone: Any = "efficientnet-lite0", **more: Any) -> Any:
    """A space over four areas."""
    readout = "gaussian" if isinstance(backbone, dict) else "ridge"
    return read_space({"backbone": backbone, "depth": depth, "readout": readout, **more}, AREAS)


def depths(held: Any) -> list[dict[str, Any]]:
    """The depth maps of a grid."""
    return [each["depth"] for each in held.grid()]


def test_a_list_inside_the_list_is_read_together() -> None:
    grid = depths(space({"V1": [5, [7, 3, 5, 3], [2]]}))
    assert [each["V1"] for each in grid] == [2, 5, [3, 5, 7]]


def test_words_follow_the_backbone() -> None:
    grid = depths(space({"V1": ["last", "every"]}, backbone=["pixels", "efficientnet-lite0"]))
    assert [each["V1"] for each in grid] == [0, list(range(16)), 15]
    grid = depths(space({"shared": ["all", "every"]}, backbone=["pixels", "efficientnet-lite0"]))
    assert [each["AL"] for each in grid] == [0, *range(16), list(range(16))]


@pytest.mark.parametrize(("entry", "blocks", "depth"), [("last", 4, 3), ("every", 3, (0, 1, 2)), ("every", 1, 0)])
def test_a_word_is_a_depth(entry: str, blocks: int, depth: Any) -> None:
    assert resolve(entry, blocks) == depth


def test_depths_as_texts() -> None:
    assert [depth_text(depth) for depth in (5, (3, 7), [0, 1])] == ["5", "3+7", "0+1"]
    assert blocks_of([3, 7]) == (3, 7)


def test_readout_modes_are_maps() -> None:
    maps = {"areas": "anatomical", "last": "last", "all": "every", "own": {"V1": 0, "LM": 1, "RL": 1, "AL": [1, 2]}}
    grid = depths(space({"maps": maps}, CORE))
    assert grid == [
        {"V1": 5, "LM": 6, "RL": 6, "AL": 7},
        dict.fromkeys(AREAS, 7),
        {area: list(range(8)) for area in AREAS},
        {"V1": 0, "LM": 1, "RL": 1, "AL": [1, 2]},
    ]


def test_the_anatomical_map_has_the_paper_s_blocks() -> None:
    """Counted from one: 6, 7, 7, 8 of eight blocks, 6, 7, 8, 9 of nine; of two streams 6, 7 and 7', 8' (8 and 9)."""
    assert {area: block + 1 for area, block in ANATOMY[8].items()} == {"V1": 6, "LM": 7, "RL": 7, "AL": 8}
    assert {area: block + 1 for area, block in ANATOMY[9].items()} == {"V1": 6, "LM": 7, "RL": 8, "AL": 9}
    assert ANATOMY[10] == {"V1": 5, "LM": 6, "RL": 8, "AL": 9}


def test_random_maps_are_drawn_by_the_seed() -> None:
    held = space({"maps": {"null": "random"}}, CORE, seed=list(range(40)))
    drawn = depths(held)
    assert drawn == depths(held)
    assert len({str(each) for each in drawn}) > 30
    assert {each["V1"] for each in drawn} == set(range(8))
    assert len({each["V1"] == each["AL"] for each in drawn}) == 2  # areas are drawn one by one


def test_a_map_is_named_again() -> None:
    maps = DepthMaps(AREAS, {"low": dict.fromkeys(AREAS, 0), "null": "random"})
    drawn = maps.resolved("null", 8, 3)
    assert maps.name_of(drawn, 8, 3) == "null"
    assert maps.name_of({"V1": 0}, 8, 3) == "low"
    assert maps.name_of({"V1": [0, 1]}, 8, 3) is None


entries = st.one_of(st.integers(0, 7), st.lists(st.integers(0, 7), min_size=1, max_size=3), st.sampled_from(["last"]))
lists = st.lists(entries, min_size=1, max_size=4)
sections = st.one_of(
    st.fixed_dictionaries({"shared": lists}),
    st.fixed_dictionaries({"V1": lists, "AL": st.one_of(st.just("all"), lists)}),
    st.fixed_dictionaries({"maps": st.just({"a": "last", "b": "every", "c": "anatomical"})}),
)


@settings(max_examples=40, deadline=None)
@given(sections, st.integers(0, 2**20))
def test_what_optuna_suggests_is_encoded_again(section: Any, seed: int) -> None:
    held = space(section, CORE, seed=[0, 1])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    asked = suggest(held, study.ask())
    assert suggest(held, optuna.trial.FixedTrial(encode(held, asked))) == asked
    assert asked in list(held.grid())
    assert held.size() == len(list(held.grid()))


def test_a_depth_that_is_not_listed_is_not_encoded() -> None:
    held = AreaDepths({"V1": (1, (2, 3))})
    assert held.encode({"V1": [2, 3]}, 8, 0) == {"depth.V1@8": (2, 3)}
    for depth in ({"V1": 2}, {"V1": [1, 3]}, {"V4": 1}):
        with pytest.raises(KeyError):
            held.encode(depth, 8, 0)


def test_blocks_read_together_have_cells_of_their_own(experiment: dict[str, Any], tmp_path: Path) -> None:
    held = experiment["space"] | {"depth": {"V1": [0, 2, [0, 2]]}, "seed": 0}
    plan = plan_of(experiment | {"space": held}, tmp_path)
    run_inline(plan)
    cells = load(plan.storage, "cells").set_index("blocks").sort_index()
    assert cells["depth"].to_dict() == {"0": 0, "0+2": 2, "2": 2}
    assert set(cells["status"]) == {"done"}, cells["error"].tolist()
    assert cells["score.prediction"].nunique() == 3
    assert set(trials_of(plan)["config.blocks.V1"]) == {"0", "2", "0+2"}


OF_CLIPS = {"factorised3d": {"channels": "4-4-4"}}


@pytest.mark.parametrize("depth", [{"V1": [[0, 1], 1]}, {"shared": ["every"]}, {"maps": {"all": "every"}}])
def test_a_latent_readout_reads_one_block(depth: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the readout latent reads one block, not several together"):
        space(depth, backbone=OF_CLIPS, readout=["gaussian", "latent"])
    assert space(depth, backbone=OF_CLIPS, readout="gaussian").size()


@pytest.mark.parametrize("key", ["behaviour", "gaze"])
def test_a_latent_readout_takes_no_account_of(key: str) -> None:
    told = {"factorised3d": {"channels": "4-4-4", key: [False, True]}}
    with pytest.raises(
        InputError, match=rf"space\.backbone\.factorised3d\.{key} = .*the readout latent takes no account"
    ):
        space({"V1": 0}, backbone=told, readout="latent")
    assert space({"V1": 0}, backbone=told, readout="gaussian").size() == 2
