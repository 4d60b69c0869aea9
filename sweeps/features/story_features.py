"""Features of texts, one row per stimulus: captions as they are, stories word by word, resampled to the samples.

A story is heard at the pace of its words, a recording has a sample every TR. Each word is shown to the network with the
words around it, as one text; the vectors of a run's words are resampled to the run's samples. Nothing ever crosses the
border of a run: no context, no resampling, no z-score.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from metrics.timing import lanczos, trim
from sweeps.errors import InputError, escaped, listed
from sweeps.recordings.recording import Recording

BATCH = 64
"""Texts that the network reads at once."""

LEAST = 0.5
"""Weight of words around a sample, in words, below which their mean is not taken."""

Forward = Callable[[Sequence[str], Sequence[int]], Sequence[Any]]
"""Texts and blocks -> vectors (texts, channels) of each block: `forward_texts` of a backbone."""


@dataclass(frozen=True)
class Reading:
    """How a story becomes features: words shown `context` before and `after` each, `resample` by sum or mean, z-scores.

    `ends` = (first, last) samples of every run that the z-score's mean and deviation leave out.
    """

    context: int = 20
    after: int = 0
    resample: str = "sum"
    zscore: bool = True
    ends: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.resample not in ("sum", "mean"):
            raise ValueError(f"resample must be sum or mean; got {self.resample!r}")


DEFAULT = Reading()


def text_maps(
    recording: Recording, network: Any, blocks: Sequence[int], parameters: Mapping[str, Any], role: str = "fit"
) -> list[np.ndarray]:
    """Maps (rows, channels, 1, 1) float32 of some blocks for the stimuli of a role, row by row of their table.

    `network` is a backbone that sees texts, `parameters` are its own. Rows placed by `run` and `time` in a recording
    that holds words are samples of stories, see `story_features`; else rows are read by their column `caption`. Raises
    InputError for a recording with neither.
    """
    table = recording.sets[role].table
    if recording.words is not None and {"run", "time"} <= set(table):
        reading = Reading(**{key: parameters[key] for key in ("context", "after", "resample", "zscore")})
        maps = story_features(recording.words, table, network.forward_texts, blocks, reading, recording.frame_rate)
    elif "caption" in table:
        maps = read_texts(network.forward_texts, table["caption"].astype(str).tolist(), blocks)
    else:
        raise InputError(f"recording {recording.name} has no words and, for role {role}, no column `caption`")
    return [vectors.astype(np.float32)[:, :, None, None] for vectors in maps]


def read_texts(forward: Forward, texts: Sequence[str], blocks: Sequence[int]) -> list[np.ndarray]:
    """Vectors (texts, channels) of every block, `BATCH` texts at a time."""
    parts: list[list[np.ndarray]] = [[] for _ in blocks]
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            for part, vectors in zip(parts, forward(texts[start : start + BATCH], blocks), strict=True):
                part.append(torch.as_tensor(vectors).cpu().numpy())
    return [np.concatenate(part) for part in parts]


def word_contexts(words: pd.DataFrame, before: int, after: int) -> list[str]:
    """For every row of `words` (run, time, word): up to `before` words before it, the word, up to `after` behind it.

    Words are joined by spaces in order of time within their run; at the start and end of a run a context is shorter.

    >>> word_contexts(pd.DataFrame({"run": [1, 1, 1, 2], "time": [0, 1, 2, 0], "word": list("abcd")}), 1, 0)
    ['a', 'a b', 'b c', 'd']
    """
    texts = np.empty(len(words), dtype=object)
    for _, rows in _runs(words["run"]):
        order = rows[np.argsort(words["time"].to_numpy(dtype=float)[rows], kind="stable")]
        spoken = words["word"].astype(str).to_numpy()[order].tolist()
        for place, row in enumerate(order):
            texts[row] = " ".join(spoken[max(place - before, 0) : place + 1 + after])
    return texts.tolist()


def story_features(
    words: pd.DataFrame,
    rows: pd.DataFrame,
    forward: Forward,
    blocks: Sequence[int],
    reading: Reading = DEFAULT,
    rate: float | None = None,
) -> list[np.ndarray]:
    """Features (rows, channels) float64 of every block at the samples of every run.

        y(s) = sum_i k((s - t_i) rate) x_i        k: Lanczos window of 3 lobes, cutoff = rate

    x_i is the vector of word i, shown with the words around it that `reading` asks for. `sum` has the rate of
    words in it: a network that gives the same vector to every word would still predict what follows the rate of speech,
    so compare with `word_rate`. `mean` divides by sum_i k: what the words are, whatever their pace. `zscore` then
    takes each run's mean away and divides by its standard deviation, both over the run without its `ends`.
    Shapes: words (run, time, word), rows (run, time), times in seconds from a run's first sample; rate in samples a
    second, None for 1 / median spacing of a run's rows.
    Edge rule: without words in reach a `sum` is 0; a `mean` over less than half a word is replaced by the mean of the
    run's other samples, with a warning that counts them. A column that is constant in a run becomes 0. A run of rows
    without words, and a run that `ends` leaves nothing of, are InputErrors; words of other runs are not read.
    Source: resampling and z-scores as in the Huth lab's released code; `mean` and its replacement are ours.
    """
    words, rows = _checked(words, ("run", "time", "word"), "words"), _checked(rows, ("run", "time"), "rows")
    words = words[words["run"].isin(rows["run"].unique())].reset_index(drop=True)
    vectors = read_texts(forward, word_contexts(words, reading.context, reading.after), blocks) if len(words) else []
    words_of_runs = dict(_runs(words["run"]))
    features = [np.zeros((len(rows), block.shape[1])) for block in vectors]
    for run, samples in _runs(rows["run"]):
        spoken = _words_of(words_of_runs, run)
        weights = _Weights(words["time"].to_numpy()[spoken], rows["time"].to_numpy()[samples], rate, run)
        inner = _inner_samples(len(samples), reading.ends, run)
        for result, block in zip(features, vectors, strict=True):
            values = weights.sums(block[spoken]) if reading.resample == "sum" else weights.means(block[spoken])
            result[samples] = _zscored(values, inner) if reading.zscore else values
    return features


def word_rate(words: pd.DataFrame, rows: pd.DataFrame, rate: float | None = None) -> np.ndarray:
    """Words around every sample (rows, 1), resampled as by `sum`: the nuisance to compare story features with.

    Its values are counts of words per sample, smoothed. Edge rule and InputErrors: as `story_features`.
    """
    forward = lambda texts, blocks: [np.ones((len(texts), 1))]  # noqa: E731
    return story_features(words, rows, forward, [0], Reading(context=0, zscore=False), rate)[0]


class _Weights:
    """How the words of one run add up at its samples."""

    def __init__(self, times: np.ndarray, at: np.ndarray, rate: float | None, run: Any) -> None:
        self.times, self.at, self.rate, self.run = times, at, rate, run

    def sums(self, vectors: np.ndarray) -> np.ndarray:
        """sum_i k_i x_i, (samples, channels)."""
        return np.asarray(lanczos(vectors.astype(np.float64), self.times, self.at, cutoff=self.rate))

    def means(self, vectors: np.ndarray) -> np.ndarray:
        """sum_i k_i x_i / sum_i k_i; the mean of the other samples where sum_i k_i is below `LEAST`."""
        total = self.sums(np.ones((len(self.times), 1)))
        silent = total[:, 0] < LEAST
        if silent.all():
            raise InputError(f"run {self.run} has no sample with half a word around it: `resample: mean` needs words")
        values = self.sums(vectors) / np.where(silent[:, None], 1.0, total)
        if silent.any():
            values[silent] = values[~silent].mean(axis=0)
            problem = (
                f"{silent.sum()} of {len(silent)} samples of run {self.run} have less than half a word around them"
            )
            text = escaped(f"{problem}: they are given the mean of its other samples")
            warnings.warn(text, RuntimeWarning, stacklevel=4)
        return values


def _zscored(values: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """(values - mean) / standard deviation over the inner samples; a constant column becomes 0."""
    centred = values - values[inner].mean(axis=0)
    deviation = centred[inner].std(axis=0)
    flat = deviation <= 1e-9 * np.abs(values).max(axis=0, initial=0.0)
    scaled = centred / np.where(flat, 1.0, deviation)
    scaled[:, flat] = 0.0
    return scaled


def _inner_samples(samples: int, ends: tuple[int, int], run: Any) -> np.ndarray:
    """Which samples of a run its mean and deviation are taken over."""
    inner = trim(np.zeros(samples), *ends)
    if not inner.any():
        raise InputError(f"run {run} has {samples} samples, and ends = {ends} leaves none of them")
    return inner


def _words_of(words_of_runs: Mapping[Any, np.ndarray], run: Any) -> np.ndarray:
    if run not in words_of_runs:
        runs = listed(words_of_runs) or "none"
        raise InputError(f"run {run} has no words; runs with words: {runs}")
    return words_of_runs[run]


def _runs(labels: pd.Series) -> Iterable[tuple[Any, np.ndarray]]:
    """Every run, in order of first appearance, and its rows."""
    return [(run, np.flatnonzero(labels.to_numpy() == run)) for run in labels.unique()]


def _checked(table: pd.DataFrame, columns: Sequence[str], name: str) -> pd.DataFrame:
    """Some columns, runs as texts and times as numbers; InputError for a missing column or a strange time."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{name} need the columns {', '.join(columns)}; got {listed(table.columns)}")
    times = pd.to_numeric(table["time"], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(times).all():
        row = int(np.flatnonzero(~np.isfinite(times))[0])
        raise InputError(f"times of {name} must be seconds", key=f"row {row}", value=table["time"].iloc[row])
    return table[list(columns)].assign(run=table["run"].astype(str), time=times)
