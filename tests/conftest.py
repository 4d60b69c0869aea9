"""Shared fixtures: a small recording in the real folder format, and the recordings of ../shared where present."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads that wait for each other on busy cores are slow
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # Ray's own 30 s are few on a busy machine

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")  # the same examples every time; `--hypothesis-profile=default` looks for others

LONGEST = (
    "test_run",
    "test_s3_run",
    "test_bad_input",
    "test_scheduler",
    "test_simulated",
    "test_video",
    "test_commands",
)
"""Files that take longest: they go first, so that no worker is left alone with one of them at the end."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    ranks = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def shared_data() -> Path:
    """The folder of real recordings."""
    if not SHARED.is_dir():
        pytest.skip(f"the real recordings are not here: {SHARED}")
    return SHARED


def write_recording(
    folder: Path,
    stimuli: int = 60,
    areas: dict[str, int] | None = None,
    repeats: int = 3,
    groups: int | None = None,
    seed: int = 0,
    size: int = 32,
) -> Path:
    """A recording whose units see the mean brightness of a place in random pictures, with noise and repeats."""
    random = np.random.default_rng(seed)
    areas = areas or {"V1": 4, "V4": 5}
    folder.mkdir(parents=True, exist_ok=True)
    coarse = random.integers(0, 255, (stimuli, 4, 4, 3), dtype=np.uint8)
    names = [f"{index:04d}.png" for index in range(stimuli)]
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, picture in zip(names, coarse, strict=True):
            held = io.BytesIO()
            Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC).save(held, "PNG")
            archive.writestr(zipfile.ZipInfo(name), held.getvalue())  # no clock time: equal pictures, equal bytes
    units = sum(areas.values())
    weights = random.standard_normal((48, units)) / 7
    clean = 2.0 + coarse.reshape(stimuli, -1) / 255 @ weights
    noisy = clean[:, :, None] + 0.3 * random.standard_normal((stimuli, units, repeats))
    np.save(folder / "responses.npy", noisy.astype(np.float32))
    labels = [f"group{index % (groups or stimuli):03d}" for index in range(stimuli)]
    lines = ["file,group", *(f"{name},{label}" for name, label in zip(names, labels, strict=True))]
    (folder / "stimuli.csv").write_text("\n".join(lines) + "\n")
    rows = [area for area, count in areas.items() for _ in range(count)]
    (folder / "units.csv").write_text("\n".join(["unit,area", *(f"{i},{a}" for i, a in enumerate(rows))]) + "\n")
    return folder


@pytest.fixture
def memory_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `memory://` pass, a file system that is none of this machine's, for what is the same on all of them."""
    from sweeps.io.guards.urls import STORES

    monkeypatch.setitem(STORES, "memory", "BUCKET")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A small recording of two areas."""
    return write_recording(tmp_path / "data" / "small")


@pytest.fixture
def experiment(recording: Path) -> dict[str, Any]:
    """A small experiment on the small recording: 2 areas x 3 depths, ridge, no probes."""
    return {
        "name": "small",
        "recordings": [{"format": "folder", "path": str(recording), "image": {"size": 32}}],
        "probes": {},
        "space": {
            "backbone": "efficientnet-lite0",
            "depth": {"V1": [0, 1, 2], "V4": [0, 1, 2]},
            "readout": {"ridge": {"pool": 4}},
            "seed": [0, 1],
        },
        "scores": ["prediction", "dimensionality"],
    }


Writer = Callable[..., Path]


@pytest.fixture
def make_recording() -> Writer:
    """The function that writes small recordings."""
    return write_recording
