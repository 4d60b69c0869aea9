"""The display of a running sweep: one bar in a terminal, a few lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sweeps.report.plain_text import name_text, print_line

if TYPE_CHECKING:
    from sweeps.planning.plan import Plan
    from sweeps.planning.run_progress import RunProgress

MOMENT = 0.2


class ProgressDisplay:
    """Trials and cells done, rate, time left and the best scores; silent when `quiet`."""

    def __init__(self, plan: Plan, counts: RunProgress, quiet: bool) -> None:
        self.plan = plan
        self.counts = counts
        self.console = Console(quiet=quiet, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.cells = self.bar.add_task("cells ", total=None, note="")
        self.trials = self.bar.add_task("trials", total=None, note="")
        self.shown = 0.0

    def __enter__(self) -> ProgressDisplay:
        self.began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update(force=True)
        self.bar.stop()
        if kind is None:
            self.say(self.summary())

    def say(self, text: str) -> None:
        """Print a line."""
        print_line(self.console, text, soft_wrap=True)

    def started(self, dashboard: str, workers: int, token_command: str = "") -> None:
        """Print that Ray is up; `token_command` prints the token that its dashboard asks for, if it asks for one."""
        where = f"; dashboard: http://{dashboard.removeprefix('http://')}" if dashboard else ""
        self.say(f"{self.plan.experiment.name}: {workers} packs at a time{where}")
        if dashboard and token_command:
            self.say(f"the dashboard asks for a token once; this prints it: {token_command}")
        self.say(f"results: {self.plan.storage}")
        self.bar.start()

    def truths(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print planted depths and the sets that cannot be told apart."""
        for row in rows:
            self.say(
                f"planted: {name_text(row['area'])} reads depth {row['planted']} of "
                f"{name_text(row['recording'])}'s teacher; "
                f"cannot be told apart: {', '.join(str(depth) for depth in row['alike'])}"
            )

    def update(self, force: bool = False) -> None:
        """Show the present counts, at most a few times a second."""
        if not force and time.monotonic() - self.shown < MOMENT:
            return
        self.shown = time.monotonic()
        counts = self.counts
        ended = counts.executed
        rate = ended / max(time.monotonic() - self.began, 1e-9)
        self.bar.update(self.cells, total=counts.cells, completed=ended, note=f"{rate:.1f}/s")
        best = ", ".join(f"{name.partition('.')[2]} {value:.3f}" for name, value in counts.best.items())
        note = (f"best {best}" if best else "") + (f"; {counts.failed} failed" if counts.failed else "")
        done = counts.known + counts.done + counts.failed
        self.bar.update(self.trials, total=counts.trials, completed=done, note=note)

    def summary(self) -> str:
        """Say what this run did, in one line."""
        counts, seconds = self.counts, time.monotonic() - self.began
        ran = counts.done + counts.failed
        failed = f", {counts.failed} of them failed" if counts.failed else ""
        failed += f", {counts.pruned} ended half-way" if counts.pruned else ""
        return (
            f"{counts.trials} trials: {ran} run now from {counts.executed} cells{failed}, "
            f"{counts.known} known before; {seconds:.1f} s"
        )
