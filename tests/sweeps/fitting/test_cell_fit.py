"""Fitted cells on disk: what is read is what was fitted, and nothing that does not fit is used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sweeps.fitting.cell_fit import LAYOUT, SPLITS, CellFit, FitCache

SHOWN = {"probe.objects": "key of the pictures"}


def some_fit(seed: int = 0, stimuli: int = 12, units: int = 3) -> CellFit:
    random = np.random.default_rng(seed)
    held_out, baseline, shown = {}, {}, {}
    for place, split in enumerate(SPLITS):
        rows = np.arange(stimuli) % 2 == place
        held_out[split] = np.where(rows[:, None], random.standard_normal((stimuli, units)), np.nan)
        baseline[split] = np.where(rows[:, None], np.full(units, 0.1), np.nan)
        shown[split] = {"probe.objects": random.standard_normal((5, units))}
    held_out["report"][1, 0] = np.nan  # one unit of a stimulus that is there
    return CellFit(held_out, baseline, shown, {"alpha": 0.3})


def same(first: CellFit, second: CellFit) -> None:
    for split in SPLITS:
        np.testing.assert_array_equal(first.held_out[split], second.held_out[split])
        np.testing.assert_array_equal(first.baseline[split], second.baseline[split])
        assert list(first.shown[split]) == list(second.shown[split])
        for name, responses in first.shown[split].items():
            np.testing.assert_array_equal(responses, second.shown[split][name])
    assert first.facts == second.facts


def test_what_is_read_is_what_was_fitted(tmp_path: Path) -> None:
    cache, fit = FitCache(tmp_path, 1e9), some_fit()
    assert cache.load("abcd", SHOWN) is None
    cache.save("abcd", fit, SHOWN)
    found = cache.load("abcd", SHOWN)
    assert found is not None
    same(found, fit)
    assert cache.load("abcd", {}) is not None  # what it was shown beyond what is asked does no harm


def test_a_fit_that_was_shown_other_pictures_does_not_serve(tmp_path: Path) -> None:
    cache = FitCache(tmp_path, 1e9)
    cache.save("abcd", some_fit(), SHOWN)
    assert cache.load("abcd", {"probe.objects": "other pictures"}) is None
    assert cache.load("abcd", {**SHOWN, "probe.captions": "new"}) is None


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "foreign", "mark", "size", "header", "numbers"])
def test_a_damaged_file_is_removed_and_fitted_again(tmp_path: Path, damage: str) -> None:
    cache = FitCache(tmp_path, 1e9)
    cache.save("abcd", some_fit(), SHOWN)
    [path] = tmp_path.rglob("*.arrays")
    content = path.read_bytes()
    places = {"mark": 3, "size": 8, "header": content.index(b"shape") + 9, "numbers": len(content) - 80}
    whole = {"empty": b"", "cut": content[:-40], "longer": content + b"x", "foreign": b"PK\x03\x04 not a fit"}
    flipped = bytearray(content)
    flipped[places.get(damage, 0)] ^= 1
    path.write_bytes(whole.get(damage, bytes(flipped)))
    assert cache.load("abcd", SHOWN) is None
    assert not path.exists()
    cache.save("abcd", some_fit(), SHOWN)
    assert cache.load("abcd", SHOWN) is not None


def test_the_fits_used_longest_ago_make_room(tmp_path: Path) -> None:
    unlimited = FitCache(tmp_path, 1e9)
    for place, name in enumerate(("aa", "bb", "cc")):
        unlimited.save(name, some_fit(place), SHOWN)
        os.utime(next(tmp_path.rglob(f"{name}-*.arrays")), (place, place))
    size = next(tmp_path.rglob("aa-*.arrays")).stat().st_size
    assert unlimited.load("aa", SHOWN) is not None  # used just now: the oldest is bb
    tight = FitCache(tmp_path, 2.5 * size)
    tight.save("dd", some_fit(4), SHOWN)
    assert sorted(path.stem.partition("-")[0] for path in tmp_path.rglob("*.arrays")) == ["aa", "dd"]


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    cache = FitCache(tmp_path, 0)
    cache.save("abcd", some_fit(), SHOWN)
    assert not list(tmp_path.rglob("*"))


def test_what_other_layouts_and_dead_processes_left_makes_room_too(tmp_path: Path) -> None:
    old = tmp_path / "fits" / "layout-0" / "aa"
    old.mkdir(parents=True)
    (old / "aa.fit").write_bytes(b"x" * 10_000)
    (old / ".bb.fit.1234").write_bytes(b"x")
    for path in (*old.iterdir(), old, old.parent):
        os.utime(path, (1, 1))
    cache = FitCache(tmp_path, 9_000)
    cache.save("abcd", some_fit(), SHOWN)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"abcd-{LAYOUT}.arrays"]


def test_the_limit_holds_while_one_process_writes(tmp_path: Path) -> None:
    cache = FitCache(tmp_path, 50_000)
    for place in range(60):
        cache.save(f"{place:04d}", some_fit(place), SHOWN)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.arrays"))
    assert 25_000 < size <= 50_000
