"""A sweep that was edited: its older rows stay in the tables, and are not counted in its answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline
from rich.console import Console

from sweeps.commands.rescore import plan_scores
from sweeps.commands.run import write_experiment
from sweeps.experiment.parse_space import read_space, read_stored_space
from sweeps.report.terminal import show
from sweeps.storage.current_rows import CurrentRows
from sweeps.storage.load import load

Experiment = dict[str, Any]


def run(experiment: Experiment, folder: Path) -> str:
    plan = plan_of(experiment, folder)
    run_inline(plan)
    write_experiment(plan)
    return plan.storage


def with_space(experiment: Experiment, **changes: Any) -> Experiment:
    return {**experiment, "space": {**experiment["space"], **changes}, "scores": ["prediction"]}


def printed(storage: str) -> str:
    text = io.StringIO()
    show(storage, Console(file=text, width=160, highlight=False))
    return text.getvalue()


def counted(storage: str) -> tuple[pd.DataFrame, pd.DataFrame, CurrentRows]:
    current = CurrentRows.read(storage)
    return current.of(load(storage)), current.of(load(storage, "cells")), current


@pytest.mark.parametrize(
    ("before", "after", "trials", "cells"),
    [
        ({"depth": {"V1": [0, 1], "V4": [0]}}, {"depth": {"V1": [1], "V4": [0]}}, 1, 2),
        ({"seed": [0, 1]}, {"seed": 1}, 9, 6),
        (
            {"readout": {"ridge": {"pool": 4, "alpha": [0.1, 1.0]}}},
            {"readout": {"ridge": {"pool": 4, "alpha": 1.0}}},
            9,
            6,
        ),
        ({"backbone": ["efficientnet-lite0", "pixels"], "depth": {"shared": [0]}}, {"depth": {"shared": [0]}}, 1, 2),
        ({"depth": {"shared": [0, 1]}}, {"depth": {"V1": [0], "V4": [0]}}, 1, 2),
        ({"depth": {"V1": [0, 1], "V4": [0, 1]}}, {"depth": {"shared": [0, 1]}}, 2, 4),
        ({"depth": {"V1": [0], "V4": [0]}}, {"depth": {"V1": [0]}}, 1, 1),
    ],
)
def test_what_was_taken_out_is_not_counted(
    before: Any, after: Any, trials: int, cells: int, experiment: Experiment, tmp_path: Path
) -> None:
    run(with_space(experiment, **{"seed": 0, **before}), tmp_path)
    everything = len(load(str(tmp_path / "results")))
    storage = run(with_space(experiment, **{"seed": 0, **after}), tmp_path)
    rows, fits, current = counted(storage)
    assert (len(rows), len(fits)) == (trials, cells)
    assert len(load(storage)) >= everything  # load gives all
    left = len(load(storage)) + len(load(storage, "cells")) - trials - cells
    assert current.edited_out == left
    text = printed(storage)
    assert f"{trials} done" in text
    assert f"{left} rows of configurations that the experiment no longer has are left out" in text


def test_an_edit_that_adds_leaves_nothing_out(experiment: Experiment, tmp_path: Path) -> None:
    run(with_space(experiment, seed=0), tmp_path)
    storage = run(with_space(experiment, seed=[0, 1]), tmp_path)
    assert len(counted(storage)[0]) == len(load(storage)) == 18
    assert "no longer has" not in printed(storage)


def test_of_a_search_what_its_space_holds_counts(experiment: Experiment, tmp_path: Path) -> None:
    """What the search would not propose again belongs to it all the same; what its range no longer holds does not."""

    def ridge(low: float, trials: int) -> Experiment:
        readout = {"ridge": {"pool": 4, "alpha": {"low": low, "high": 10.0, "log": True}}}
        changed = with_space(experiment, readout=readout, depth={"shared": [0]}, seed=0)
        return {**changed, "search": {"method": "random", "trials": trials}}

    run(ridge(0.001, 8), tmp_path)
    alphas = load(str(tmp_path / "results"))["config.readout.alpha"].astype(float)
    storage = run(ridge(0.1, 2), tmp_path)
    rows, _, _ = counted(storage)
    assert len(rows) == (alphas >= 0.1).sum() + 2
    assert rows["config.readout.alpha"].astype(float).min() >= 0.1


def test_trials_of_fewer_recordings_are_not_counted_with_those_of_all(
    experiment: Experiment, make_recording: Any, tmp_path: Path
) -> None:
    run(with_space(experiment, seed=0), tmp_path)
    other = make_recording(tmp_path / "data" / "other", seed=5)
    both = {
        **experiment,
        "recordings": [*experiment["recordings"], {**experiment["recordings"][0], "path": str(other)}],
    }
    storage = run(with_space(both, seed=0), tmp_path)
    rows, cells, _ = counted(storage)
    assert (len(load(storage)), len(rows), len(cells)) == (18, 9, 12)


def test_scoring_the_best_takes_none_of_them_and_an_id_any(experiment: Experiment, tmp_path: Path) -> None:
    run(with_space(experiment, seed=0), tmp_path)
    storage = run(with_space(experiment, seed=0, depth={"V1": [0], "V4": [0]}), tmp_path)
    plan, _ = plan_scores(storage, ["interval"], "all", cache=str(tmp_path / "cache"))
    assert plan.chosen is not None
    assert [one["depth"] for one in plan.chosen] == [{"V1": 0, "V4": 0}]
    deep = load(storage).set_index("config.depth.V1").loc[2, "trial_id"].iloc[0]
    plan, _ = plan_scores(storage, ["interval"], deep, cache=str(tmp_path / "cache"))
    assert plan.chosen is not None
    assert plan.chosen[0]["depth"]["V1"] == 2


def test_a_storage_of_an_earlier_version_has_no_places(experiment: Experiment, tmp_path: Path) -> None:
    storage = run(with_space(experiment, seed=0), tmp_path)
    fields = json.loads((Path(storage) / "current.json").read_text())
    assert fields.pop("places") == {"small": ["V1", "V4"]}
    (Path(storage) / "current.json").write_text(json.dumps(fields))
    rows, cells, current = counted(storage)
    assert (len(rows), len(cells), current.edited_out) == (9, 6, 0)


SPACES = (
    {"backbone": ["pixels", {"efficientnet-lite0": {"weights": ["imagenet", "random"]}}], "depth": {"shared": "all"}},
    {"backbone": "efficientnet-lite0", "depth": {"V1": [0, 3, [2, 5]], "V4": "all"}, "seed": [0, 4]},
    {"backbone": ["efficientnet-lite0", {"conv": {"layers": [2, 3]}}], "depth": {"maps": {"x": "last", "y": "random"}}},
    {"backbone": "efficientnet-lite0", "depth": {"V1": [1], "V4": "last"}, "seed": [0, 1, 2]},
)
READOUTS = (
    ["ridge"],
    [{"ridge": {"alpha": ["auto", 0.1], "pool": [1, 3]}}, {"gaussian": {"l1": {"low": 0.001, "high": 1, "log": True}}}],
)


@given(st.sampled_from(SPACES), st.sampled_from(READOUTS), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_space_holds_what_is_drawn_from_it_and_no_part_of_another(space: Any, readouts: Any, seed: int) -> None:
    areas = ["V1", "V4"]
    whole = read_space({**space, "readout": readouts if "maps" not in space["depth"] else ["gaussian"]}, areas)
    drawn = whole.sample(np.random.default_rng(seed))
    stored = json.loads(json.dumps(drawn))
    assert whole.holds(stored)
    for area, depth in stored["depth"].items():
        assert whole.holds({**stored, "depth": {area: depth}}, part=True)
    assert not whole.holds({**stored, "seed": 99})
    assert not whole.holds({**stored, "depth": {"V1": stored["depth"]["V1"]}})
    assert not whole.holds({**stored, "depth": dict.fromkeys(areas, 77)})
    assert not whole.holds({**stored, "backbone": {**stored["backbone"], "name": "hierarchical-conv"}})
    if "pool" in stored["readout"]:
        assert not whole.holds({**stored, "readout": {**stored["readout"], "pool": 17}})


def test_a_stored_space_needs_neither_plug_ins_nor_files() -> None:
    raw = {"backbone": ["pixels", "mylab.retina:NET"], "readout": [{"other.lab:READ": {"a": 1}}], "depth": {"V1": [0]}}
    space, missing = read_stored_space(raw, ["V1", "V4"])
    assert missing == {"mylab.retina:NET", "other.lab:READ"}
    assert [choice.name for choice in space.backbones] == ["pixels"]
    assert space.areas == ("V1",)
