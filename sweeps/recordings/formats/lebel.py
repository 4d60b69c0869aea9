"""The format `lebel`: fMRI of stories that are listened to, in the layout of LeBel et al. (OpenNeuro ds003020).

    derivative/preprocessed_data/<subject>/<story>.hf5    data (samples, voxels); where a story was heard several
                                                          times, individual_repeats (repeats, samples, voxels) beside it
    derivative/TextGrids/<story>.TextGrid                 a tier of words (its name says so, else the key `tier`
                                                          names it), in seconds of the sound
    derivative/respdict.json                              samples of every story, before it was trimmed

The path is the folder that holds `derivative`, or that folder itself.

A run is a story, and a group: splits never cut a story, and neither delays nor z-scores cross its border. Where there
are individual repeats, they are read in place of their mean; in the other stories all repeats but the first are NaN.
Voxels that hold no numbers or do not vary in some story (in one of its repeats) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
import pandas as pd
from pydantic import Field

from sweeps.errors import InputError
from sweeps.hashing import content_id
from sweeps.io.filesystem import join
from sweeps.recordings.contents import Contents
from sweeps.recordings.identity import applied, refined
from sweeps.recordings.readers.file_tree import Tree
from sweeps.recordings.readers.fmri import check_size, chosen, hdf5_in, remember, some_of, with_data, zscored
from sweeps.recordings.readers.hdf5 import numbers
from sweeps.recordings.readers.textgrid import Spoken, read_spoken
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.recordings.spec import SubjectSpec
from sweeps.recordings.split_rows import PUBLISHED
from sweeps.recordings.units import choose_units

FOLDER = "preprocessed_data"
LENGTHS = "respdict.json"
TEST_STORY = "wheretheressmoke"

WORDS_VERSION = 1
"""Version of the rules by which words are found in a TextGrid, part of the identity of stories that they changed."""


class LebelSpec(SubjectSpec):
    """A subject's stories.

    `stories`: which, all where none is named. `tr`: seconds between samples. `pad`: samples at the end that
    respdict.json counts and no file has; `trim`: samples that are dropped at the start and end of every story. A file
    has the samples of respdict.json less `pad` and `trim`, as published, or less `pad` alone: then it is trimmed here.
    `repeats`: where a file has its repeats, each by itself, else their mean; one story with ten makes all responses
    ten times as large. `zscore`: every voxel within every story, each repeat by itself. `tier`: the tier of words, by
    default the one whose name says words.

    Time is in seconds from the start of the first sample, before any is trimmed: sample i lies at its middle,
    (i + 0.5) `tr`, and the sound starts at `sound_start`. Source: the defaults are those of the Huth lab's released
    code, whose sample i lies at 2 i + 1 - 10 seconds of the sound.
    """

    published: ClassVar[str] = f"the test story {TEST_STORY}"

    format: Literal["lebel"]
    subject: str = Field("UTS01", min_length=1)
    stories: tuple[str, ...] = Field((), strict=False)
    area: str | None = "cortex"
    tr: float = Field(2.0, gt=0)
    pad: int = Field(5, ge=0)
    trim: tuple[int, int] = Field((10, 5), strict=False)
    sound_start: float = 10.0
    repeats: bool = True
    zscore: bool = True
    tier: str | None = Field(None, min_length=1)

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers beside the files; a tier that is not named is no part of it."""
        settings = super().settings()
        return settings if self.tier is not None else {key: settings[key] for key in settings if key != "tier"}

    def open(self, base: str, cache: Path) -> Recording:
        """Read the stories; InputError names the file and what was expected.

        Files are read in parts, twice: to see which voxels hold data, then those that are chosen.
        `notes["voxels_left_out"]` counts voxels without data, `notes["tier_read"]` names the tiers of the words.
        """
        tree = _tree(join(base, self.path))
        folder = tree.file(f"{FOLDER}/{self.subject}")
        lengths = tree.mapping(LENGTHS)
        stories = [_story(tree, self, name, lengths.get(name)) for name in self.stories or _names(tree, self)]
        _check_voxels(stories, tree)
        with_numbers = some_of(np.logical_and.reduce([story.with_data for story in stories]), folder)
        units = choose_units(self, len(with_numbers), None, None, folder)
        responses = _responses(tree, stories, with_numbers[units.rows], self.zscore, folder)
        spoken = {story.name: _spoken(tree, self, story.name) for story in stories}
        words = pd.concat([_words(self, story, found) for story, found in spoken.items()], ignore_index=True)
        anew = {} if all(found.as_before for found in spoken.values()) else {"words": WORDS_VERSION}
        identity = refined(content_id([tree.digest(), self.settings()]), anew | applied({"labels": units.cleaned}))
        fit = StimulusSet(_table(stories, self), responses, content_id([identity, "stories"]))
        return Recording(
            self.recording_name(),
            identity,
            units.areas,
            {"fit": fit},
            frame_rate=1 / self.tr,
            words=words,
            notes={
                "voxels_left_out": len(stories[0].with_data) - len(with_numbers),
                "tier_read": ", ".join(dict.fromkeys(found.tier for found in spoken.values())),
            },
            contents=_contents(stories, words),
        )


@dataclass(frozen=True)
class _Story:
    """A story's file: the dataset `key` (repeats, samples, voxels) or (samples, voxels), which `samples` are read."""

    name: str
    file: str
    key: str
    samples: slice
    repeats: int
    with_data: np.ndarray

    def __len__(self) -> int:
        return int(self.samples.stop - self.samples.start)


def _tree(url: str) -> Tree:
    """The tree below `derivative`; an archive that holds nothing else begins there already."""
    tree = Tree(url)
    inner = tree.place("derivative")
    if tree.fs.isdir(inner):
        tree.url, tree.root = tree.file("derivative"), inner
    return tree


def _names(tree: Tree, spec: LebelSpec) -> tuple[str, ...]:
    folder = f"{FOLDER}/{spec.subject}"
    stories = tuple(sorted(name.removesuffix(".hf5") for name in tree.names(folder) if name.endswith(".hf5")))
    if not stories:
        subjects = sorted(tree.names(FOLDER))
        raise InputError(
            "has no stories (*.hf5)", file=tree.file(folder), key="subject", value=spec.subject, allowed=subjects
        )
    return stories


def _story(tree: Tree, spec: LebelSpec, name: str, total: object) -> _Story:
    """Return a story whose file was remembered and looked through; `total` is its samples in respdict.json."""
    place = f"{FOLDER}/{spec.subject}/{name}.hf5"
    file = tree.file(place)
    remember(tree, place)
    if not isinstance(total, int):
        raise InputError("does not tell the number of samples of a story", file=tree.file(LENGTHS), key=name)
    with hdf5_in(tree, place) as content:
        key, responses = _dataset(content, spec.repeats, file)
        samples = _samples(responses.shape[-2], total, spec, name, file, key)
        repeats = len(responses) if responses.ndim == 3 else 1
        return _Story(name, place, key, samples, repeats, with_data(responses, samples))


def _dataset(content: h5py.File, repeats: bool, file: str) -> tuple[str, h5py.Dataset]:
    """Return the key of the responses, and these: each repeat by itself where `repeats` are wanted and stored."""
    mean, key = numbers(content, "data", file, 2), "data"
    responses = mean
    if repeats and "individual_repeats" in content:
        key = "individual_repeats"
        responses = numbers(content, key, file, 3)
    if responses.shape[-1] != mean.shape[1] or not responses.size:
        problem = f"must be (repeats, samples, voxels), and data (samples, voxels), which is {mean.shape}"
        raise InputError(problem, file=file, key=key, value=responses.shape)
    return key, responses


def _samples(count: int, total: int, spec: LebelSpec, story: str, file: str, key: str) -> slice:
    """Return which of the `count` samples of a file are read."""
    first, last = spec.trim
    untrimmed = total - spec.pad
    if untrimmed <= first + last:
        raise InputError(f"leaves none of the {untrimmed} samples of {story}", file=file, key="trim", value=spec.trim)
    if count == untrimmed - first - last:
        return slice(0, count)
    if count != untrimmed:
        less = f"the {total} of respdict.json less pad = {spec.pad} and trim = {first} + {last}"
        expected = f"{untrimmed - first - last} ({less}), or {untrimmed} where they were not trimmed before"
        raise InputError(f"samples: must be {expected}", file=file, key=key, value=count)
    return slice(first, untrimmed - last)


def _table(stories: Sequence[_Story], spec: LebelSpec) -> pd.DataFrame:
    """Story and time of every row: the middle of its sample."""
    tables = []
    for story in stories:
        times = (spec.trim[0] + np.arange(len(story)) + 0.5) * spec.tr
        published = "report" if story.name == TEST_STORY else "train"
        tables.append(pd.DataFrame({"group": story.name, "run": story.name, "time": times, PUBLISHED: published}))
    return pd.concat(tables, ignore_index=True)


def _responses(tree: Tree, stories: Sequence[_Story], voxels: np.ndarray, zscore: bool, file: str) -> np.ndarray:
    """Responses (rows, voxels, repeats) float32 of all stories; NaN where a story has fewer repeats."""
    rows, repeats = sum(map(len, stories)), max(story.repeats for story in stories)
    check_size(rows, len(voxels), repeats, file)
    responses, row = np.full((rows, len(voxels), repeats), np.nan, np.float32), 0
    for story in stories:
        with hdf5_in(tree, story.file) as content:
            stored = chosen(content[story.key], voxels, story.samples)
        for repeat, samples in enumerate(stored if stored.ndim == 3 else stored[None]):
            responses[row : row + len(story), :, repeat] = zscored(samples) if zscore else samples
        row += len(story)
    return responses


def _spoken(tree: Tree, spec: LebelSpec, story: str) -> Spoken:
    """The words of a story, and where they stand."""
    name = f"TextGrids/{story}.TextGrid"
    spoken = read_spoken(tree.read(name), tree.file(name), spec.tier)
    if not spoken.words:
        raise InputError(f"has no word in the tier {spoken.tier!r}", file=tree.file(name))
    return spoken


def _words(spec: LebelSpec, story: str, spoken: Spoken) -> pd.DataFrame:
    """Words of a story at the middle of the time in which they are spoken, in seconds from the first sample."""
    times = [spec.sound_start + (word.start + word.end) / 2 for word in spoken.words]
    return pd.DataFrame({"run": story, "time": times, "word": [word.text for word in spoken.words]})


def _contents(stories: Sequence[_Story], words: pd.DataFrame) -> Contents:
    """What the stories tell: the words and when they are spoken, whoever hears them."""
    told = [words[words["run"] == story.name] for story in stories]
    keys = [content_id(["story", one["word"].tolist(), one["time"].tolist()]) for one in told]
    return Contents.known([story.name for story in stories], keys)


def _check_voxels(stories: Sequence[_Story], tree: Tree) -> None:
    first = stories[0]
    for story in stories:
        if len(story.with_data) != len(first.with_data):
            problem = f"has {len(story.with_data)} voxels, {first.name} has {len(first.with_data)}"
            raise InputError(problem, file=tree.file(story.file), key=story.key)
