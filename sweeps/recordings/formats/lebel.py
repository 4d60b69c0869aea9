"""The format `lebel`: fMRI of stories that are listened to, in the layout of LeBel et al. (OpenNeuro ds003020).

    derivative/preprocessed_data/<subject>/<story>.hf5    data (samples, voxels); where a story was heard several
                                                          times, individual_repeats (repeats, samples, voxels) beside it
    derivative/TextGrids/<story>.TextGrid                 a tier of words, in seconds of the sound
    derivative/respdict.json                              samples of every story, before it was trimmed

The path is the folder that holds `derivative`, or that folder itself.

A run is a story, and a group: splits never cut a story, and neither delays nor z-scores cross its border. Where there
are individual repeats, they are read in place of their mean; in the other stories all repeats but the first are NaN.
Voxels that hold no numbers or do not vary in some story (in one of its repeats) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, chosen, hdf5_in, remember, some_of, with_data, zscored
from sweeps.recordings.readers.hdf5 import numbers
from sweeps.recordings.readers.textgrid import read_words
from sweeps.recordings.recording import Recording, RecordingFacts, StimulusSet
from sweeps.recordings.units import UnitChoice, choose_units

FOLDER = "preprocessed_data"
LENGTHS = "respdict.json"


class LebelSpec(UnitChoice):
    """A subject's stories.

    `stories`: which, all where none is named. `tr`: seconds between samples. `pad`: samples at the end that
    respdict.json counts and no file has; `trim`: samples that are dropped at the start and end of every story. A file
    has the samples of respdict.json less `pad` and `trim`, as published, or less `pad` alone: then it is trimmed here.
    `repeats`: where a file has its repeats, each by itself, else their mean; one story with ten makes all responses
    ten times as large. `zscore`: every voxel within every story, each repeat by itself.

    Time is in seconds from the start of the first sample, before any is trimmed: sample i lies at its middle,
    (i + 0.5) `tr`, and the sound starts at `sound_start`. Source: the defaults are those of the Huth lab's released
    code, whose sample i lies at 2 i + 1 - 10 seconds of the sound.
    """

    format: Literal["lebel"]
    path: str
    name: str | None = None
    subject: str = Field("UTS01", min_length=1)
    stories: tuple[str, ...] = Field((), strict=False)
    area: str | None = "cortex"
    tr: float = Field(2.0, gt=0)
    pad: int = Field(5, ge=0)
    trim: tuple[int, int] = Field((10, 5), strict=False)
    sound_start: float = 10.0
    repeats: bool = True
    zscore: bool = True

    def recording_name(self) -> str:
        """Name in the tables: `name`, else the subject."""
        return self.name or self.subject


def describe_lebel(spec: LebelSpec, base: str) -> RecordingFacts:
    """What the driver needs to know; `notes["voxels_left_out"]` counts voxels without data."""
    recording, left_out = _opened(spec, base)
    return replace(recording.facts(), notes={"voxels_left_out": left_out})


def open_lebel(spec: LebelSpec, base: str, cache: Path | None = None) -> Recording:
    """Read the stories; InputError names the file and what was expected. `cache` is not needed here.

    Files are read in parts, twice: to see which voxels hold data, then those that are chosen.
    """
    return _opened(spec, base)[0]


@dataclass(frozen=True)
class _Story:
    """A story's file: the dataset `key` (repeats, samples, voxels) or (samples, voxels), the samples that are kept."""

    name: str
    file: str
    key: str
    kept: slice
    repeats: int
    with_data: np.ndarray

    def __len__(self) -> int:
        return int(self.kept.stop - self.kept.start)


def _opened(spec: LebelSpec, base: str) -> tuple[Recording, int]:
    tree = _tree(join(base, spec.path))
    folder = tree.file(f"{FOLDER}/{spec.subject}")
    lengths = tree.mapping(LENGTHS)
    stories = [_story(tree, spec, name, lengths.get(name)) for name in spec.stories or _names(tree, spec)]
    _check_voxels(stories, tree)
    there = some_of(np.logical_and.reduce([story.with_data for story in stories]), folder)
    units = choose_units(spec, len(there), None, None, folder)
    responses = _responses(tree, stories, there[units.rows], spec.zscore, folder)
    heard = pd.concat([_words(tree, spec, story.name) for story in stories], ignore_index=True)
    identity = content_id([tree.digest(), spec.model_dump(mode="json", exclude={"path", "name"})])
    fit = StimulusSet(_table(stories, spec), responses, content_id([identity, "stories"]))
    recording = Recording(
        spec.recording_name(), identity, units.areas, {"fit": fit}, frame_rate=1 / spec.tr, words=heard
    )
    return recording, len(stories[0].with_data) - len(there)


def _tree(url: str) -> Tree:
    """The tree below `derivative`; an archive that holds nothing else begins there already."""
    tree = Tree(url)
    inner = tree.place("derivative")
    if tree.fs.isdir(inner):
        tree.url, tree.root = tree.file("derivative"), inner
    return tree


def _names(tree: Tree, spec: LebelSpec) -> tuple[str, ...]:
    folder = f"{FOLDER}/{spec.subject}"
    found = tuple(sorted(name.removesuffix(".hf5") for name in tree.names(folder) if name.endswith(".hf5")))
    if not found:
        subjects = sorted(tree.names(FOLDER))
        raise InputError(
            "has no stories (*.hf5)", file=tree.file(folder), key="subject", value=spec.subject, allowed=subjects
        )
    return found


def _story(tree: Tree, spec: LebelSpec, name: str, whole: object) -> _Story:
    """A story whose file was remembered and looked through; `whole` is its number of samples in respdict.json."""
    file = f"{FOLDER}/{spec.subject}/{name}.hf5"
    remember(tree, file)
    if not isinstance(whole, int):
        raise InputError("does not tell the number of samples of a story", file=tree.file(LENGTHS), key=name)
    with hdf5_in(tree, file) as held:
        mean, key = numbers(held, "data", tree.file(file), 2), "data"
        found = mean
        if spec.repeats and "individual_repeats" in held:
            key = "individual_repeats"
            found = numbers(held, key, tree.file(file), 3)
        if found.shape[-1] != mean.shape[1] or not found.size:
            problem = f"must be (repeats, samples, voxels), and data (samples, voxels), which is {mean.shape}"
            raise InputError(problem, file=tree.file(file), key=key, value=found.shape)
        kept = _kept(found.shape[-2], whole, spec, name, tree.file(file), key)
        return _Story(name, file, key, kept, len(found) if found.ndim == 3 else 1, with_data(found, kept))


def _kept(samples: int, whole: int, spec: LebelSpec, story: str, file: str, key: str) -> slice:
    """Which samples of a file are kept."""
    first, last = spec.trim
    there = whole - spec.pad
    if there <= first + last:
        raise InputError(f"leaves none of the {there} samples of {story}", file=file, key="trim", value=spec.trim)
    if samples == there - first - last:
        return slice(0, samples)
    if samples != there:
        less = f"the {whole} of respdict.json less pad = {spec.pad} and trim = {first} + {last}"
        problem = f"samples: must be {there - first - last} ({less}), or {there} where they were not trimmed before"
        raise InputError(problem, file=file, key=key, value=samples)
    return slice(first, there - last)


def _table(stories: Sequence[_Story], spec: LebelSpec) -> pd.DataFrame:
    """Story and time of every row: the middle of its sample."""
    tables = []
    for story in stories:
        times = (spec.trim[0] + np.arange(len(story)) + 0.5) * spec.tr
        tables.append(pd.DataFrame({"group": story.name, "run": story.name, "time": times}))
    return pd.concat(tables, ignore_index=True)


def _responses(tree: Tree, stories: Sequence[_Story], voxels: np.ndarray, zscore: bool, file: str) -> np.ndarray:
    """Responses (rows, voxels, repeats) float32 of all stories; NaN where a story has fewer repeats."""
    rows, repeats = sum(map(len, stories)), max(story.repeats for story in stories)
    check_size(rows, len(voxels), repeats, file)
    found, done = np.full((rows, len(voxels), repeats), np.nan, np.float32), 0
    for story in stories:
        with hdf5_in(tree, story.file) as held:
            read = chosen(held[story.key], voxels, story.kept)
        for repeat, samples in enumerate(read if read.ndim == 3 else read[None]):
            found[done : done + len(story), :, repeat] = zscored(samples) if zscore else samples
        done += len(story)
    return found


def _words(tree: Tree, spec: LebelSpec, story: str) -> pd.DataFrame:
    """Words of a story at the middle of the time in which they are said, in seconds from the first sample."""
    name = f"TextGrids/{story}.TextGrid"
    said = read_words(tree.read(name), tree.file(name))
    if not said:
        raise InputError("has no word", file=tree.file(name))
    times = [spec.sound_start + (word.start + word.end) / 2 for word in said]
    return pd.DataFrame({"run": story, "time": times, "word": [word.text for word in said]})


def _check_voxels(stories: Sequence[_Story], tree: Tree) -> None:
    first = stories[0]
    for story in stories:
        if len(story.with_data) != len(first.with_data):
            problem = f"has {len(story.with_data)} voxels, {first.name} has {len(first.with_data)}"
            raise InputError(problem, file=tree.file(story.file), key=story.key)
