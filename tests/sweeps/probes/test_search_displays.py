"""Search displays: geometry in degrees, one target in each, and the same pixels from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inputs.geometry import Geometry
from sweeps.errors import InputError
from sweeps.probes import PROBES, open_probe, shown_kinds
from sweeps.probes.search_displays import EXPERIMENTS, RenderedSearch, cell_edges, plan, scaled_patch, scaled_side
from sweeps.stimuli.search_items import DRAWINGS, item

# Degrees of the display, grid, set sizes and background of the published generators.
GEOMETRY = {
    "curvature": (11.3, 6, (8, 16, 32), 0),
    "lighting": (6.6, 4, (1, 6, 12), 27),
    "crossing": (20.5, 3, (3, 6, 9), 255),
    "corner": (20.5, 3, (3, 6, 9), 255),
    "orientation": (11.3, 4, (1, 4, 8, 12), 255),
    "orientation-mixed": (11.3, 4, (1, 4, 8, 12), 255),
}
PATCHES = {48: ("line", "curve"), 31: ("disc",), 177: ("cross", "not cross", "T", "L"), 69: ("bar 0", "bar -20")}


def test_the_published_geometry() -> None:
    assert list(EXPERIMENTS) == list(GEOMETRY)
    for name, (degrees, grid, sizes, ground) in GEOMETRY.items():
        held = EXPERIMENTS[name]
        assert held.side / 30 == pytest.approx(degrees, abs=0.01)
        assert (held.grid, held.set_sizes, held.ground) == (grid, sizes, ground)
    assert {name: held.patch for name, held in EXPERIMENTS.items()} == {
        "curvature": 48,
        "lighting": 31,
        "crossing": 177,
        "corner": 177,
        "orientation": 69,
        "orientation-mixed": 69,
    }


def extent(patch: np.ndarray, ground: int) -> tuple[int, int]:
    """Height and width of what is drawn, counting pixels that are at least half covered."""
    drawn = np.abs(patch.astype(int) - ground) > 127
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


@pytest.mark.parametrize(
    ("name", "pixels", "ground", "high", "wide", "area"),
    [
        ("line", 48, 0, 36, 6, 36 * 6),
        ("curve", 48, 0, 2 * 32.5 * np.sin(0.65), None, 1.3 * 30 * 5),
        ("cross", 177, 255, 165, 165, 2 * 165 * 16.5 - 16.5**2),
        ("not cross", 177, 255, 165, 165, 2 * 165 * 16.5 - 16.5**2),
        ("T", 177, 255, 165, 165, 2 * 165 * 16.5 - 16.5**2),
        ("L", 177, 255, 165, 165, 2 * 165 * 16.5 - 16.5**2),
        ("bar 0", 69, 255, 60, 9, 60 * 9),
        ("bar -20", 69, 255, 60 * np.cos(np.radians(20)) + 9 * np.sin(np.radians(20)), None, 60 * 9),
    ],
)
def test_items_have_the_published_size(
    name: str, pixels: int, ground: int, high: float, wide: float | None, area: float
) -> None:
    patch = item(name, 0, pixels / 30, pixels, ground)
    found = extent(patch, ground)
    assert found[0] == pytest.approx(high, abs=2)
    assert wide is None or found[1] == pytest.approx(wide, abs=2)
    assert np.abs(patch.astype(float) - ground).sum() / 255 == pytest.approx(area, rel=0.06)


def test_items_are_what_their_names_say() -> None:
    tee, ell, cross, other = (item(name, 0, 5.9, 177, 255) < 128 for name in ("T", "L", "cross", "not cross"))
    rows = [int(each[30].sum() > 100) for each in (tee, ell, cross, other)]
    assert tee[8].sum() > 150  # the bar at the top
    assert ell[-9].sum() > 150  # the bar at the foot
    assert rows == [0, 0, 0, 0]
    assert np.array_equal(cross, cross.T)
    assert not np.array_equal(other[:80], other[80:160])
    upright, tilted = (item(f"bar {angle}", 0, 2.3, 69, 255) < 128 for angle in (0, -20))
    y, x = np.nonzero(tilted)
    assert np.degrees(np.arctan2(*np.polyfit(y, x, 1)[:1], 1)) == pytest.approx(20, abs=3)  # its top leans to the left
    assert upright.sum() == pytest.approx(tilted.sum(), rel=0.1)


def test_the_disc_has_sixteen_levels_from_bright_to_dark() -> None:
    large = item("disc", 0, 1.04, 320, 27)[:, 160]
    levels = large[np.r_[True, np.diff(large.astype(int)) != 0]].tolist()
    assert [level for level in levels if level % 17 == 0] == [17 * step for step in range(15, -1, -1)]
    small = item("disc", 0, 31 / 30, 31, 27)
    assert small[0, 0] == 27
    assert small[3, 15] > 200 > 60 > small[27, 15]
    assert np.array_equal(item("disc", 2, 31 / 30, 31, 27), small[::-1, ::-1])


def test_turns_are_quarter_turns_and_mirrored_ones() -> None:
    first = item("L", 0, 5.9, 59, 255)
    assert np.array_equal(item("L", 1, 5.9, 59, 255), np.rot90(first))
    assert np.array_equal(item("L", 4, 5.9, 59, 255), first[:, ::-1])
    assert np.array_equal(item("L", 6, 5.9, 59, 255), first[::-1])
    assert np.array_equal(item("L", 5, 5.9, 59, 255), first.T)


def cases() -> st.SearchStrategy[tuple[str, int, int, int, int, float]]:
    def of(name: str) -> st.SearchStrategy[tuple[str, int, int, int, int, float]]:
        return st.tuples(
            st.just(name),
            st.integers(0, 1),
            st.sampled_from(EXPERIMENTS[name].set_sizes),
            st.integers(0, 99),
            st.integers(0, 2**40),
            st.sampled_from([0.2, 1 / 3, 0.7, 1.0]),
        )

    return st.sampled_from(list(EXPERIMENTS)).flatmap(of)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_display_has_one_target_and_each_item_its_own_cell(case: tuple[str, int, int, int, int, float]) -> None:
    name, condition, size, _, _, scale = case
    display, held = plan(*case), EXPERIMENTS[name]
    image, edges = display.image(), cell_edges(display.side, held.grid)
    assert image.shape == (round(held.side * scale),) * 2
    assert len(display.items) == size
    assert len({each.cell for each in display.items}) == size
    chosen = held.conditions[condition]
    wanted = (chosen.target, chosen.target_turns)
    assert [each.name == wanted[0] and each.turn in wanted[1] for each in display.items].index(True) == 0
    if chosen.target in chosen.distractors:
        assert not set(chosen.turns) & set(chosen.target_turns)
    else:
        assert [each.name for each in display.items].count(chosen.target) == 1
    rest = image.copy()
    for each in display.items:
        patch = display.patch(each)
        row, column = divmod(each.cell, held.grid)
        assert edges[row] <= each.y <= edges[row + 1] - len(patch)
        assert edges[column] <= each.x <= edges[column + 1] - len(patch)
        place = np.s_[each.y : each.y + len(patch), each.x : each.x + len(patch)]
        assert np.array_equal(image[place], patch)
        assert (patch != held.ground).any()
        rest[place] = held.ground
    assert (rest == held.ground).all()
    assert np.array_equal(plan(*case).image(), image)


def test_seeds_and_numbers_give_other_displays_and_scales_the_same_layout() -> None:
    first = plan("curvature", 0, 16, 0, 0, 1.0)
    assert first.items != plan("curvature", 0, 16, 1, 0, 1.0).items
    assert first.items != plan("curvature", 0, 16, 0, 1, 1.0).items
    small = plan("curvature", 0, 16, 0, 0, 0.5)
    assert [(each.name, each.turn, each.cell) for each in small.items] == [
        (each.name, each.turn, each.cell) for each in first.items
    ]
    for one, other in zip(first.items, small.items, strict=True):
        assert abs(one.y / 2 - other.y) <= 1.5
        assert abs(one.x / 2 - other.x) <= 1.5


def test_targets_come_in_every_cell_and_items_in_every_place() -> None:
    """36 cells, 720 draws: 20 expected in each, a Poisson count within 4.5 deviations."""
    counts = np.bincount([plan("curvature", 1, 8, n, 5, 0.2).target_cell for n in range(720)], minlength=36)
    assert np.abs(counts - 20).max() < 4.5 * np.sqrt(20)
    offsets = {each.y - 56 * (each.cell // 6) for n in range(40) for each in plan("curvature", 0, 32, n, 0, 1.0).items}
    assert {0, 8} <= offsets


def test_conditions_exchange_target_and_distractors() -> None:
    for held in EXPERIMENTS.values():
        first, second = held.conditions
        if first.target != second.target:
            assert first.target in second.distractors
            assert second.target in first.distractors
    mixed = EXPERIMENTS["orientation-mixed"].conditions
    family = {f"bar {angle}" for angle in (-80, -60, -40, 20, 40, 60, 80)}
    assert [set(each.distractors) for each in mixed] == [family | {"bar -20"}, family | {"bar 0"}]
    assert {each for held in EXPERIMENTS.values() for pair in held.conditions for each in pair.distractors} <= set(
        DRAWINGS
    )


def test_the_probe_and_its_table() -> None:
    probe = open_probe("search", {"rendered": {"displays": 2, "experiments": ["lighting", "corner"], "scale": 0.25}})
    assert list(probe.table.columns) == ["experiment", "condition", "set_size", "target_cell", "cells"]
    assert len(probe) == 2 * (3 + 3) * 2
    assert probe.table["cells"].tolist() == [16] * 12 + [9] * 12
    assert probe.table["set_size"].tolist()[:6] == [1, 1, 6, 6, 12, 12]
    assert isinstance(probe.source, RenderedSearch)
    plans = list(probe.source.plans())
    assert [each.target_cell for each in plans] == probe.table["target_cell"].tolist()
    assert probe.images(Geometry(20)).shape == (24, 20, 20, 3)
    assert len(open_probe("search", "rendered")) == 2 * 30 * 20
    longer = open_probe("search", {"rendered": {"displays": 3, "experiments": ["lighting"], "scale": 0.25}})
    firsts = [each for index, each in enumerate(longer.source.plans()) if index % 3 < 2]  # type: ignore[attr-defined]
    assert firsts == plans[:12]


def test_what_is_drawn_is_part_of_the_fingerprint_and_it_is_not_shown_to_twins() -> None:
    prints = {
        open_probe("search", {"rendered": settings}).fingerprint for settings in ({}, {"seed": 1}, {"scale": 0.5})
    }
    assert len(prints) == 3
    assert "drawing" in RenderedSearch().model_dump()
    assert shown_kinds(PROBES) == ["objects", "captions"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("a-folder", r"probes\.search = 'a-folder': must be `rendered` or"),
        ({"folder": "a"}, r"probes\.search = .*must be `rendered` or"),
        ({"rendered": {"experiments": ["curves"]}}, r"experiments = .*has no experiment 'curves'; allowed: curvature,"),
        ({"rendered": {"experiments": ["corner", "corner"]}}, r"names an experiment twice"),
        ({"rendered": {"scale": 0.1}}, r"probes\.search\.rendered\.scale = 0\.1: must be a number from 0\.2 up to 4"),
        ({"rendered": {"drawing": 1}}, r"drawing: unknown key; allowed: displays, experiments, scale, seed"),
    ],
)
def test_bad_settings_are_answered_in_one_line(value: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_probe("search", value)


def test_the_smallest_scale_still_has_room_for_every_patch() -> None:
    for name, held in EXPERIMENTS.items():
        edges = cell_edges(scaled_side(name, 0.2), held.grid)
        assert min(np.diff(edges)) >= scaled_patch(name, 0.2)
