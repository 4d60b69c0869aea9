"""Rows: every table has one place where they are made, and all their columns are typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.experiment.cells import Cell
from sweeps.storage.columns import Outcome, as_table, bootstrap_row, cell_row, is_installed, trial_row, truth_row

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BACKBONE = {"name": "efficientnet-lite0", "weights": "random"}
READOUT = {"name": "ridge", "alpha": 1.0, "pool": 4}
ORIGIN = {"host": "here", "commit": "c", "finished": NOON, "seconds": 2.0}
VERSIONS = f"efficientnet-lite0@{BACKBONES['efficientnet-lite0'].version} ridge@{READOUTS['ridge'].version}"


def a_cell() -> Cell:
    return Cell("0a", "monkey", "V4", (3, 5), BACKBONE, READOUT, 1, {})


def test_a_cell_row_holds_what_decided_it_and_what_came_of_it() -> None:
    outcome = Outcome("pruned", None, 2, '{"seed":0}', ["b@1", "a@2"], "h")
    row = cell_row(a_cell(), outcome, ORIGIN, {"units": 7, "score.prediction": 0.5})
    configuration = {"backbone": BACKBONE, "depth": {"V4": [3, 5]}, "readout": READOUT, "seed": 1}
    assert json.loads(row.pop("config")) == configuration
    expected = {
        "cell_id": "0a",
        "recording": "monkey",
        "area": "V4",
        "depth": 5,
        "blocks": "3+5",
        "config.backbone": "efficientnet-lite0",
        "config.backbone.weights": "random",
        "config.readout": "ridge",
        "config.readout.alpha": "1.0",
        "config.readout.pool": 4,
        "config.depth.V4": 5,
        "config.blocks.V4": "3+5",
        "config.seed": 1,
        "components": VERSIONS,
        "status": "pruned",
        "error": None,
        "attempt": 2,
        "split": '{"seed":0}',
        "score_keys": "a@2 b@1",
        "halving": "h",
        **ORIGIN,
        "units": 7,
        "score.prediction": 0.5,
    }
    assert row == expected
    [read] = as_table("cells", [row]).to_pylist()
    assert {name: read[name] for name in expected} == expected


def test_a_trial_row_names_its_cells() -> None:
    configuration = {"backbone": BACKBONE, "depth": {"V4": [3, 5]}, "readout": READOUT, "seed": 1}
    outcome = Outcome("failed", "monkey/V4: no", 0, "{}")
    row = trial_row("t", configuration, [a_cell()], outcome, ORIGIN)
    assert (row["trial_id"], row["cell.monkey.V4"], row["config.depth.V4"]) == ("t", "0a", 5)
    assert (row["status"], row["error"], row["score_keys"]) == ("failed", "monkey/V4: no", "")
    assert (row["components"], row["seconds"]) == (VERSIONS, 2.0)
    assert as_table("trials", [row])["cell.monkey.V4"].to_pylist() == ["0a"]


def test_rows_beside_cells() -> None:
    cell: dict[str, Any] = {"cell_id": "0a", "attempt": 1, "finished": NOON, "status": "done"}
    draws = bootstrap_row(cell, np.array([0.5, 0.25]))
    assert {name: draws[name] for name in ("cell_id", "attempt", "finished")} == {
        "cell_id": "0a",
        "attempt": 1,
        "finished": NOON,
    }
    assert as_table("bootstraps", [draws])["replicates"].to_pylist() == [[0.5, 0.25]]
    truth = {"recording": "r", "area": "V1", "planted": 3, "teacher": {"seed": 1}}
    row = truth_row("u", {**truth, "alike": (2, 3), "correlations": (0.5, 0.75)})
    [read] = as_table("truths", [row]).to_pylist()
    assert json.loads(read.pop("teacher")) == truth.pop("teacher")
    assert read == {**truth, "truth_id": "u", "alike": [2, 3], "correlations": [0.5, 0.75]}


def test_an_unknown_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="no table has a column"):
        as_table("cells", [{"cell_id": "a", "surprise": 1}])


def test_a_configuration_is_usable_where_its_components_are_installed() -> None:
    own = {"backbone": BACKBONE, "readout": READOUT}
    assert is_installed(own)
    assert not is_installed({**own, "backbone": {"name": "no.such.lab:NET"}})
    assert not is_installed({**own, "readout": {"name": "no-such-readout"}})
