"""The size of a space is a product: exact where choices overlap or parameters are idle, and of any number of digits."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of
from rich.console import Console

from sweeps.experiment import domains
from sweeps.experiment.domains import count_points
from sweeps.experiment.parse_space import read_space
from sweeps.experiment.schema import Loader
from sweeps.experiment.space import Space, points
from sweeps.hashing import canonical
from sweeps.planning.packs import MOST_CELLS, count_text, fewest_packs, pack_size
from sweeps.planning.plan import MEETINGS
from sweeps.report.preview import _duration, preview
from sweeps.search.methods import make_proposer

AREAS = ("V1", "V4")
MANY = [0.001 + number / 1000 for number in range(100_000)]


def space(areas: tuple[str, ...] = AREAS, **raw: Any) -> Space:
    return read_space({"backbone": "pixels", "readout": "ridge"} | raw, areas)


# -- exact ------------------------------------------------------------------------------------------

alphas = st.lists(st.sampled_from(["auto", 0.1, 0.2, 1, 1.0]), min_size=1, max_size=3)
pools = st.lists(st.integers(1, 4), min_size=1, max_size=3)
ridges = st.fixed_dictionaries({}, optional={"alpha": alphas, "pool": pools}).map(lambda raw: {"ridge": raw})
projected = st.fixed_dictionaries(
    {},
    optional={
        "kernel": st.lists(st.sampled_from(["projection", "centred", "zscored"]), min_size=1, max_size=3),
        "eps": st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=3),
        "projection_seed": st.lists(st.integers(0, 2), min_size=1, max_size=3),
    },
).map(lambda raw: {"srp-ridge": raw})
gaussians = st.fixed_dictionaries(
    {},
    optional={
        "position": st.lists(st.sampled_from(["free", "coordinates"]), min_size=1, max_size=2),
        "position_l1": st.lists(st.sampled_from([0, 0.1]), min_size=1, max_size=2),
        "position_pull": st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=1, max_size=3),
        "position_anchor": st.lists(st.sampled_from(["centre", "coordinates"]), min_size=1, max_size=2),
        "group": st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=1, max_size=3),
        "group_over": st.lists(st.sampled_from(["channels", "units"]), min_size=1, max_size=2),
        "balance": st.lists(st.sampled_from(["none", "areas"]), min_size=1, max_size=2),
    },
).map(lambda raw: {"gaussian": raw})
lites = st.fixed_dictionaries(
    {}, optional={"weights": st.lists(st.sampled_from(["random", "imagenet"]), min_size=1, max_size=2)}
).map(lambda raw: {"efficientnet-lite0": raw})
cores = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(lambda layers: {"conv": {"layers": layers}})
eccentric = st.fixed_dictionaries(
    {},
    optional={
        "base": st.lists(st.sampled_from(["vgg16", "efficientnet-lite0"]), min_size=1, max_size=2),
        "slopes_scale": st.lists(st.sampled_from([0, 1.0, 2.0]), min_size=1, max_size=3),
        "ring": st.lists(st.sampled_from([1.0, 2.0]), min_size=1, max_size=2),
    },
).map(lambda raw: {"eccentric": {"weights": "random", **raw}})
spaces = st.fixed_dictionaries(
    {
        "backbone": st.lists(st.one_of(lites, cores, eccentric), min_size=1, max_size=3),
        "depth": st.sampled_from([{"shared": [0]}, {"V1": "all", "V4": [0]}, {"shared": "all"}]),
        "readout": st.tuples(gaussians, st.lists(st.one_of(ridges, gaussians, projected), max_size=3)).map(
            lambda raw: [raw[0], *raw[1]]
        ),
        "seed": st.lists(st.integers(0, 5), min_size=1, max_size=3),
    }
)


@settings(max_examples=30, deadline=None)
@given(spaces)
def test_counts_are_those_of_a_walk(raw: dict[str, Any]) -> None:
    held = read_space(raw, AREAS)
    walked: dict[tuple[str, int], int] = {}
    for backbone in points(held.backbones):
        key = backbone["name"], held.blocks(backbone)
        walked[key] = walked.get(key, 0) + 1
        readouts = held.readouts_for(backbone)
        assert held.readout_count(backbone["name"]) == sum(1 for _ in points(readouts))
    assert held.backbone_counts() == walked
    if (size := held.size() or 0) < 500:
        assert size == len({canonical(configuration) for configuration in held.grid()})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.frozensets(st.integers(0, 3), min_size=1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_union_of_boxes_is_counted_as_by_a_walk(sets: list[list[frozenset[int]]]) -> None:
    boxes = [dict(zip("abc", row, strict=True)) for row in sets]
    assert count_points(boxes) == len({point for row in sets for point in itertools.product(*row)})


def test_boxes_that_overlap_in_too_many_ways_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [{"a": frozenset([0, 1]), "b": frozenset([0])}, {"a": frozenset([1]), "b": frozenset([0, 1])}]
    assert count_points(boxes) == 3
    monkeypatch.setattr(domains, "MOST_SPLITS", 1)
    assert count_points(boxes) == 4


# -- large ------------------------------------------------------------------------------------------


def test_sizes_of_any_number_of_digits() -> None:
    """None of these can be walked through."""
    areas = tuple(f"A{number}" for number in range(12))
    maps = space(areas, backbone="efficientnet-lite0", depth=dict.fromkeys(areas, "all"))
    assert maps.size() == 16**12
    readout = {"srp-ridge": {"kernel": ["projection", "centred"], "eps": {"low": 0.1, "high": 0.9, "steps": 100_000}}}
    readout["srp-ridge"]["alpha"] = MANY
    held = space(areas, backbone="efficientnet-lite0", depth=dict.fromkeys(areas, "all"), readout=readout)
    assert held.size() == 16**12 * len(MANY) * (100_000 + 1)
    many = tuple(f"A{number}" for number in range(400))
    assert space(many, backbone="efficientnet-lite0", depth=dict.fromkeys(many, "all")).size() == 16**400


def test_lists_that_do_not_decide_on_the_number_of_blocks_are_not_walked() -> None:
    eccentric = {
        "eccentric": {"base": ["vgg16", "efficientnet-lite0"], "weights": "random", "ring": MANY, "fovea": MANY}
    }
    held = space(backbone=eccentric, depth={"shared": [0]})
    assert {blocks for _, blocks in held.backbone_counts()} == {5, 16}
    assert held.size() == 2 * len(MANY) ** 2


@pytest.mark.parametrize("method", ["grid", "random", "sobol", "tpe", "nsga2"])
def test_a_check_of_a_huge_space_lists_nothing(
    method: str, experiment: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"low": 0.001, "high": 0.9, "steps": 1000}
    experiment["space"]["readout"] = {"srp-ridge": {"eps": steps, "alpha": steps, "projection_seed": list(range(1000))}}
    experiment["space"]["seed"] = list(range(1000))
    trials = {"grid": None, "random": 10**13}.get(method, 50)
    experiment["search"] = {"method": method, **({"trials": trials} if trials else {})}
    plan = plan_of(experiment, tmp_path)
    assert plan.space.size() == 9 * 1000**4
    assert plan.cell_count() == 6 * 1000**4
    assert plan.columns()["cells"]
    assert plan.context().depths == {"efficientnet-lite0": [0, 1, 2]}
    preview(plan, Console(width=200))
    printed = capsys.readouterr().out
    assert f"{6 * 1000**4} distinct cells" in printed
    assert f"{9 * 1000**4} trials over" in printed or method != "grid"
    make_proposer(plan.space, plan.experiment.search)
    if method in ("grid", "tpe", "nsga2"):
        assert make_proposer(plan.space, plan.experiment.search).propose(1)


def test_the_first_configurations_of_a_huge_grid_come_at_once() -> None:
    areas = tuple(f"A{number}" for number in range(12))
    depth = dict.fromkeys(areas, "all")
    held = space(areas, backbone="efficientnet-lite0", depth=depth, readout={"ridge": {"alpha": MANY}})
    first = list(itertools.islice(held.grid(), 20))
    assert len({canonical(configuration) for configuration in first}) == 20


# -- what is said of them ---------------------------------------------------------------------------


def test_a_large_grid_is_warned_of_with_what_random_search_would_fit(
    experiment: dict[str, Any], make_recording: Any, tmp_path: Path
) -> None:
    areas = {"V1": 1, "V2": 1, "V4": 1}
    make_recording(tmp_path / "three", areas=areas, stimuli=20, repeats=1)
    experiment["recordings"] = [{"format": "folder", "path": str(tmp_path / "three"), "image": {"size": 32}}]
    experiment["space"] |= {"depth": dict.fromkeys(areas, "all"), "seed": list(range(300))}
    experiment["scores"] = ["prediction"]
    assert plan_of(experiment, tmp_path).notices == (
        f"a grid of {300 * 16**3} trials over {300 * 16 * 3} distinct cells: "
        f"`search: {{method: random, trials: {MEETINGS * 300 * 16}}}` would fit some 95% of the same cells",
    )
    searched = {**experiment, "search": {"method": "random", "trials": 10}}
    assert plan_of(searched, tmp_path).notices == ()
    experiment["space"]["seed"] = list(range(200))
    assert plan_of(experiment, tmp_path).notices == ()
    tied = {**experiment, "space": {**experiment["space"], "depth": {"shared": "all"}, "seed": list(range(70_000))}}
    [notice] = plan_of(tied, tmp_path).notices
    assert notice.endswith("`search: {method: random, trials: ...}` tries as many as there is time for")


def test_random_trials_fit_as_many_cells_as_is_said() -> None:
    held = space(backbone="efficientnet-lite0", depth=dict.fromkeys(AREAS, "all"), seed=list(range(5)))
    drawn = [held.sample(np.random.default_rng(seed)) for seed in range(MEETINGS * 16 * 5)]
    fitted = {(area, depth, each["seed"]) for each in drawn for area, depth in each["depth"].items()}
    assert 0.9 < len(fitted) / (2 * 16 * 5) < 0.99


@pytest.mark.parametrize("cells", [0, 1, 2, 5, 255, 256, 257, 764, 765, 766, 767, 768, 769, 1021, 1022, 5000, 44_000])
def test_packs_are_counted_as_they_are_formed(cells: int) -> None:
    size, left, packs = pack_size("auto", 1), cells, 0
    while left > 0:
        left -= size(left)
        packs += 1
    assert fewest_packs(cells) == packs


def test_numbers_of_any_size_are_written() -> None:
    assert fewest_packs(MOST_CELLS * 10**40) == pytest.approx(10**40)
    assert [count_text(number) for number in (0, 999_999_999_999_999, 10**15, 19 * 10**29, 10**9000)] == [
        "0",
        "999999999999999",
        "about 1.0e15",
        "about 1.9e30",
        "about 1.0e9000",
    ]
    assert [_duration(10**6 * seconds) for seconds in (0, 119, 120, 7200, 10**8, 10**10, 10**5000)] == [
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "27778 h",
        "317 years",
        "about 3.1e4992 years",
    ]


def test_a_duplicate_key_is_found_among_many() -> None:
    names = [f"m{number}: last" for number in range(2000)]
    assert len(yaml.load("\n".join(names), Loader)) == 2000
    with pytest.raises(yaml.MarkedYAMLError, match="duplicate key 'm7'"):
        yaml.load("\n".join([*names, names[7]]), Loader)
