"""When packs report: who is overdue, and how seldom reports are."""

from __future__ import annotations

import pytest

from sweeps.execution import report_times
from sweeps.execution.report_times import REPORT_MOST, REPORT_SECONDS, WAIT_SECONDS, ReportTimes, report_seconds


class Clock:
    """Stands for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        """The time that the test has set."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(report_times, "time", found)
    return found


def test_a_pack_is_overdue_once_when_limit_and_report_have_passed(clock: Clock) -> None:
    times = ReportTimes(2, limit_minutes=1.0)
    times.note_report("a")
    clock.now = 30.0
    times.note_report("b")
    times.note_report("c")
    times.forget("c")
    clock.now = 60.0 + REPORT_SECONDS
    assert times.take_overdue() == []
    clock.now += 0.1
    assert times.take_overdue() == ["a"]
    assert times.take_overdue() == []
    clock.now = 1000.0
    assert times.take_overdue() == ["b"]
    assert times.overdue == {"a", "b"}


def test_a_driver_that_waits_for_its_store_makes_nobody_overdue(clock: Clock) -> None:
    times = ReportTimes(2, limit_minutes=1.0)
    times.note_report("a")
    clock.now = 1200.0
    times.note_absorbed(1200.0)
    assert times.take_overdue() == []
    assert times.seconds() <= REPORT_MOST
    clock.now += 60.0 + times.seconds() + 0.1
    assert times.take_overdue() == ["a"]


def test_a_worker_that_waits_has_longer(clock: Clock) -> None:
    times = ReportTimes(2, limit_minutes=1.0)
    times.note_report("a", waits=True)
    clock.now = 60.0 + WAIT_SECONDS
    assert times.take_overdue() == []
    clock.now += REPORT_SECONDS + 0.1
    assert times.take_overdue() == ["a"]


def test_without_a_limit_nothing_is_overdue(clock: Clock) -> None:
    times = ReportTimes(2, limit_minutes=None)
    times.note_report("a")
    clock.now = 1e12
    assert times.take_overdue() == []


def test_reports_become_seldom_where_the_driver_is_slow() -> None:
    times = ReportTimes(400, limit_minutes=None)
    before = times.seconds()
    for _ in range(200):
        times.note_absorbed(0.05)
    assert times.absorbing == pytest.approx(0.05)
    assert times.seconds() == pytest.approx(report_seconds(400, 0.05))
    assert times.seconds() > before
