"""A line of progress while stimuli are read."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sweeps.report.plain_text import name_text


class ReadProgress:
    """Shows how much of every recording was read; nothing where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ReadProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, recording: str, done: int, total: int) -> None:
        """Show that so many stimuli of a recording were read."""
        if recording not in self._tasks:
            self._tasks[recording] = self._progress.add_task(name_text(recording), total=total)
        self._progress.update(self._tasks[recording], completed=done)
