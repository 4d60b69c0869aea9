"""The only file that knows Ray Tune: packs as Tune trials, the sweep as its searcher.

Imports nothing of `models` or `metrics` at the top: a worker imports this module before it knows whether those
names are ours (see sweeps.io.import_guard).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.search import Searcher

from sweeps import interrupts
from sweeps.errors import InputError, Refusal
from sweeps.execution.nodes.cluster_nodes import ClusterNodes
from sweeps.execution.nodes.node_proof import late_problem
from sweeps.execution.nodes.node_troubles import NodeTroubles
from sweeps.execution.remote_tasks import claim_code, end_process, rungs_of
from sweeps.execution.report_times import ReportTimes
from sweeps.execution.store_environment import with_advice
from sweeps.execution.telemetry import WorkerTelemetry
from sweeps.execution.tune_surroundings import tune_surroundings
from sweeps.experiment.worker_context import WorkerContext
from sweeps.io.guards.secrets import raising_redacted, redacted
from sweeps.planning.failures import ProcessFailure, failure_of, last_line

if TYPE_CHECKING:
    from sweeps.planning.scheduler import Scheduler


class SweepPack(tune.Trainable):
    """One pack at a time, in a process that lives through many packs.

    Each step fits cells for about two seconds (longer with many workers; the first one: what is fitted in one go),
    writes their rows as one part and reports the part's name: a row is durable before the driver hears of it. Where
    this node cannot write, the part goes to the driver. What a store or a disk keeps from its cells is given back.
    """

    @raising_redacted
    def setup(self, config: dict[str, Any]) -> None:
        """Check the code of this process, on a new node all that nodes prove, then open what its packs share."""
        self._refused = self._away = ""
        self._fresh = True
        self._runner: Any = None
        self._config = config["context"]
        context = WorkerContext.from_config(self._config)
        self._sweep = context.sweep
        self._telemetry = WorkerTelemetry(context.sweep)
        self._bad_node = late_problem(context, bool(config["resources"].get("GPU")))
        if self._bad_node:
            return
        try:
            claim_code(context)
            self._open(context)
        except Refusal as error:
            self._refused = redacted(str(error))
        else:
            self._load(config)

    def _open(self, context: WorkerContext) -> None:
        import torch

        from sweeps.execution.cell_runner import CellRunner
        from sweeps.execution.part_writer import PartWriter
        from sweeps.features.worker_data import WorkerData

        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self._runner = CellRunner(WorkerData(context), rungs_of(context))
        self._writer = PartWriter(context.storage, context.experiment["compute"]["limit_minutes"])

    def _load(self, config: Mapping[str, Any]) -> None:
        """Take up a pack. What goes wrong is raised by its first step, so that the pack is tried again."""
        self._broken: Exception | None = None
        self._away = ""
        try:
            self._take(config)
        except Exception as error:
            from sweeps.storage.retry import is_environment

            if isinstance(error, Refusal) and not is_environment(error):
                self._refused = redacted(str(error))
            elif isinstance(error, InputError) or is_environment(error):  # the driver has read the same data
                self._away = redacted(str(error))
            else:
                self._broken = error

    def _take(self, config: Mapping[str, Any]) -> None:
        from sweeps.planning.packs import Pack, jobs_of

        pack = Pack.from_config(config["pack"])
        print(pack, flush=True)  # the worker's log is where the dashboard shows what this process does now
        self._seconds = float(config["report"])
        for name in {cell.recording for cell in pack.cells}:
            self._runner.worker.recording(name)
        self._rows: Iterator[Any] = self._runner.rows(jobs_of(pack.cells), pack.attempt, pack.earlier)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another pack in this process; a new sweep asks for a new process."""
        if new_config["context"] != self._config:
            return False
        if self._runner is not None:
            self._load(new_config)
        return True

    @raising_redacted
    def step(self) -> dict[str, Any]:
        """Fit and score cells until it is time to report."""
        if self._bad_node:
            node = ray.get_runtime_context().get_node_id()
            return {"bad_node": node, "problem": self._bad_node, "part": "", "done": True}
        if self._refused:
            return {"refused": self._refused, "part": "", "done": True}
        if self._broken is not None:
            raise self._broken
        if self._away:
            return self._writer.give_back(self._away)
        from sweeps.storage.retry import EnvironmentProblem

        cells: list[dict[str, Any]] = []
        replicates: list[dict[str, Any]] = []
        until, done = time.monotonic() + (0.0 if self._fresh else self._seconds), True
        self._fresh = False
        try:
            for rows, draws in self._rows:
                cells += rows
                replicates += draws
                if time.monotonic() > until:
                    done = False
                    break
        except EnvironmentProblem as problem:
            self._away, done = redacted(str(problem)), False
        tables = {"bootstraps": replicates, "folds": self._runner.take_folds(), "cells": cells}
        report = self._writer.report(tables, self._away)
        self._telemetry.update()
        return {**report, "cells": len(cells), "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: rows are the only state, and they are durable."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What one pack asks of the cluster: resources, and a node that was not left out."""
        selector = config.get("selector")
        where: dict[str, Any] = {"bundle_label_selector": [selector]} if selector else {}
        return tune.PlacementGroupFactory([dict(config["resources"])], **where)

    def __repr__(self) -> str:
        """The sweep: Ray asks for this once, when the process has started, and many packs follow."""
        return f"SweepPack({self._sweep})"


class Unsaved:
    """Not part of the state that Tune pickles: the rows are the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class PackSearcher(Unsaved, Searcher):
    """Hands the scheduler's packs to Tune, and what comes back to the scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        context: WorkerContext,
        nodes: ClusterNodes,
        workers: int,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self.troubles = NodeTroubles(say)
        self.scheduler = scheduler
        self.context = context.as_config()
        self.nodes = nodes
        self.tokens: dict[str, str] = {}
        self.times = ReportTimes(workers, scheduler.experiment.compute.limit_minutes)
        self.problem: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        """Give the next pack, None to wait for scores, or the end."""
        next_pack = None if self.problem else self.guarded(self.scheduler.next_pack)
        if next_pack is None:
            over = self.problem is not None or self.scheduler.finished
            return Searcher.FINISHED if over else None
        token, pack = next_pack
        self.tokens[trial_id] = token
        own = {"pack": pack.as_config(), "report": self.times.seconds()}
        where = {"resources": dict(self.nodes.resources), "selector": self.nodes.selector()}
        return {"context": self.context, **where, **own}

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Run an action of the scheduler; its first error ends the run and is raised when Tune has stopped."""
        try:
            return action()
        except Exception as error:
            self.problem = self.problem or error
            return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take up the rows of a step."""
        self.times.note_report(trial_id, waits=bool(result.get("trouble")))
        if result.get("trouble"):
            self.troubles.note(result["node"], result["trouble"])
        if result.get("refused"):
            self.problem = self.problem or InputError(result["refused"])
            return
        part, handed = str(result.get("part") or ""), result.get("handed", [])
        if part or handed:
            began = time.monotonic()
            self.guarded(lambda: self.scheduler.absorb(part, handed))
            handed.clear()  # Tune keeps the last result of every pack
            self.times.note_absorbed(time.monotonic() - began)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take up the last step of a pack; a failed one comes through `trial_failed`."""
        if error:
            return
        if result and result.get("bad_node"):
            self._leave_out(trial_id, {result["bad_node"]: result["problem"]})
        elif result:
            self.on_trial_result(trial_id, result)
            self.times.forget(trial_id)
        token = self.tokens.pop(trial_id, None)
        if token is not None and self.problem is None:
            why = str(result["trouble"]) if result and result.get("given_back") else ""
            self.guarded(lambda: self.scheduler.returned(token, why) if why else self.scheduler.done(token))

    def _leave_out(self, trial_id: str, problems: Mapping[str, str]) -> None:
        """Take up that a new node has proven unfit; its pack runs elsewhere."""
        self.problem = self.problem or self.nodes.leave_out(problems)
        token = self.tokens.pop(trial_id, None)
        self.times.forget(trial_id)
        if token is not None:
            self.guarded(lambda: self.scheduler.failed(token, "its node is unfit", ProcessFailure.NODE))

    def trial_failed(self, trial_id: str, error: str) -> None:
        """Take up that the process of a pack is gone."""
        token, late = self.tokens.pop(trial_id, None), trial_id in self.times.overdue
        self.times.forget(trial_id)
        if token is None:
            return
        limit = f"no cell was finished in {self.times.limit / 60:g} minutes (compute.limit_minutes)"
        failure = ProcessFailure.OVERDUE if late else failure_of(error)
        self.guarded(lambda: self.scheduler.failed(token, limit if late else with_advice(last_line(error)), failure))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """There is nothing that Tune could tell."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class ProgressCallback(Unsaved, tune.Callback):
    """Notes packs that begin or fail, ends overdue ones, and updates the display after every step."""

    def __init__(self, searcher: PackSearcher, update: Callable[[], None]) -> None:
        self.searcher = searcher
        self.update = update

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a process has taken up a pack."""
        self.searcher.times.note_report(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a pack's process died, or that its step raised; while the sweep ends that is nobody's fault."""
        if interrupts.received():
            return
        file = trial.error_file
        self.searcher.trial_failed(trial.trial_id, Path(file).read_text() if file else "no error was recorded")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the display and the fold keep time; here, where nothing is half done, a postponed interrupt is raised."""
        interrupts.check()
        late = self.searcher.times.take_overdue()
        for trial in trials:
            if trial.trial_id in late:
                end_process(trial.temporary_state.ray_actor)
        self.searcher.guarded(self.searcher.scheduler.flush_if_due)
        self.update()


def run_packs(
    scheduler: Scheduler,
    context: WorkerContext,
    nodes: ClusterNodes,
    workers: int,
    update: Callable[[], None],
    trainable: type[SweepPack] = SweepPack,
    say: Callable[[str], None] = print,
) -> None:
    """Run the scheduler's packs under Ray Tune until it is finished; Tune's own state lies in a temporary folder.

    `trainable` is what runs them; the benchmark of scheduling gives one whose cells sleep. `say` is told what keeps
    nodes from their work.
    """
    searcher = PackSearcher(scheduler, context, nodes, workers, say)
    with tune_surroundings() as folder:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=-1, max_concurrent_trials=workers, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name=context.sweep,
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # nodes do not share Tune's folder
                callbacks=[ProgressCallback(searcher, update)],
            ),
        ).fit()
    if searcher.problem is not None:
        raise searcher.problem
