"""Commands and `sweeps.run` that are interrupted, without a Ray: what they say, return and leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from processes import environment
from typer.testing import CliRunner

import sweeps
from sweeps import interrupts
from sweeps.cli import app
from sweeps.storage.objects import Objects
from sweeps.storage.run_lock import RunLock

LINE = "interrupted: the same command goes on from here\n"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals as a program finds them."""
    before = {number: signal.signal(number, usual) for number, usual in interrupts.USUAL.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def experiment(experiment: dict[str, Any]) -> dict[str, Any]:
    """One without a network."""
    space = {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"ridge": {"pool": 4}}}
    return {**experiment, "space": space, "scores": ["prediction"]}


def sending(number: int) -> Any:
    def send(*_: Any) -> None:
        os.kill(os.getpid(), number)

    return send


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_interrupted_says_that_it_goes_on(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setattr("sweeps.commands.run._execute", sending(number))
    plan = sweeps.check(experiment, str(tmp_path / "rows"))
    monkeypatch.setattr("sweeps.planning.plan.make_plan", lambda *_: plan)
    with interrupts.handled():
        ended = CliRunner().invoke(app, ["run", "small"])
    assert (ended.exit_code, ended.stderr) == (code, LINE)
    assert not list(tmp_path.glob("rows/running/*"))


def test_a_notebook_gets_a_result_and_a_program_is_ended(
    experiment: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.commands.run._execute", sending(signal.SIGINT))
    result = sweeps.run(experiment, str(tmp_path / "rows"))
    assert (result.finished, result.signal, result.progress.done) == (False, signal.SIGINT, 0)
    monkeypatch.setattr("sweeps.commands.run._execute", sending(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        sweeps.run(experiment, str(tmp_path / "rows"))
    assert ended.value.code == 143
    assert {number: signal.getsignal(number) for number in interrupts.USUAL} == interrupts.USUAL


def test_a_listing_that_is_interrupted_does_not_claim_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.report.terminal.show", lambda *_, **__: sending(signal.SIGINT)())
    with interrupts.handled():
        ended = CliRunner().invoke(app, ["show", "anywhere"])
    assert (ended.exit_code, ended.stderr) == (130, "interrupted\n")


def test_a_lock_that_was_interrupted_in_the_making_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives on where it is a notebook: its lock would be one of a living run."""
    store = Objects(str(tmp_path / "rows"))
    lock = RunLock(store, "run")
    create = lock._create

    def interrupted(name: str) -> bool:
        create(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, "_create", interrupted)
    with pytest.raises(KeyboardInterrupt), lock:
        pass
    with RunLock(store, "run"):
        pass


AWAY = """
import sweeps.cli
from sweeps.errors import Unavailable

def away(): raise Unavailable("does not answer", key="storage", value="s3://lab")
sweeps.cli.app = away
sweeps.cli.main()
"""


def test_what_is_away_for_now_has_an_exit_code_of_its_own() -> None:
    ended = subprocess.run([sys.executable, "-c", AWAY], env=environment(), capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (75, "error: storage = 's3://lab': does not answer\n")


def test_a_postponed_interrupt_is_raised_between_two_steps_and_blames_no_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM of a whole group ends Ray's processes, too: their deaths are nobody's fault."""
    from sweeps.execution.tune import ProgressCallback

    calls: list[str] = []
    searcher: Any = SimpleNamespace(trial_failed=lambda *_: calls.append("failed"))
    trial: Any = SimpleNamespace(error_file=None, trial_id="0")
    callback = ProgressCallback(searcher, lambda: calls.append("updated"))
    callback.on_trial_error(0, [], trial)
    assert calls == ["failed"]
    with interrupts.handled(), pytest.raises(interrupts.Interrupted), interrupts.postponed():  # noqa: PT012
        sending(signal.SIGTERM)()
        callback.on_trial_error(0, [], trial)
        callback.on_step_end(0, [])
    assert calls == ["failed"]
