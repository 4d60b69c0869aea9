"""When packs report, and which of them have not reported for too long. Knows no Ray."""

from __future__ import annotations

import math
import time

REPORT_SECONDS, REPORT_MOST = 2.0, 120.0
"""A pack writes its finished rows as one part about this often, a new process its first ones at once; with many workers
less often, see `report_seconds`."""

WAIT_SECONDS = 180.0
"""More than a worker waits between two reports of what keeps it from its work."""

STEP_SECONDS = 0.005
"""What Tune itself takes for the report of a step."""


def report_seconds(workers: int, absorbing: float) -> float:
    """Give the seconds between two reports of a pack; the driver takes `absorbing` seconds for the rows of one.

    There is one driver for all workers, and reading a part from an object store takes it tens of milliseconds: packs
    report so seldom that reports take half of its time.
    """
    return min(REPORT_MOST, max(REPORT_SECONDS, 2 * workers * (STEP_SECONDS + absorbing)))


class ReportTimes:
    """When each running pack reports next: after the seconds between two reports, and `limit_minutes` at most."""

    def __init__(self, workers: int, limit_minutes: float | None) -> None:
        self.workers = workers
        self.absorbing = 0.0
        self.limit = math.inf if limit_minutes is None else 60.0 * limit_minutes
        self.due: dict[str, float] = {}
        self.overdue: set[str] = set()

    def seconds(self) -> float:
        """Give the seconds between two reports, as fast as the driver is now."""
        return report_seconds(self.workers, self.absorbing)

    def note_absorbed(self, seconds: float) -> None:
        """Note how long the driver took for the rows of a report; meanwhile no pack could report."""
        self.absorbing += 0.1 * (min(seconds, REPORT_MOST) - self.absorbing)
        self.due = {trial_id: due + seconds for trial_id, due in self.due.items()}

    def note_report(self, trial_id: str, waits: bool = False) -> None:
        """Note that a pack has begun or reported; one that `waits` for its environment may take longer to say more."""
        self.due[trial_id] = time.monotonic() + self.limit + self.seconds() + waits * WAIT_SECONDS

    def forget(self, trial_id: str) -> None:
        """Note that a pack has ended."""
        self.due.pop(trial_id, None)

    def take_overdue(self) -> list[str]:
        """Give packs that have not reported for too long, each once."""
        now = time.monotonic()
        late = [trial_id for trial_id, due in self.due.items() if due < now]
        for trial_id in late:
            del self.due[trial_id]
        self.overdue.update(late)
        return late
