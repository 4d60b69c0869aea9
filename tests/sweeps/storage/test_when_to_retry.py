"""Which answers of an object store are worth another try, and how long the pauses between tries are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from sweeps.storage import retry
from sweeps.storage.retry import FIRST_PAUSE, LONGEST_PAUSE, is_transient, with_retries


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599, 400, 401, 403, 404, 407, 409, 412, 501, 499])
def test_what_is_busy_is_asked_again_and_what_is_refused_is_not(status: int) -> None:
    answer = {"Error": {"Code": "Other"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert is_transient(ClientError(answer, "PutObject")) is (status in (408, 429) or 500 <= status != 501)


class Clock:
    """Stands for the modules `time` and `interrupts`: nobody waits."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    held = Clock()
    monkeypatch.setattr(retry, "time", held)
    monkeypatch.setattr(retry, "interrupts", held)
    return held


def test_pauses_double_to_the_longest_and_end_with_the_time(clock: Clock) -> None:
    def away() -> None:
        raise TimeoutError("nobody answers")

    with pytest.raises(TimeoutError, match="nobody answers"):
        with_retries(away, "s3://x", 300.0)
    assert sum(clock.pauses) == pytest.approx(300.0)
    longest = [min(LONGEST_PAUSE, FIRST_PAUSE * 2**number) for number in range(len(clock.pauses))]
    for pause, most in list(zip(clock.pauses, longest, strict=True))[:-1]:
        assert most / 2 <= pause <= most
    assert longest[-1] == LONGEST_PAUSE
    assert any(later != earlier for earlier, later in pairwise(clock.pauses[7:-1]))  # drawn, lest workers come together


def test_an_action_that_succeeds_at_last_gives_its_value(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([TimeoutError("away"), ConnectionResetError("away"), 5])

    def action() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(action, "s3://x", 300.0) == 5
    assert len(clock.pauses) == 2
    waits, goes_on = [record.getMessage() for record in caplog.records]
    assert waits.startswith("s3://x: does not answer (TimeoutError: away), since ")
    assert waits.endswith("; waiting up to 5 min")
    assert goes_on.startswith("s3://x: can be used again; it was waited for since ")


@pytest.mark.parametrize("error", [PermissionError("no"), ValueError("no"), FileNotFoundError("no")])
def test_what_will_not_change_is_raised_at_once(error: Exception, clock: Clock) -> None:
    def action() -> None:
        raise error

    with pytest.raises(type(error)):
        with_retries(action, "s3://x", 300.0)
    assert clock.pauses == []
