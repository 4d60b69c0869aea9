"""An example of the format `lebel`: voxels that follow how often some words are said, four seconds later."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

WORDS = ("the", "dog", "house", "ran", "blue", "sea", "and", "music", "old", "night")
TRIM = (10, 5)


def write(
    folder: Path, seed: int = 0, stories: int = 6, samples: int = 60, voxels: int = 30, subject: str = "UTS01"
) -> None:
    """Stories of `samples` samples of 2 s; the second one was saved trimmed; one voxel has no data in one story."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((len(WORDS), voxels))
    lengths = {}
    for index in range(stories):
        story = f"story{index:02d}"
        lengths[story] = samples + 2 * index
        said = _say(lengths[story] * 2.0, random)
        data = _bold(said, lengths[story], weights) + 0.3 * random.standard_normal((lengths[story], voxels))
        if index == 0:
            data[:, voxels - 1] = np.nan
        if index == 1:
            data = data[TRIM[0] : len(data) - TRIM[1]]
        _save(folder / "derivative" / "preprocessed_data" / subject / f"{story}.hf5", data)
        grid = folder / "derivative" / "TextGrids" / f"{story}.TextGrid"
        grid.parent.mkdir(parents=True, exist_ok=True)
        grid.write_text(text_grid(said, lengths[story] * 2.0), encoding="utf-16" if index == 2 else "utf-8")
    (folder / "derivative" / "respdict.json").write_text(json.dumps(lengths))


def _say(seconds: float, random: np.random.Generator) -> list[tuple[float, float, int]]:
    """(start, end, word) of words of 0.3 s, about two a second, whose favourites change every ten seconds."""
    found, time = [], 0.5
    while time < seconds - 1:
        favour = np.exp(np.random.default_rng([int(time // 10), int(seconds)]).standard_normal(len(WORDS)) * 1.5)
        found.append((round(time, 3), round(time + 0.3, 3), int(random.choice(len(WORDS), p=favour / favour.sum()))))
        time += 0.3 + random.exponential(0.2)
    return found


def _bold(said: list[tuple[float, float, int]], samples: int, weights: np.ndarray) -> np.ndarray:
    counts = np.zeros((samples + 2, len(WORDS)))
    for start, end, word in said:
        counts[int((start + end) / 2 // 2) + 2, word] += 1  # two samples later
    counts = counts[:samples]
    return np.asarray((counts - counts.mean(axis=0)) @ weights)


def _save(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as held:
        held["data"] = data


def text_grid(said: list[tuple[float, float, int]], seconds: float) -> str:
    """The long text form: a tier of phones, which is not read, and one of words with pauses between them."""
    marks, last = [(0.0, said[0][0], "sp")], said[0][0]
    for start, end, word in said:
        if start > last:
            marks.append((last, start, "{BR}" if len(marks) % 7 == 0 else "sp"))
        marks.append((start, end, WORDS[word].upper()))
        last = end
    marks.append((last, seconds, ""))
    tiers = [("phone", [(0.0, seconds, "AH0")]), ("word", marks)]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {seconds}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start}", f"            xmax = {end}"]
            lines += [f'            text = "{text}"']
    return "\n".join(lines) + "\n"
