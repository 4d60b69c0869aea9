"""What plug-ins may not do to others: types of columns, finished numbers, code that tables name, names that mislead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline

import sweeps
from models.component import Component, Parameter
from models.readouts import READOUTS
from models.registry import UnknownName
from sweeps.errors import InputError
from sweeps.experiment.schema import parse_experiment
from sweeps.scores import SCORES
from sweeps.storage.columns import as_table, configuration_of, is_installed, schema_of
from sweeps.storage.compaction import compact
from sweeps.storage.parquet import to_bytes
from sweeps.storage.row_log import RowLog
from sweeps.storage.schema import TEXT, TEXTS, unify
from sweeps.storage.store import Store


def rows(**settings: Any) -> dict[str, Any]:
    """A row of `cells` with settings of a backbone that nobody has."""
    named = {f"config.backbone.{key}": value for key, value in settings.items()}
    return {"cell_id": f"id{sorted(settings.items())}", "attempt": 0, "config.backbone": "lab:NET", **named}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, "auto"], ["1.5", "auto"]),
        (["auto", 1.0], ["auto", "1.0"]),
        ([2, 1.5], [2.0, 1.5]),
        ([1e-05, "x"], ["1e-05", "x"]),
        ([3, 4], [3, 4]),
    ],
)
def test_parts_that_disagree_on_a_setting_are_folded_and_compacted(
    values: list[Any], expected: list[Any], tmp_path: Path
) -> None:
    """Text where one of them is, written as Python writes numbers, which is how rows have them; else a double."""
    store = Store(str(tmp_path))
    for value in values:
        store.put(f"parts/cells/{value}.parquet", to_bytes(as_table("cells", [rows(gain=value)])))
    RowLog(store, {"cells": [], "trials": []}).fold()
    found = sweeps.load(str(tmp_path), "cells")["config.backbone.gain"].tolist()
    assert sorted(map(str, found)) == sorted(map(str, expected))
    store.put("experiment.yaml", b"name: any")
    removed = {done.table: done.removed for done in compact(str(tmp_path), lambda line: None)}
    assert removed["cells"] == len(values)
    assert sorted(map(str, sweeps.load(str(tmp_path), "cells")["config.backbone.gain"])) == sorted(map(str, expected))


def test_a_stated_type_gives_way_where_a_part_does_not_fit() -> None:
    stated = schema_of("cells", ["config.readout.alpha", "config.readout.pool"])
    part = as_table("cells", [rows(gain=1) | {"config.readout.pool": 3}])
    both = unify(
        "cells",
        [part, part.set_column(part.schema.get_field_index("config.readout.pool"), "config.readout.pool", [["seven"]])],
        stated,
        TEXTS,
    )
    assert both["config.readout.pool"].to_pylist() == ["3", "seven"]


def test_what_else_was_used_in_a_process_changes_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.backbones import BACKBONES

    before = schema_of("cells", ["config.backbone.layers", "config.backbone.frames"])
    other = Component(target="", version=1, blocks=1, parameters={"layers": Parameter(16.0, "float")})
    monkeypatch.setitem(BACKBONES._loaded, "lab.other:NET", other)
    assert schema_of("cells", ["config.backbone.layers", "config.backbone.frames"]).equals(before)
    own = schema_of("cells", ["config.backbone.layers"], {"backbone": ("lab.other:NET",)})
    assert own.field("config.backbone.layers").type == TEXT


SCORE = """
from sweeps.scores.score import Score

SCORE = Score("own", version=1, columns=("{column}",), up=False, summary="a number of the lab's")

def compute(view):
    return {{"{column}": float(view.predicted.mean())}}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path."""
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = dict(SCORES._loaded)
    yield folder  # type: ignore[misc]
    SCORES._loaded.clear()
    SCORES._loaded.update(known)
    for name in ("own_score", "twice_score", "no_function"):
        sys.modules.pop(name, None)


def test_numbers_of_a_score_that_is_missing_here_outlive_a_run_that_adds_another(
    lab: Path, experiment: dict[str, Any], tmp_path: Path
) -> None:
    (lab / "own_score.py").write_text(SCORE.format(column="own"))
    small = experiment | {"space": experiment["space"] | {"depth": {"shared": [0]}, "seed": 0}}
    run_inline(plan_of(small | {"scores": ["prediction", "own_score:SCORE"]}, tmp_path))
    before = sweeps.load(str(tmp_path / "results")).set_index("trial_id")
    cells = sweeps.load(str(tmp_path / "results"), "cells").set_index("cell_id")
    assert np.isfinite(before["score.own"]).all()
    del SCORES._loaded["own_score:SCORE"]
    (lab / "own_score.py").unlink()
    run_inline(plan_of(small | {"scores": ["prediction", "feve"]}, tmp_path))
    after = sweeps.load(str(tmp_path / "results")).set_index("trial_id").loc[before.index]
    assert np.isfinite(after["score.feve"]).all()
    assert after["score.own"].equals(before["score.own"])
    assert after["score_keys"].str.contains("own_score:SCORE@1").all()
    now = sweeps.load(str(tmp_path / "results"), "cells").set_index("cell_id").loc[cells.index]
    assert now["select.own"].equals(cells["select.own"])
    assert now["plugins"].str.startswith("scores/own_score:SCORE@1#").all()


def test_two_scores_may_not_write_one_column(lab: Path, experiment: dict[str, Any]) -> None:
    (lab / "twice_score.py").write_text(SCORE.format(column="prediction"))
    with pytest.raises(InputError, match=r"scores = 'twice_score:SCORE': writes the column 'prediction', as the score"):
        parse_experiment(experiment | {"scores": ["feve", "twice_score:SCORE"]})


def test_a_score_without_a_function_is_refused_before_any_work(lab: Path, experiment: dict[str, Any]) -> None:
    text = SCORE.format(column="own").partition("def compute")[0]
    (lab / "no_function.py").write_text(text)
    with pytest.raises(InputError, match="declares the score 'own', but has no function `compute`"):
        parse_experiment(experiment | {"scores": ["no_function:SCORE"]})


def test_names_out_of_tables_are_never_imported(lab: Path) -> None:
    (lab / "trap.py").write_text("raise SystemExit('imported')\n")
    name = "trap:ANYTHING"
    assert name not in SCORES
    assert name not in READOUTS
    assert SCORES.installed(name) is None
    loss = {"name": "gaussian", **{key: each.default for key, each in READOUTS["gaussian"].parameters.items()}}
    row = {"config": f'{{"backbone": {{"name": "{name}"}}, "readout": {{"name": "ridge"}}, "depth": {{}}, "seed": 0}}'}
    assert configuration_of(row)["backbone"] == {"name": name}
    assert not is_installed(configuration_of(row))
    lost = {"backbone": {"name": "pixels"}, "readout": loss | {"loss": name}}
    assert not is_installed(lost)
    assert is_installed({"backbone": {"name": "pixels"}, "readout": loss})
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("my score", "has no blanks"),
        ("", "has no blanks"),
        ("__main__:SCORE", "cannot be imported|lies in no file"),
        ("os:getcwd", "is not an instance of"),
    ],
)
def test_names_that_cannot_be_used_are_one_line(name: str, problem: str) -> None:
    with pytest.raises(UnknownName, match=problem):
        SCORES.plugin(name)
