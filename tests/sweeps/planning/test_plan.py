"""Plans: what workers are told, and experiments that were read before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from inline import plan_of

from sweeps.experiment.schema import as_yaml, parse_experiment
from sweeps.experiment.worker_context import WorkerContext
from sweeps.planning.plan import make_plan
from sweeps.storage.current_rows import experiment_of
from sweeps.storage.store import Store

HALVING = {"first": 1, "factor": 3}


def test_workers_are_told_what_the_experiment_says_as_plain_data(experiment: dict[str, Any], tmp_path: Path) -> None:
    experiment["probes"] = {"objects": None, "captions": "rendered"}
    experiment["compute"] = {"cache_gb": 7, "fits_gb": 0.5}
    experiment["space"]["readout"] = {"gaussian": {"loss": "gaussian", "epochs": 2, "pool": 4}}
    experiment["search"] = {"method": "grid", "halving": HALVING}
    plan = plan_of(experiment, tmp_path)
    context = plan.context()
    assert WorkerContext.from_config(context.as_config()) == context
    assert json.loads(json.dumps(dataclasses.asdict(context))) == dataclasses.asdict(context)
    assert context.sweep == "small"
    assert context.recordings == experiment["recordings"]
    assert context.probes == {"captions": "rendered"}
    assert context.split == plan.experiment.split.model_dump()
    assert context.scores == experiment["scores"]
    assert (context.cache_gb, context.fits_gb) == (7.0, 0.5)
    assert context.halving == HALVING
    assert (context.storage, context.cache, context.base) == (plan.storage, plan.cache, plan.base)
    assert context.depths == {"efficientnet-lite0": [0, 1, 2]}
    assert context.fingerprints == {recording.name: recording.fingerprint for recording in plan.facts}


def test_without_halving_workers_are_told_of_none(experiment: dict[str, Any], tmp_path: Path) -> None:
    assert plan_of(experiment, tmp_path).context().halving == {}


def test_no_credentials_reach_the_workers(experiment: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    assert "a-secret" not in plan_of(experiment, tmp_path).context().as_config()


def test_an_experiment_that_was_read_gives_the_plan_of_its_file(experiment: dict[str, Any], tmp_path: Path) -> None:
    places = {"storage": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    whole, read = make_plan(experiment, **places), make_plan(parse_experiment(experiment), **places)
    assert read == whole
    Store(places["storage"]).put("experiment.yaml", as_yaml(whole.experiment).encode())
    stored = make_plan(experiment_of(places["storage"]), **places)
    ids = [
        [plan.planner.trial_id(plan.planner.cells(configuration)) for configuration in plan.space.grid()]
        for plan in (whole, stored)
    ]
    assert ids[0] == ids[1]
    assert json.loads(stored.context().as_config()) == json.loads(whole.context().as_config())
