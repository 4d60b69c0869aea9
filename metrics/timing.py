"""Features on the time axis of a recording: resampled to its samples, delayed within runs, trimmed at run ends."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_complete_matrix, to_float, to_labels

ROWS = 64
"""New times resampled at once by ``lanczos``; bounds memory at ROWS x samples floats."""


def run_slices(runs: NDArray[Any]) -> list[slice]:
    """The runs in time order, one slice each; a label that comes back after another one is a ValueError.

    >>> run_slices(np.array(["a", "a", "b"]))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    edges = [0, *(np.flatnonzero(runs[1:] != runs[:-1]) + 1).tolist(), len(runs)]
    pieces = [slice(start, end) for start, end in pairwise(edges) if end > start]
    if len(pieces) != len(np.unique(runs)):
        raise ValueError(
            f"every run must be one stretch of consecutive samples; got {len(pieces)} stretches "
            f"of {len(np.unique(runs))} runs"
        )
    return pieces


def _run_labels(runs: Array | None, times: int) -> NDArray[Any]:
    """One label per sample; None is a single run."""
    labels = np.zeros(times, dtype=np.intp) if runs is None else to_labels(runs, "runs")
    if len(labels) != times:
        raise ValueError(f"runs must label every sample; got {len(labels)} labels for {times} samples")
    return labels


def _shifted(values: Floats, delay: int) -> Floats:
    """``values`` moved ``delay`` rows down (up where negative), zeros moving in."""
    moved = np.zeros_like(values)
    if abs(delay) < len(values):
        moved[max(delay, 0) : len(values) + min(delay, 0)] = values[max(-delay, 0) : len(values) - max(delay, 0)]
    return moved


def delayed(features: Array, delays: Sequence[int] = (1, 2, 3, 4), runs: Array | None = None) -> Array:
    """Copies of the features, each delayed by a whole number of samples, that never cross the border of a run.

    x'[t, d * features + f] = x[t - delays[d], f] where t - delays[d] is in the run of t, else 0: columns are
    ordered by delay, then feature. Weights on them are a finite impulse response (FIR) per feature. Centre the
    features within runs first, so that the padding is their mean.
    Shapes: features (times, features), runs (times,) labels or None for one run, delays in samples ->
    (times, delays * features) in feature units. A negative delay looks ahead.
    Edge rule: a delay beyond a run's length leaves zeros; no delay, a delay that is no whole number, a run in
    two pieces (unless every delay is 0), and NaN or infinite features are ValueErrors.
    Source: the FIR models of fMRI encoding, 1 to 4 samples of 2 s. Code of the field that delays after runs
    were joined leaks four samples across each border; this does not.

    >>> delayed([[1.0], [2.0], [3.0], [4.0]], delays=(0, 1), runs=[0, 0, 1, 1]).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [4.0, 3.0]]
    """
    values = to_complete_matrix(features, "features")
    labels = _run_labels(runs, len(values))
    if not len(delays) or any(int(delay) != delay for delay in delays):
        raise ValueError(f"delays must be whole numbers of samples, at least one; got {tuple(delays)}")
    steps = [int(delay) for delay in delays]
    pieces = run_slices(labels) if any(steps) else [slice(0, len(values))]
    result = np.zeros((len(values), len(steps) * values.shape[1]))
    for piece in pieces:
        result[piece] = np.hstack([_shifted(values[piece], step) for step in steps])
    return like(result, features)


def trim(runs: Array, start: int, end: int) -> NDArray[np.bool_]:
    """Which samples are left when every run loses its first ``start`` and last ``end`` samples.

    Shapes: runs (times,) labels -> numpy mask (times,). Edge rule: a run that is not longer than start + end
    keeps nothing; negative counts and a run in two pieces are ValueErrors. Source: the field's fMRI practice;
    the first samples see features from before the recording, the last ones an unfinished response.

    >>> trim([0, 0, 0, 1, 1, 1], start=1, end=1).tolist()
    [False, True, False, False, True, False]
    """
    if start < 0 or end < 0:
        raise ValueError(f"start and end must be at least 0 samples; got {start} and {end}")
    labels = to_labels(runs, "runs")
    inside = np.zeros(len(labels), dtype=bool)
    for piece in run_slices(labels):
        inside[piece.start + start : max(piece.stop - end, piece.start + start)] = True
    return inside


def _moments(times: Array, name: str) -> Floats:
    """A vector of finite times."""
    values = to_float(times)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a vector of finite times; got shape {values.shape}")
    return values


def _default_cutoff(at: Floats) -> float:
    """1 over the median spacing of the new times: one cycle per sample."""
    spacing = float(np.median(np.diff(np.sort(at)))) if len(at) > 1 else 0.0
    if not spacing > 0:
        raise ValueError("cutoff must be given where fewer than 2 distinct new times leave no spacing")
    return 1 / spacing


def lanczos(
    values: Array,
    times: Array,
    at: Array,
    cutoff: float | None = None,
    lobes: int = 3,
    normalise: bool = False,
) -> Array:
    """Features at irregular times, such as one row per word, resampled to the times of a recording.

    y(s) = sum_i k((s - t_i) cutoff) x_i,  k(u) = a sin(pi u) sin(pi u / a) / (pi u)^2 for |u| <= a lobes,
    1 at 0, 0 beyond. Not normalised this is a windowed *sum*, so the rate of words is part of y, which a
    stream without words has no counterpart of. ``normalise`` divides by sum_i k: a windowed mean.
    Shapes: values (samples, features), times (samples,), at (rows,), times in one unit, cutoff in cycles per
    that unit, None for 1 / median spacing of ``at`` -> (rows, features), in feature units.
    Edge rule: no sample within the window gives 0, normalised NaN; normalised rows whose weights add up to 0
    or less (samples in the negative side lobes only) are NaN as well; a small sum of weights is divided by,
    so normalise dense streams only. Times need no order; NaN or infinite input is a ValueError.
    Source: Lanczos 1956; window, cutoff 1 / TR, 3 lobes and the sum as in the Huth lab's released code.
    ``normalise`` is ours.

    >>> lanczos([[2.0], [4.0]], [0.0, 0.5], [0.0, 1.0, 9.0], cutoff=1.0).round(4).tolist()
    [[4.4317], [2.4317], [0.0]]
    """
    matrix, old, new = to_complete_matrix(values, "values"), _moments(times, "times"), _moments(at, "at")
    if len(old) != len(matrix):
        raise ValueError(f"times must have one entry per row of values; got {len(old)} for {len(matrix)} rows")
    rate = _default_cutoff(new) if cutoff is None else cutoff
    if not rate > 0 or lobes < 1:
        raise ValueError(f"cutoff must be above 0 and lobes at least 1; got {rate} and {lobes}")
    result = np.empty((len(new), matrix.shape[1]))
    for start in range(0, len(new), ROWS):
        u = (new[start : start + ROWS, None] - old) * rate
        kernel = np.where(np.abs(u) <= lobes, np.sinc(u) * np.sinc(u / lobes), 0.0)
        result[start : start + ROWS] = kernel @ matrix
        if normalise:
            total, size = kernel.sum(axis=1), np.abs(kernel).sum(axis=1)
            result[start : start + ROWS] /= np.where(total > 1e-9 * size, total, np.nan)[:, None]
    return like(result, values, times, at)
