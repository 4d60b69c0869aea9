"""An example of the format `lebel`: voxels that follow how often some words are said, four seconds later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sweeps.recordings.examples.made_up import Example

WORDS = ("the", "dog", "house", "ran", "blue", "sea", "and", "music", "old", "night")
TR = 2.0
PAD = 5
TRIM = (10, 5)
SOUND_START = 10.0
"""Seconds from the start of the first sample to that of the sound, which ends as long before the last sample does."""


@dataclass(frozen=True)
class LebelExample(Example):
    """Stories of `samples` samples of 2 s and more in respdict.json, of which files lack 5 + 15, as published.

    The second story was not trimmed, the last has three repeats; one voxel has no data in one story. TextGrids are in
    the long form, the short one, the chronological one, and the long one as UTF-16, in turn.
    """

    stories: int = 6
    samples: int = 75
    voxels: int = 30
    subject: str = "UTS01"

    def write(self, folder: Path, seed: int = 0) -> None:
        """Fill an empty folder, the same for the same seed and sizes."""
        random = np.random.default_rng(seed)
        weights = random.standard_normal((len(WORDS), self.voxels))
        lengths = {}
        for index in range(self.stories):
            story = f"story{index:02d}"
            lengths[story] = self.samples + 2 * index
            samples = lengths[story] - PAD
            seconds = samples * TR - 2 * SOUND_START
            words = _say(seconds, random)
            repeats = 3 if index == self.stories - 1 else 1
            data = _bold(words, samples, weights) + 0.3 * random.standard_normal((repeats, samples, self.voxels))
            if index == 0:
                data[..., self.voxels - 1] = np.nan
            stored = data if index == 1 else data[:, TRIM[0] : samples - TRIM[1]]
            _save(folder / "derivative" / "preprocessed_data" / self.subject / f"{story}.hf5", stored)
            form = (long_text, short_text, chronological_text, long_text)[index % 4]
            grid = folder / "derivative" / "TextGrids" / f"{story}.TextGrid"
            grid.parent.mkdir(parents=True, exist_ok=True)
            grid.write_text(form(_tiers(words, seconds), seconds), encoding="utf-16" if index % 4 == 3 else "utf-8")
        (folder / "derivative" / "respdict.json").write_text(json.dumps(lengths))


def _say(seconds: float, random: np.random.Generator) -> list[tuple[float, float, int]]:
    """(start, end, word) of words of 0.3 s, about two a second, whose favourites change every ten seconds."""
    words, time = [], 0.5
    while time < seconds - 1:
        favour = np.exp(np.random.default_rng([int(time // 10), int(seconds)]).standard_normal(len(WORDS)) * 1.5)
        words.append((round(time, 3), round(time + 0.3, 3), int(random.choice(len(WORDS), p=favour / favour.sum()))))
        time += 0.3 + random.exponential(0.2)
    return words


def _bold(words: list[tuple[float, float, int]], samples: int, weights: np.ndarray) -> np.ndarray:
    counts = np.zeros((samples + 2, len(WORDS)))
    for start, end, word in words:
        counts[int((SOUND_START + (start + end) / 2) // TR) + 2, word] += 1  # two samples later
    counts = counts[:samples]
    return np.asarray((counts - counts.mean(axis=0)) @ weights)


def _save(path: Path, data: np.ndarray) -> None:
    """Data (repeats, samples, voxels): their mean, and what it is of where there are several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = data.mean(axis=0)
        if len(data) > 1:
            file["individual_repeats"] = data


Tiers = list[tuple[str, list[tuple[float, float, str]]]]
"""Name and intervals (start, end, text) of every tier."""


def _tiers(words: list[tuple[float, float, int]], seconds: float) -> Tiers:
    """A tier of phones, which is not read, and one of words with pauses between them."""
    marks, last = [(0.0, words[0][0], "sp")], words[0][0]
    for start, end, word in words:
        if start > last:
            marks.append((last, start, "{BR}" if len(marks) % 7 == 0 else "sp"))
        marks.append((start, end, WORDS[word].upper()))
        last = end
    marks.append((last, seconds, ""))
    return [("phone", [(0.0, seconds, "AH0")]), ("word", marks)]


def long_text(tiers: Tiers, seconds: float) -> str:
    """Praat's long text form."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {seconds}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start}", f"            xmax = {end}"]
            lines += [f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def short_text(tiers: Tiers, seconds: float) -> str:
    """Praat's short text form: the long one without names."""
    lines = ['File type = "ooTextFile"', '"TextGrid"', "", "0", f"{seconds}", "<exists>", f"{len(tiers)}"]
    for name, intervals in tiers:
        lines += ['"IntervalTier"', f'"{name}"', "0", f"{seconds}", f"{len(intervals)}"]
        for start, end, text in intervals:
            lines += [f"{start}", f"{end}", f'"{text}"']
    return "\n".join(lines) + "\n"


def chronological_text(tiers: Tiers, seconds: float) -> str:
    """Praat's chronological text form: the intervals of all tiers in order of time."""
    lines = ['"Praat chronological TextGrid text file"', f"0 {seconds}   ! Time domain."]
    lines += [f"{len(tiers)}   ! Number of tiers."]
    lines += [f'"IntervalTier" "{name}" 0 {seconds}' for name, _ in tiers]
    entries = [(start, number, end, text) for number, (_, marks) in enumerate(tiers, 1) for start, end, text in marks]
    for start, number, end, text in sorted(entries):
        lines += ["", f"! {tiers[number - 1][0]}:", f"{number} {start} {end}", f'"{text}"']
    return "\n".join(lines) + "\n"
