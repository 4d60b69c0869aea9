"""Numbers of a running sweep as metrics of Ray: Prometheus scrapes them, cluster/grafana-sweeps.json shows them.

Knows Ray, but not Ray Tune. Ray exports them as `ray_<name>`. They are tagged by sweep and never by trial, since
Prometheus keeps a series for every value of a tag.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.util.metrics import Counter, Gauge

from sweeps.errors import escaped

if TYPE_CHECKING:
    from sweeps.planning.scheduler import Scheduler

EVERY_SECONDS = 2.0
"""Ray itself exports every ten seconds, unless it is told otherwise."""

COUNTERS: dict[str, tuple[str, str]] = {
    "sweeps_trials_total": ("Trials that ended in this run.", "status"),
    "sweeps_cells_total": ("Cells that were fitted in this run.", "status"),
}
"""What each counts, and its tag beside `sweep`. A driver counts from 0; what earlier runs did are gauges."""

GAUGES: dict[str, tuple[str, str]] = {
    "sweeps_trials_planned": ("Trials that the search has asked for so far, known ones included.", ""),
    "sweeps_trials_open": ("Trials of these that have not ended in this run nor in an earlier one.", ""),
    "sweeps_trials_per_second": ("Trials that ended in this run, over the seconds since it began.", ""),
    "sweeps_cells_planned": ("Cells that this run fits, as far as the search has asked.", ""),
    "sweeps_cells_open": ("Cells of these that are not fitted yet.", ""),
    "sweeps_packs_running": ("Packs that are with a worker now.", ""),
    "sweeps_best_score": ("Best value of an objective, known trials included.", "objective"),
    "sweeps_gpu_memory_bytes": ("GPU memory that a worker's torch holds.", ""),
    "sweeps_gpu_memory_peak_bytes": ("The most GPU memory that a worker's torch has held.", ""),
}


class Telemetry:
    """Metrics of one sweep in this process. The first that fails is reported, and is the last: no sweep ends of it."""

    def __init__(self, sweep: str, say: Callable[[str], None]) -> None:
        self.sweep = escaped(sweep)
        self.say = say
        self.counters: dict[str, Counter] = {}
        self.gauges: dict[str, Gauge] = {}
        self.counted: dict[tuple[str, str], int] = {}
        self.broken = False

    def attempt(self, record: Callable[[], None]) -> None:
        """Record something, unless an earlier attempt has failed."""
        if self.broken:
            return
        try:
            record()
        except Exception as error:
            self.broken = True
            self.say(f"no metrics from here on, since Ray refused them: {error!r}")

    def count(self, name: str, total: int, label: str) -> None:
        """Raise a counter to the number that this run has reached."""
        what, tag = COUNTERS[name]
        new = total - self.counted.get((name, label), 0)
        if new > 0:
            if name not in self.counters:
                self.counters[name] = Counter(name, what, ("sweep", tag))
            self.counters[name].inc(new, {"sweep": self.sweep, tag: label})
            self.counted[name, label] = total

    def set(self, name: str, value: float, label: str = "") -> None:
        """Set a gauge."""
        what, tag = GAUGES[name]
        labels = {"sweep": self.sweep, **({tag: escaped(label)} if tag else {})}
        if name not in self.gauges:
            self.gauges[name] = Gauge(name, what, tuple(labels))
        self.gauges[name].set(value, labels)


class SweepTelemetry(Telemetry):
    """Metrics of the driver: counts, rate and best scores of its sweep."""

    def __init__(self, sweep: str, scheduler: Scheduler, say: Callable[[str], None]) -> None:
        super().__init__(sweep, say)
        self.scheduler = scheduler
        self.began = self.updated = time.monotonic()
        self.before = self._ended()
        self.update(force=True)

    def _ended(self) -> int:
        return self.scheduler.progress.done + self.scheduler.progress.failed

    def update(self, force: bool = False) -> None:
        """Record the present counts, every few seconds."""
        now = time.monotonic()
        if force or now - self.updated > EVERY_SECONDS:
            self.updated = now
            self.attempt(self._record)

    def _record(self) -> None:
        counts, seconds = self.scheduler.progress, max(self.updated - self.began, 1e-9)
        self.count("sweeps_trials_total", counts.done - counts.pruned, "done")
        self.count("sweeps_trials_total", counts.pruned, "pruned")
        self.count("sweeps_trials_total", counts.failed, "failed")
        self.count("sweeps_cells_total", counts.cells_done, "done")
        self.count("sweeps_cells_total", counts.cells_failed, "failed")
        self.set("sweeps_trials_planned", counts.trials)
        self.set("sweeps_trials_open", len(self.scheduler.trials.open))
        self.set("sweeps_trials_per_second", (self._ended() - self.before) / seconds)
        self.set("sweeps_cells_planned", counts.cells)
        self.set("sweeps_cells_open", counts.cells - counts.executed)
        self.set("sweeps_packs_running", len(self.scheduler.running))
        for objective, value in counts.best.items():
            self.set("sweeps_best_score", value, objective)


class WorkerTelemetry(Telemetry):
    """Metrics of a worker: the GPU memory of its torch, where that sees a GPU."""

    def __init__(self, sweep: str) -> None:
        super().__init__(sweep, print)

    def update(self) -> None:
        """Record the present memory. Imports no torch: who has none holds no memory."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            self.attempt(lambda: self._record(torch.cuda))

    def _record(self, cuda: Any) -> None:
        self.set("sweeps_gpu_memory_bytes", cuda.memory_reserved())
        self.set("sweeps_gpu_memory_peak_bytes", cuda.max_memory_reserved())
