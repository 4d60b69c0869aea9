"""Slim rows: they give what the dicts gave, in a tenth of the memory."""

from __future__ import annotations

import math
import random
import string
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from sweeps.experiment.cells import Cell
from sweeps.experiment.earlier_scores import EarlierScores
from sweeps.planning.packs import Pack
from sweeps.planning.slim_row import FIELDS, SlimRow
from sweeps.planning.trial_scores import join_costs, join_scores
from sweeps.scores import cell_columns

NAMES = ["prediction", "dimensionality"]
COLUMNS = cell_columns(NAMES)
PLACES = {name: index for index, name in enumerate(COLUMNS)}


def row(seed: int, area: str = "V1") -> dict[str, Any]:
    """A row of the cells table, with more columns than a trial needs and some numbers missing."""
    draws = random.Random(seed)
    numbers = {name: None if draws.random() < 0.2 else draws.random() for name in COLUMNS}
    texts = {"device": "cpu", "host": "here", "data_fingerprint": "f" * 20, "score_keys": "a b", "split": "{}"}
    return {
        **texts,
        **numbers,
        "cell_id": "".join(draws.choices(string.hexdigits, k=20)),
        "status": "done",
        "error": None,
        "recording": "r",
        "area": area,
        "attempt": 2,
        "seconds": draws.random(),
        "peak_memory_mb": None,
        "config": "x" * 500,
    }


def test_a_slim_row_says_what_the_row_said() -> None:
    held = row(0)
    found = SlimRow(held, PLACES)
    assert {name: found[name] for name in FIELDS} == {name: held.get(name) for name in FIELDS}
    for name in COLUMNS:
        assert found[name] == held[name] or (held[name] is None and math.isnan(found[name]))
    assert found.get("select.search_asymmetry") is None
    assert "config" not in found
    assert set(found) == {*FIELDS, *COLUMNS}
    assert len(found) == len(FIELDS) + len(COLUMNS)
    with pytest.raises(KeyError):
        found["nothing"]


def test_trials_are_joined_from_slim_rows_as_from_whole_ones() -> None:
    whole = [row(index, area) for index, area in enumerate(("V1", "V2", "V4", "IT"))]
    slim = [SlimRow(each, PLACES) for each in whole]
    one, two = join_scores(whole, NAMES), join_scores(slim, NAMES)
    assert one.keys() == two.keys()
    assert [value for value in one.values() if not math.isnan(value)]
    assert all(one[name] == two[name] or (math.isnan(one[name]) and math.isnan(two[name])) for name in one)
    part = join_scores(slim, ["prediction"])  # fewer scores than the rows hold
    assert part["select.prediction"] == one["select.prediction"]
    assert join_costs(whole) == join_costs(slim)


def test_ten_thousand_rows_take_little_memory() -> None:
    tracemalloc.start()
    held = [SlimRow(row(index), PLACES) for index in range(2000)]
    used = tracemalloc.get_traced_memory()[0] / len(held)
    tracemalloc.stop()
    assert used < 400 + 8 * len(COLUMNS)  # a dict of the row takes some 6 kB


def test_a_pack_is_a_short_text_for_tune() -> None:
    backbone, readout = {"name": "efficientnet-lite0", "weights": "imagenet"}, {"name": "ridge", "alpha": "auto"}
    draws = random.Random(0)
    cells = tuple(
        Cell("".join(draws.choices("0123456789abcdef", k=20)), "r", "V1", (index % 16,), backbone, readout, index, {})
        for index in range(256)
    )
    scores = EarlierScores(
        ("prediction",), {"select.prediction": math.nan, "score.prediction": None}, {"units": 3}, "e"
    )
    earlier = {cells[0].cell_id: replace(scores, seconds=1.5, done=True)}
    pack = Pack(cells, 3, earlier=earlier)
    text = pack.as_config()
    again = Pack.from_config(text)
    assert (again.cells, again.attempt) == (pack.cells, 3)
    [(cell_id, read)] = again.earlier.items()
    assert cell_id == cells[0].cell_id
    assert math.isnan(read.numbers["select.prediction"] or 0.0)
    assert replace(read, numbers={}) == replace(earlier[cell_id], numbers={})
    assert read.numbers["score.prediction"] is None
    assert len(text) < 8000
