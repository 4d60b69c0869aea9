"""Ridge encoding models of recordings with runs, standardised within runs, with every choice made in training runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, to_complete_matrix, to_labels, to_matrix
from metrics.timing import delayed
from metrics.transfer.alignment import Alignment


@dataclass(frozen=True)
class Stream:
    """Features (times, features) centred and responses (times, units) z-scored within runs (times,)."""

    features: Floats
    responses: Floats
    runs: NDArray[Any]


@dataclass(frozen=True)
class EncodingModel:
    """scale (features,): 1 / deviation on the training runs, 0 if constant; weights (delays * features, units)."""

    scale: Floats
    weights: Floats
    delays: tuple[int, ...]

    def predict(self, features: Floats, runs: NDArray[Any]) -> Floats:
        """Responses to new features (times, features), centred within their runs, (times, units).

        >>> model = EncodingModel(np.ones(1), np.array([[2.0]]), (0,))
        >>> model.predict(np.array([[1.0], [2.0], [3.0]]), np.zeros(3)).ravel().tolist()
        [-2.0, 0.0, 2.0]
        """
        return design(features, self.scale, runs, self.delays) @ self.weights


def centred(values: Floats, runs: NDArray[Any]) -> Floats:
    """Deviations from the mean of each run, exactly 0 where a column is constant in a run.

    >>> centred(np.array([[1.0], [3.0], [9.0]]), np.array([0, 0, 1])).ravel().tolist()
    [-1.0, 1.0, 0.0]
    """
    result = np.empty_like(values)
    for run in np.unique(runs):
        part = values[runs == run]
        deviation = part - part.mean(axis=0)
        constant = np.abs(deviation).max(axis=0) <= 1e-12 * np.abs(part).max(axis=0)
        result[runs == run] = np.where(constant, 0.0, deviation)
    return result


def inverse(deviation: Floats) -> Floats:
    """1 / deviation, and 0 where it is 0.

    >>> inverse(np.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation != 0)


def _z_scored(values: Floats, runs: NDArray[Any]) -> Floats:
    """Columns with mean 0 and deviation 1 in each run; 0 where constant, NaN where the column holds a NaN."""
    result = centred(values, runs)
    for run in np.unique(runs):
        result[runs == run] *= inverse(result[runs == run].std(axis=0))
    return np.where(np.isnan(values).any(axis=0), np.nan, result)


def prepare(features: Array, responses: Array, runs: Array, name: str, runs_needed: int) -> Stream:
    """The arrays of one modality, checked and standardised within runs.

    Edge rule: a unit with a NaN is NaN throughout; differing lengths, fewer than ``runs_needed`` runs, a run of
    fewer than 3 samples, NaN or infinite features and infinite responses are ValueErrors.

    >>> prepare(np.eye(6), np.eye(6), [0, 0, 0, 1, 1, 1], "vision", 2).responses.shape
    (6, 6)
    """
    given, recorded = to_complete_matrix(features, f"{name} features"), to_matrix(responses, f"{name} responses")
    labels = to_labels(runs, f"{name} runs")
    if not len(given) == len(recorded) == len(labels):
        raise ValueError(
            f"{name} needs features, responses and a run label for every time; "
            f"got {len(given)}, {len(recorded)} and {len(labels)}"
        )
    if np.isinf(recorded).any():
        raise ValueError(f"{name} responses hold {int(np.isinf(recorded).sum())} infinite entries")
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < runs_needed or counts.min() < 3:
        raise ValueError(
            f"{name} needs at least {runs_needed} runs of at least 3 samples, so that runs can be held out; "
            f"got {len(counts)} runs, the shortest of {counts.min(initial=len(given))}"
        )
    return Stream(centred(given, labels), _z_scored(recorded, labels), labels)


def design(features: Floats, scale: Floats, runs: NDArray[Any], delays: Sequence[int]) -> Floats:
    """Scaled features, centred within runs before they are delayed, so that the padding is the mean, and after.

    Centring after as well makes a regression on it equal to one with a free intercept for every run.

    >>> design(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(2), (0, 1)).tolist()
    [[-1.0, 0.5], [1.0, -0.5]]
    """
    return centred(np.asarray(delayed(centred(features, runs) * scale, delays, runs)), runs)


def fit(
    stream: Stream, samples: NDArray[np.bool_], delays: Sequence[int], penalties: tuple[float, ...]
) -> EncodingModel:
    """A ridge model from ``samples``, which are whole runs.

    The scale of the features and the penalty of each unit, by leave-one-run-out, come from these runs only.
    Shapes: samples (times,) mask. Edge rule: a unit that is NaN has NaN weights.

    >>> x = np.random.default_rng(0).normal(size=(30, 1))
    >>> stream = prepare(x, 2 * x, np.repeat([0, 1, 2], 10), "vision", 2)
    >>> fit(stream, np.ones(30, dtype=bool), (0,), (1e-3, 1.0)).weights.shape
    (1, 1)
    """
    runs, responses = stream.runs[samples], stream.responses[samples]
    scale = inverse(stream.features[samples].std(axis=0))
    ridge = Alignment.fit(design(stream.features[samples], scale, runs, delays))
    weights = ridge.weights(responses, ridge.choose_each(responses, runs, penalties))
    return EncodingModel(scale, weights, tuple(delays))


def predict_left_out(stream: Stream, delays: Sequence[int], penalties: tuple[float, ...]) -> Floats:
    """Prediction of every run by a model that was fitted on all other runs, (times, units).

    >>> x = np.random.default_rng(0).normal(size=(30, 1))
    >>> stream = prepare(x, 2 * x, np.repeat([0, 1, 2], 10), "vision", 2)
    >>> bool(np.corrcoef(predict_left_out(stream, (0,), (1e-3,))[:, 0], x[:, 0])[0, 1] > 0.9)
    True
    """
    predicted = np.empty_like(stream.responses)
    for run in np.unique(stream.runs):
        test = stream.runs == run
        predicted[test] = fit(stream, ~test, delays, penalties).predict(stream.features[test], stream.runs[test])
    return predicted
