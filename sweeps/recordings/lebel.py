"""The format `lebel`: fMRI of stories that are listened to, in the layout of LeBel et al. (OpenNeuro ds003020).

    derivative/preprocessed_data/<subject>/<story>.hf5    data (samples, voxels)
    derivative/TextGrids/<story>.TextGrid                 a tier of words, in seconds of the sound
    derivative/respdict.json                              samples of every story

A run is a story, and a group: splits never cut a story, and neither delays nor z-scores cross its border.
"""

from __future__ import annotations

import functools
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
from sweeps.recordings.textgrid import read_words
from sweeps.recordings.tree import Tree
from sweeps.recordings.units import UnitChoice, choose_units

FOLDER = "derivative/preprocessed_data"


class LebelSpec(UnitChoice):
    """A subject's stories.

    `stories`: which, all where none is named. `tr`: seconds between samples. `trim`: samples that are dropped at the
    start and end of every story; files that were saved without them already are recognised by their number of samples.
    `sound_start`: seconds from the first sample to the start of the sound. `zscore`: every voxel within every story.
    """

    format: Literal["lebel"]
    path: str
    name: str | None = None
    subject: str = Field("UTS01", min_length=1)
    stories: tuple[str, ...] = Field((), strict=False)
    area: str | None = "cortex"
    tr: float = Field(2.0, gt=0)
    trim: tuple[int, int] = Field((10, 5), strict=False)
    sound_start: float = 0.0
    zscore: bool = True

    def recording_name(self) -> str:
        """Name in the tables: `name`, else the subject."""
        return self.name or self.subject


def describe_lebel(spec: LebelSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; opens the recording, since its identity is its content."""
    return open_lebel(spec, base).facts()


def open_lebel(spec: LebelSpec, base: str, cache: Path | None = None) -> Recording:
    """Read the stories; InputError names the file and what was expected. `cache` is not needed here."""
    tree = Tree(join(base, spec.path))
    lengths = tree.mapping("derivative/respdict.json")
    stories = spec.stories or _stories(tree, spec)
    parts, tables, words = [], [], []
    for story in stories:
        name = f"{FOLDER}/{spec.subject}/{story}.hf5"
        samples, first = _trimmed(hdf5_arrays(tree, name, ["data"])[0], lengths, spec, story, tree.file(name))
        parts.append(samples)
        times = (first + np.arange(len(samples))) * spec.tr
        tables.append(pd.DataFrame({"group": story, "run": story, "time": times}))
        words.append(_words(tree, spec, story))
    _check_voxels(parts, stories, tree, spec)
    there = functools.reduce(np.intersect1d, map(with_data, parts))
    units = choose_units(spec, len(there), None, None, tree.file(f"{FOLDER}/{spec.subject}"))
    check_size(sum(map(len, parts)), len(units.rows), 1, tree.file(f"{FOLDER}/{spec.subject}"))
    kept = [part[:, there[units.rows]] for part in parts]
    responses = np.concatenate([zscored(part) if spec.zscore else part for part in kept]).astype(np.float32)
    identity = content_id([tree.digest(), spec.model_dump(mode="json", exclude={"path", "name"})])
    fit = StimulusSet(pd.concat(tables, ignore_index=True), responses[:, :, None], content_id([identity, "stories"]))
    heard = pd.concat(words, ignore_index=True)
    return Recording(spec.recording_name(), identity, units.areas, {"fit": fit}, frame_rate=1 / spec.tr, words=heard)


def _stories(tree: Tree, spec: LebelSpec) -> tuple[str, ...]:
    folder = f"{FOLDER}/{spec.subject}"
    found = tuple(sorted(name.removesuffix(".hf5") for name in tree.names(folder) if name.endswith(".hf5")))
    if not found:
        subjects = sorted(tree.names(FOLDER))
        raise InputError(
            "has no stories (*.hf5)", file=tree.file(folder), key="subject", value=spec.subject, allowed=subjects
        )
    return found


def _trimmed(
    samples: np.ndarray, lengths: dict[str, object], spec: LebelSpec, story: str, file: str
) -> tuple[np.ndarray, int]:
    """Samples (samples, voxels) without the trimmed ones, and the number of the first of them."""
    if samples.ndim != 2:
        raise InputError("must be (samples, voxels)", file=file, key="data", value=samples.shape)
    whole, (first, last) = lengths.get(story), spec.trim
    if not isinstance(whole, int):
        raise InputError("does not tell the number of samples of a story", file="respdict.json", key=story)
    if len(samples) == whole - first - last:
        return samples, first
    if len(samples) != whole:
        problem = f"must be the {whole} of respdict.json, or {whole - first - last} where they were trimmed before"
        raise InputError(f"samples: {problem}", file=file, key="data", value=len(samples))
    if whole <= first + last:
        raise InputError(f"leaves none of the {whole} samples of {story}", file=file, key="trim", value=spec.trim)
    return samples[first : whole - last], first


def _words(tree: Tree, spec: LebelSpec, story: str) -> pd.DataFrame:
    """Words of a story at the middle of the time in which they are said, in seconds from the first sample."""
    name = f"derivative/TextGrids/{story}.TextGrid"
    said = read_words(tree.read(name), tree.file(name))
    if not said:
        raise InputError("has no word", file=tree.file(name))
    times = [spec.sound_start + (word.start + word.end) / 2 for word in said]
    return pd.DataFrame({"run": story, "time": times, "word": [word.text for word in said]})


def _check_voxels(parts: list[np.ndarray], stories: tuple[str, ...], tree: Tree, spec: LebelSpec) -> None:
    for story, part in zip(stories, parts, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            file = tree.file(f"{FOLDER}/{spec.subject}/{story}.hf5")
            raise InputError(f"has {part.shape[1]} voxels, {stories[0]} has {parts[0].shape[1]}", file=file, key="data")
