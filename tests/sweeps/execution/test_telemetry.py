"""Metrics of a sweep: what Prometheus would scrape from Ray, and what the Grafana file asks for."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from processes import ROOT, wait_for
from prometheus_client.parser import text_string_to_metric_families

import sweeps
from sweeps.execution import telemetry
from sweeps.execution.telemetry import COUNTERS, GAUGES, SweepTelemetry, WorkerTelemetry
from sweeps.planning.run_progress import RunProgress

ONLY_WITH_A_GPU = {"sweeps_gpu_memory_bytes", "sweeps_gpu_memory_peak_bytes"}
LABELS = ("status", "objective")

Values = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def agent() -> Iterator[str]:
    """A Ray of two cores that exports its metrics every second; yields where Prometheus would scrape them."""
    import ray

    assert not ray.is_initialized()
    ray.init(
        address="local",
        num_cpus=2,
        log_to_driver=False,
        logging_level="ERROR",
        include_dashboard=False,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    node = ray.nodes()[0]
    yield f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    ray.shutdown()


@pytest.fixture
def losses(experiment: dict[str, Any], recording: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two trials of two cells each; one fails, since a Poisson loss refuses negative responses, as the plan would."""
    monkeypatch.setattr("sweeps.planning.plan.check_losses", lambda space, facts: None)
    np.save(recording / "responses.npy", np.load(recording / "responses.npy") - 5)
    readout = {"gaussian": {"loss": ["poisson", "gaussian"], "epochs": 1, "pool": 4}}
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": readout}
    return {**experiment, "name": "two-losses", "space": space, "scores": ["prediction"]}


def scraped(url: str, sweep: str) -> Values:
    """Values of a sweep, by metric and label beside the sweep, as they are exported."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.labels.get("sweep") == sweep]
    return {(each.name, next((each.labels[n] for n in LABELS if n in each.labels), "")): each.value for each in samples}


def places(folder: Path) -> dict[str, str]:
    """Storage and cache of a run."""
    return {"storage": str(folder / "results"), "cache": str(folder / "cache")}


@pytest.mark.slow
def test_prometheus_sees_the_numbers_of_a_sweep(agent: str, losses: dict[str, Any], tmp_path: Path) -> None:
    found = sweeps.run(losses, **places(tmp_path))
    best = found.trials["select.prediction"].max()
    expected = {
        ("ray_sweeps_trials_total", "done"): 1,
        ("ray_sweeps_trials_total", "failed"): 1,
        ("ray_sweeps_cells_total", "done"): 2,
        ("ray_sweeps_cells_total", "failed"): 2,
        ("ray_sweeps_trials_planned", ""): 2,
        ("ray_sweeps_trials_open", ""): 0,
        ("ray_sweeps_cells_planned", ""): 4,
        ("ray_sweeps_cells_open", ""): 0,
        ("ray_sweeps_packs_running", ""): 0,
        ("ray_sweeps_best_score", "select.prediction"): pytest.approx(best, abs=1e-6),
    }
    wait_for(lambda: scraped(agent, "two-losses").keys() >= expected.keys(), 15, "the metrics are exported")
    wait_for(lambda: scraped(agent, "two-losses")["ray_sweeps_trials_open", ""] == 0, 15, "the last ones are")
    values = scraped(agent, "two-losses")
    assert 0 < values.pop(("ray_sweeps_trials_per_second", "")) < 2
    assert values == expected
    assert {name for name, _ in expected} | {"ray_sweeps_trials_per_second"} == {
        f"ray_{name}" for name in {*COUNTERS, *GAUGES} - ONLY_WITH_A_GPU
    }


def test_a_sweep_goes_on_when_ray_refuses_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any) -> None:
        raise RuntimeError("no agent")

    messages: list[str] = []
    monkeypatch.setattr(telemetry, "Gauge", refused)
    state: Any = SimpleNamespace(progress=RunProgress(), running={}, trials=SimpleNamespace(open={}))
    driver = SweepTelemetry("some", state, messages.append)
    driver.update(force=True)
    assert messages == ["no metrics from here on, since Ray refused them: RuntimeError('no agent')"]


class Recorded:
    """Stands for a counter or gauge of Ray."""

    values: Values

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Keep the last value."""
        assert tuple(tags) == self.tag_keys
        self.values[self.name, tags.get(self.tag_keys[-1], "")] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Add to the value."""
        key = (self.name, tags[self.tag_keys[-1]])
        self.set(self.values.get(key, 0) + value, tags)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Values:
    """What is recorded, without a Ray."""
    monkeypatch.setattr(Recorded, "values", {}, raising=False)
    monkeypatch.setattr(telemetry, "Counter", Recorded)
    monkeypatch.setattr(telemetry, "Gauge", Recorded)
    return Recorded.values


def test_counters_count_this_run_and_pruned_trials_are_not_done(recorded: Values) -> None:
    counts = RunProgress(trials=9, known=3, best={"select.prediction": 0.5})
    state: Any = SimpleNamespace(progress=counts, running={}, trials=SimpleNamespace(open=dict.fromkeys("abcdef")))
    driver = SweepTelemetry("some", state, pytest.fail)
    assert not [key for key in recorded if key[0] in COUNTERS]
    assert recorded["sweeps_best_score", "select.prediction"] == 0.5
    counts.done, counts.pruned, counts.failed = 4, 1, 2
    driver.update()
    assert not [key for key in recorded if key[0] in COUNTERS], "too soon"
    for _ in range(2):
        driver.update(force=True)
    assert {label: recorded["sweeps_trials_total", label] for label in ("done", "pruned", "failed")} == {
        "done": 3,
        "pruned": 1,
        "failed": 2,
    }
    assert (recorded["sweeps_trials_planned", "some"], recorded["sweeps_trials_open", "some"]) == (9, 6)


def test_a_worker_tells_its_gpu_memory_where_there_is_a_gpu(recorded: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False, memory_reserved=lambda: 3, max_memory_reserved=lambda: 7)
    for there, torch in ((False, None), (False, SimpleNamespace(cuda=cuda)), (True, SimpleNamespace(cuda=cuda))):
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setattr(cuda, "is_available", lambda there=there: there)
        WorkerTelemetry("some").update()
        assert {name for name, _ in recorded} == (ONLY_WITH_A_GPU if there else set())
    assert list(recorded.values()) == [3, 7]


def test_the_grafana_file_asks_for_exactly_what_is_exported() -> None:
    board = json.loads((ROOT / "cluster" / "grafana-sweeps.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    assert asked == {f"ray_{name}" for name in (*COUNTERS, *GAUGES)}
    assert all('{sweep=~"$sweep"}' in query for query in queries)
    tags = {tag for _, tag in (*COUNTERS.values(), *GAUGES.values()) if tag}
    grouped = {
        word for query in queries for names in re.findall(r"by \(([^)]*)\)", query) for word in names.split(", ")
    }
    assert grouped <= {"sweep", "instance", "WorkerId", *tags}
