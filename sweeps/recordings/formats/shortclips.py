"""The format `shortclips`: fMRI of silent movie clips with features that come beside it (Gallant lab, CC0).

    responses/<subject>_responses.hdf    Y_train (samples, voxels), Y_test (repeats, samples, voxels), run_onsets
    features/<space>.hdf                 X_train (samples, features), X_test (samples, features)

Rows are the train samples, run by run, then those of the test run, whose repeats are repeats. A run is a group, so
splits leave out whole runs. Voxels that hold no numbers (outside cortex) or never change, in the train samples or in
one repeat, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import h5py
import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.contents import Contents, clip_key, row_keys
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, chosen, hdf5_in, remember, some_of, with_data, zscored
from sweeps.recordings.readers.hdf5 import numbers, whole_numbers
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.spec import SubjectSpec
from sweeps.recordings.split_rows import PUBLISHED
from sweeps.recordings.units import choose_units

TEST = "test"


class ShortclipsSpec(SubjectSpec):
    """A subject's movie runs; `spaces` names feature spaces (none: all that are there), `tr` the seconds a sample.

    `zscore`: every voxel within every run, and within every repeat of the test run.
    """

    published: ClassVar[str] = "the test run"

    format: Literal["shortclips"]
    subject: str = Field("S01", min_length=1)
    spaces: tuple[str, ...] = Field((), strict=False)
    area: str | None = "cortex"
    tr: float = Field(2.0045, gt=0)
    zscore: bool = True

    def open(self, base: str, cache: Path) -> Recording:
        """Read the runs; InputError names the file and what was expected.

        Responses are read in parts, twice: to see which voxels hold data, then those that are chosen.
        `notes["voxels_left_out"]` counts voxels without data.
        """
        tree = Tree(join(base, self.path))
        name = f"responses/{self.subject}_responses.hdf"
        file = tree.file(name)
        remember(tree, name)
        with hdf5_in(tree, name) as content:
            train, test, onsets = _datasets(content, file)
            samples, test_samples = len(train), test.shape[1]
            with_numbers = some_of(with_data(train) & with_data(test), file)
            units = choose_units(self, len(with_numbers), None, None, file)
            check_size(samples + test_samples, len(units.rows), len(test), file)
            voxels, left_out = with_numbers[units.rows], train.shape[1] - len(with_numbers)
            responses = _responses(chosen(train, voxels), chosen(test, voxels), onsets, self.zscore)
        features = {space: _features(tree, space, samples, test_samples) for space in self.spaces or _spaces(tree)}
        identity = refined(content_id([tree.digest(), self.settings()]), applied({"labels": units.cleaned}))
        table = _table(onsets, samples, test_samples, self.tr)
        fit = StimulusSet(table, responses, content_id([identity, "movies"]))
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            features,
            frame_rate=1 / self.tr,
            notes={"voxels_left_out": left_out},
            contents=_contents(table, features),
        )


def _datasets(content: h5py.File, file: str) -> tuple[h5py.Dataset, h5py.Dataset, np.ndarray]:
    """Y_train (samples, voxels) and Y_test (repeats, samples, voxels), not read yet, and the first samples of runs."""
    train, test = numbers(content, "Y_train", file, 2), numbers(content, "Y_test", file, 3)
    if test.shape[2] != train.shape[1]:
        problem = "Y_train must be (samples, voxels) and Y_test (repeats, samples, voxels) of the same voxels"
        raise InputError(problem, file=file, value=(train.shape, test.shape))
    if not train.size or not test.size:
        raise InputError("holds no responses", file=file, value=(train.shape, test.shape))
    onsets = whole_numbers(content, "run_onsets", file, 1)
    starts = onsets.tolist()
    if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= len(train):
        problem = f"must be the rising first samples of the runs, from 0 and below {len(train)}"
        raise InputError(problem, file=file, key="run_onsets", value=starts)
    return train, test, onsets


def _table(onsets: np.ndarray, train: int, test: int, tr: float) -> pd.DataFrame:
    """Run and time of every row; the test run comes last."""
    run = np.searchsorted(onsets, np.arange(train), side="right") - 1
    labels = [*(f"run{index:02d}" for index in run), *[TEST] * test]
    times = np.concatenate([np.arange(train) - onsets[run], np.arange(test)]) * tr
    published = np.where(np.array(labels) == TEST, "report", "train")
    return pd.DataFrame({"group": labels, "run": labels, "time": times, PUBLISHED: published})


def _responses(train: np.ndarray, test: np.ndarray, onsets: np.ndarray, zscore: bool) -> np.ndarray:
    """Responses (rows, voxels, repeats) float32; train samples have one repeat, the others are NaN."""
    runs = np.split(train, onsets[1:])
    responses = np.full((len(train) + test.shape[1], train.shape[1], len(test)), np.nan, dtype=np.float32)
    responses[: len(train), :, 0] = np.concatenate([zscored(run) if zscore else run for run in runs])
    for repeat, samples in enumerate(test):
        responses[len(train) :, :, repeat] = zscored(samples) if zscore else samples
    return responses


def _contents(table: pd.DataFrame, features: Mapping[str, np.ndarray]) -> Contents:
    """What the runs show, as far as all of their features tell."""
    keys, runs = np.array(row_keys(features)), table["run"].to_numpy(dtype=str)
    names = list(dict.fromkeys(runs.tolist()))
    return Contents.known(names, [clip_key(keys[runs == name]) for name in names])


def _spaces(tree: Tree) -> list[str]:
    spaces = sorted(name.removesuffix(".hdf") for name in tree.names("features") if name.endswith(".hdf"))
    if not spaces:
        raise InputError("has no feature space (*.hdf)", file=tree.file("features"))
    return spaces


def _features(tree: Tree, space: str, train: int, test: int) -> np.ndarray:
    """Features (train + test samples, features) float64 of a space."""
    name = f"features/{space}.hdf"
    file = tree.file(name)
    remember(tree, name)
    with hdf5_in(tree, name) as content:
        parts = [numbers(content, key, file, 2) for key in ("X_train", "X_test")]
        for key, part, rows in zip(("X_train", "X_test"), parts, (train, test), strict=True):
            if len(part) != rows or not part.size:
                raise InputError(f"must be ({rows}, features)", file=file, key=key, value=part.shape)
        widths = [part.shape[1] for part in parts]
        if widths[0] != widths[1]:
            raise InputError(f"X_train and X_test have {widths[0]} and {widths[1]} features", file=file)
        joined = np.empty((train + test, widths[0]))
        joined[:train], joined[train:] = parts
    if not np.isfinite(joined).all():
        raise InputError("holds NaN or infinite values", file=file)
    return joined
