"""The format `shortclips`: fMRI of silent movie clips with features that come beside it (Gallant lab, CC0).

    responses/<subject>_responses.hdf    Y_train (samples, voxels), Y_test (repeats, samples, voxels), run_onsets
    features/<space>.hdf                 X_train (samples, features), X_test (samples, features)

Rows are the train samples, run by run, then those of the test run, whose repeats are repeats. A run is a group, so
splits leave out whole runs. Voxels that hold no numbers (outside cortex) or never change are left out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.identity import content_id
from sweeps.recordings.bold import check_size, hdf5_arrays, with_data, zscored
from sweeps.recordings.facts import RecordingFacts
from sweeps.recordings.images import join
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.tree import Tree
from sweeps.recordings.units import UnitChoice, choose_units

TEST = "test"


class ShortclipsSpec(UnitChoice):
    """A subject's movie runs; `spaces` names feature spaces (none: all that are there), `tr` the seconds a sample.

    `zscore`: every voxel within every run, and within every repeat of the test run.
    """

    format: Literal["shortclips"]
    path: str
    name: str | None = None
    subject: str = Field("S01", min_length=1)
    spaces: tuple[str, ...] = Field((), strict=False)
    area: str | None = "cortex"
    tr: float = Field(2.0045, gt=0)
    zscore: bool = True

    def recording_name(self) -> str:
        """Name in the tables: `name`, else the subject."""
        return self.name or self.subject


def describe_shortclips(spec: ShortclipsSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; `notes["voxels_left_out"]` counts voxels without data."""
    recording, left_out = _opened(spec, base)
    return replace(recording.facts(), notes={"voxels_left_out": left_out})


def open_shortclips(spec: ShortclipsSpec, base: str, cache: Path | None = None) -> Recording:
    """Read the runs; InputError names the file and what was expected. `cache` is not needed here."""
    return _opened(spec, base)[0]


def _opened(spec: ShortclipsSpec, base: str) -> tuple[Recording, int]:
    tree = Tree(join(base, spec.path))
    name = f"responses/{spec.subject}_responses.hdf"
    train, test, onsets = hdf5_arrays(tree, name, ["Y_train", "Y_test", "run_onsets"])
    _check_shapes(train, test, onsets, tree.file(name))
    there = np.intersect1d(with_data(train), with_data(test.reshape(-1, test.shape[2])))
    units = choose_units(spec, len(there), None, None, tree.file(name))
    voxels = there[units.rows]
    check_size(len(train) + test.shape[1], len(voxels), len(test), tree.file(name))
    table = _table(onsets, len(train), test.shape[1], spec.tr)
    responses = _responses(train[:, voxels], test[:, :, voxels], onsets, spec.zscore)
    features = {space: _features(tree, space, len(train), test.shape[1]) for space in spec.spaces or _spaces(tree)}
    identity = content_id([tree.digest(), spec.model_dump(mode="json", exclude={"path", "name"})])
    fit = StimulusSet(table, responses, content_id([identity, "movies"]))
    recording = Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, features, frame_rate=1 / spec.tr)
    return recording, train.shape[1] - len(there)


def _check_shapes(train: np.ndarray, test: np.ndarray, onsets: np.ndarray, file: str) -> None:
    if train.ndim != 2 or test.ndim != 3 or test.shape[2] != train.shape[1]:
        problem = "Y_train must be (samples, voxels) and Y_test (repeats, samples, voxels) of the same voxels"
        raise InputError(problem, file=file, value=(train.shape, test.shape))
    starts = onsets.astype(int).tolist()
    if onsets.ndim != 1 or not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= len(train):
        problem = f"must be the rising first samples of the runs, from 0 and below {len(train)}"
        raise InputError(problem, file=file, key="run_onsets", value=starts)


def _table(onsets: np.ndarray, train: int, test: int, tr: float) -> pd.DataFrame:
    """Run and time of every row; the test run comes last."""
    run = np.searchsorted(onsets, np.arange(train), side="right") - 1
    labels = [*(f"run{index:02d}" for index in run), *[TEST] * test]
    times = np.concatenate([np.arange(train) - np.asarray(onsets)[run], np.arange(test)]) * tr
    return pd.DataFrame({"group": labels, "run": labels, "time": times})


def _responses(train: np.ndarray, test: np.ndarray, onsets: np.ndarray, zscore: bool) -> np.ndarray:
    """Responses (rows, voxels, repeats) float32; train samples were seen once, the other repeats are NaN."""
    runs = np.split(train, np.asarray(onsets[1:], dtype=int))
    found = np.full((len(train) + test.shape[1], train.shape[1], len(test)), np.nan, dtype=np.float32)
    found[: len(train), :, 0] = np.concatenate([zscored(run) if zscore else run for run in runs])
    for repeat, samples in enumerate(test):
        found[len(train) :, :, repeat] = zscored(samples) if zscore else samples
    return found


def _spaces(tree: Tree) -> list[str]:
    found = sorted(name.removesuffix(".hdf") for name in tree.names("features") if name.endswith(".hdf"))
    if not found:
        raise InputError("has no feature space (*.hdf)", file=tree.file("features"))
    return found


def _features(tree: Tree, space: str, train: int, test: int) -> np.ndarray:
    name = f"features/{space}.hdf"
    first, last = hdf5_arrays(tree, name, ["X_train", "X_test"])
    for key, array, rows in (("X_train", first, train), ("X_test", last, test)):
        if array.ndim != 2 or len(array) != rows:
            raise InputError(f"must be ({rows}, features)", file=tree.file(name), key=key, value=array.shape)
    if first.shape[1] != last.shape[1]:
        problem = f"have {first.shape[1]} and {last.shape[1]} features"
        raise InputError(f"X_train and X_test {problem}", file=tree.file(name))
    joined = np.concatenate([first, last]).astype(np.float64)
    if not np.isfinite(joined).all():
        raise InputError("holds NaN or infinite values", file=tree.file(name))
    return joined
