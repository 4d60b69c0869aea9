"""A sweep of a thousand trials whose processes are killed every few seconds, until it is done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from processes import ROOT, Process, command, descendants, environment, wait_for
from slow_sweep import written

import sweeps

TRIALS, PACK = 1000, 10
BETWEEN = (2.0, 6.0)
"""Seconds between two kills."""

VICTIMS = {"driver": 2, "worker": 6, "raylet": 1}
"""How often each kind is chosen."""


def of_kind(driver: int, kind: str) -> list[Process]:
    """Processes of a kind that a driver has."""
    words = {"worker": "ray::SweepPack", "raylet": "raylet/raylet"}
    return [each for each in descendants(driver) if words[kind] in each.title]


def arguments(folder: Path, experiment: dict[str, Any], name: str) -> list[str]:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(experiment))
    places = ["--storage", str(folder / name), "--cache", str(folder / "cache"), "--cpus", "2"]
    return command("run", str(folder / f"{name}.yaml"), *places)


def run_and_kill(line: list[str], folder: Path, draws: random.Random) -> list[str]:
    """Run to the end, killing on the way; what was killed when."""
    kills: list[str] = []
    with (folder / "log").open("wb") as log:
        while True:
            run = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT)
            theirs: set[Process] = set()
            try:
                while run.poll() is None:
                    time.sleep(draws.uniform(*BETWEEN))
                    theirs |= descendants(run.pid)
                    kind = draws.choices(list(VICTIMS), list(VICTIMS.values()))[0]
                    found = [run.pid] if kind == "driver" else [each.pid for each in of_kind(run.pid, kind)]
                    if run.poll() is None and found:
                        os.kill(draws.choice(found), signal.SIGKILL)
                        kills.append(kind)
            finally:
                run.kill()
                run.wait()
            wait_for(lambda left=theirs: not any(each.alive for each in left), 30, "no orphan is left")  # type: ignore[misc]
            if run.returncode == 0:
                return kills


@pytest.mark.slow
def test_a_thousand_trials_under_fire(experiment: dict[str, Any], tmp_path: Path) -> None:
    readout = {"ridge": {"pool": 3, "alpha": {"low": 0.01, "high": 1000.0, "log": True, "steps": TRIALS}}}
    space = {"backbone": "pixels", "readout": readout}
    compute = {"cells_per_pack": PACK, "max_failures": 100}  # killed at random, a cell may be hit again and again
    held = {**experiment, "space": space, "scores": ["prediction", "interval"], "compute": compute}
    subprocess.run(arguments(tmp_path, held, "calm"), cwd=ROOT, env=environment(), check=True, capture_output=True)
    kills = run_and_kill(arguments(tmp_path, held, "fire"), tmp_path, random.Random(0))

    for table, key in (("trials", "trial_id"), ("cells", "cell_id")):
        calm, fire = (sweeps.load(str(tmp_path / name), table) for name in ("calm", "fire"))
        assert not fire[key].duplicated().any()
        scores = [name for name in calm if name.startswith(("select.", "score."))]
        both = [each.set_index(key).sort_index()[["status", *scores]] for each in (fire, calm)]
        pd.testing.assert_frame_equal(*both, rtol=0, atol=1e-9)
    assert len(sweeps.load(str(tmp_path / "fire"))) == TRIALS
    executions = written(tmp_path / "fire")
    again = sum(executions.values()) - len(executions)
    print(f"{Counter(kills)} killed, {again} of {len(executions)} cells executed again, none lost, none doubled")
    assert len(kills) > 5
    assert again <= PACK * len(kills) * 2
    assert not [path for path in (tmp_path / "fire").rglob(".*") if path.is_file() and "parts" in path.parts]
