"""Numbers that may move only together with a VERSION, and ids that are the same in every process.

The golden numbers guard against change alone: whether they are right is tested in the rooms that compute them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import plan_of, run_inline, trials_of

from models.backbones import BACKBONES
from models.readouts import READOUTS
from sweeps.hashing import canonical, content_id
from sweeps.scores import SCORES

ROOT = Path(__file__).resolve().parents[3]
TOLERANCE = 2e-3
COLUMNS = ("select.prediction", "score.prediction", "score.prediction_ceiled")


@dataclass(frozen=True)
class Golden:
    """VERSIONs in use (backbone, readout, prediction) and the numbers in COLUMNS."""

    backbone: Any
    depth: int
    readout: Any
    versions: tuple[int, int, int]
    numbers: tuple[float, float, float]


GAUSSIAN = {"gaussian": {"loss": "gaussian", "epochs": 3, "pool": 8}}
GOLDEN = {
    "efficientnet-ridge": Golden("efficientnet-lite0", 1, {"ridge": {"pool": 4}}, (1, 1, 3), (0.6939, 0.6938, 0.8259)),
    "random-ridge": Golden(
        {"efficientnet-lite0": {"weights": "random"}},
        1,
        {"ridge": {"pool": 4, "alpha": 1.0}},
        (1, 1, 3),
        (0.6562, 0.5831, 0.6928),
    ),
    "pixels-ridge": Golden("pixels", 0, {"ridge": {"pool": 4}}, (1, 1, 3), (0.8064, 0.7816, 0.9271)),
    "efficientnet-gaussian": Golden("efficientnet-lite0", 1, GAUSSIAN, (1, 1, 3), (0.3170, 0.2868, 0.3439)),
    "conv-gaussian": Golden(
        {"conv": {"epochs": 1, "layers": 2, "channels": 4}}, 1, GAUSSIAN, (2, 1, 3), (0.1287, 0.2361, 0.2830)
    ),
}


def name_of(choice: Any) -> str:
    """The component of a choice."""
    return choice if isinstance(choice, str) else next(iter(choice))


@pytest.mark.parametrize("case", GOLDEN)
def test_numbers_move_only_with_a_version(case: str, make_recording: Callable[..., Path], tmp_path: Path) -> None:
    golden = GOLDEN[case]
    folder = make_recording(tmp_path / "data" / "golden", stimuli=240, areas={"V1": 12})
    experiment = {
        "name": "golden",
        "recordings": [{"format": "folder", "path": str(folder), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": golden.backbone, "depth": {"V1": [golden.depth]}, "readout": golden.readout},
        "scores": ["prediction"],
    }
    plan = plan_of(experiment, tmp_path)
    run_inline(plan)
    trial = trials_of(plan).iloc[0]
    assert trial["status"] == "done", trial["error"]
    found = np.array([trial[column] for column in COLUMNS], dtype=float)
    backbone, readout = BACKBONES[name_of(golden.backbone)], READOUTS[name_of(golden.readout)]
    versions = (backbone.version, readout.version, SCORES["prediction"].version)
    moved = not np.allclose(found, golden.numbers, rtol=0, atol=TOLERANCE)
    now = f"numbers {tuple(round(float(value), 4) for value in found)}, versions {versions}"
    assert not moved or versions != golden.versions, (
        f"{case}: the numbers have moved from {golden.numbers} but no VERSION was raised. If that was meant, raise the "
        f"VERSION of the component or score that changed, then write here: {now}"
    )
    assert (versions, moved) == (golden.versions, False), f"{case}: a VERSION was raised; write here: {now}"


IDS = """
import json, sys
from sweeps.planning.plan import make_plan
plan = make_plan(json.loads(sys.argv[1]), storage=sys.argv[2], cache=sys.argv[2])
for configuration in plan.space.grid():
    cells = plan.planner.cells(configuration)
    print(plan.planner.trial_id(cells), *(cell.cell_id for cell in cells))
print(sorted(plan.score_keys.values()), plan.facts[0].fingerprint, plan.digest)
"""


def test_ids_are_the_same_in_every_process(experiment: dict[str, Any], tmp_path: Path) -> None:
    space = {
        "backbone": ["efficientnet-lite0", "pixels", {"conv": {"layers": 2}}],
        "depth": {"V4": [0], "V1": [0]},
        "readout": [{"ridge": {"alpha": ["auto", 0.1]}}, {"gaussian": {"l1": {"low": 0.01, "high": 1, "steps": 3}}}],
        "seed": [0, 1],
    }
    text = json.dumps({**experiment, "space": space})
    printed = {
        subprocess.run(
            [sys.executable, "-c", IDS, text, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1
    [ids] = printed
    assert len(set(ids.splitlines())) == 2 * (2 * (2 + 3) + 3) + 1


def test_ids_are_hashes_of_canonical_text() -> None:
    assert canonical({"b": 1, "a": [0.1, None, "é"]}) == '{"a":[0.1,null,"\\u00e9"],"b":1}'
    assert content_id({"b": 1, "a": 2}) == content_id({"a": 2, "b": 1}) == "d3626ac30a87e6f7a642"
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
