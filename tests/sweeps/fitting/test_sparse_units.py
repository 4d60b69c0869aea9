"""A unit that was recorded for few stimuli only: it is predicted as constant and counted, the others as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline, trials_of

from sweeps.recordings.splits import split_groups
from sweeps.storage.load import load

READOUTS: dict[str, dict[str, Any]] = {
    "ridge": {"pool": 4},
    "srp-ridge": {"eps": 0.5, "pool": 4},
    "pls": {"components": 3, "pool": 4},
    "banded-ridge": {"iterations": 2, "folds": 2, "pool": 4},
    "gaussian": {"loss": "gaussian", "epochs": 2, "pool": 4},
    "factorised": {"loss": "correlation", "epochs": 2, "pool": 4},
}
REPORTED = 0.2


@pytest.mark.parametrize("groups", [0, 1])
@pytest.mark.parametrize("name", READOUTS)
def test_a_unit_with_too_little_to_learn_from_costs_the_others_nothing(
    name: str, groups: int, make_recording: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_recording(tmp_path / "data" / "small", stimuli=240)
    table = np.array([line.split(",")[1] for line in (folder / "stimuli.csv").read_text().splitlines()[1:]])
    [fold] = split_groups(table, REPORTED, 0.2, 0, 0)
    responses = np.load(folder / "responses.npy")
    missing = np.ones(len(table), dtype=bool)  # the unit is there where it is scored, and in so many groups of train
    missing[np.concatenate([fold.select, fold.report])] = False
    missing[np.isin(table, np.unique(table[fold.train])[:groups])] = False
    found = {}
    for sparse in (False, True):
        held = responses.copy()
        if sparse:
            held[missing, 0] = np.nan
        np.save(folder / "responses.npy", held)
        experiment = {
            "name": "sparse",
            "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
            "probes": {},
            "space": {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {name: READOUTS[name]}, "seed": 0},
            "split": {"report": REPORTED},
            "scores": ["prediction"],
        }
        plan = plan_of(experiment, tmp_path / str(sparse))
        run_inline(plan)
        assert trials_of(plan)["error"].isna().all()
        found[sparse] = load(plan.storage, "cells").set_index("area")
    own = (folder / "units.csv").read_text().splitlines()[1].split(",")[1]
    constant = found[True]["select.prediction_constant_units"]
    if groups == 0 or name not in ("gaussian", "factorised"):  # descent makes do with one group
        assert constant[own] == 1
    others = [area for area in found[True].index if area != own]
    assert others
    assert constant[others].eq(0).all()
    assert found[False]["select.prediction_constant_units"].eq(0).all()
    scores = [held.loc[others, "score.prediction"] for held in found.values()]
    np.testing.assert_allclose(*scores, rtol=1e-5)
