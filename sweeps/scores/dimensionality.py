"""Dimensionality of the twin's population beside the brain's, linear and nonlinear."""

from __future__ import annotations

import numpy as np

from metrics import closeness, cross_validated_participation_ratio, participation_ratio, two_nn
from sweeps.scores.matched import PAIRS, REASONS, BrainNoise, Measure, aligned, unknown_noise
from sweeps.scores.score import Score
from sweeps.scores.view import CellView

SCORE = Score(
    "dimensionality",
    version=3,
    columns=(
        "dimensionality",
        "participation_ratio",
        "brain_participation_ratio",
        "participation_ratio_closeness",
        "two_nn",
        "brain_two_nn",
        "two_nn_closeness",
        "noise_matched",
        "participation_ratio_noise_free",
        "brain_participation_ratio_cross_validated",
        *(f"dimensionality_{column}" for column in (*aligned(), "null_constant", "null_white_noise")),
    ),
    up=True,
    also_up=("participation_ratio_closeness", "two_nn_closeness"),
    summary="closeness of the twin's dimensionality to the brain's, linear and nonlinear",
    seconds=0.04,
    curves=tuple(
        f"{measure}_{what}"
        for measure in ("participation_ratio", "two_nn")
        for what in ("tau", "curve_distance", "collapse")
    ),
    reasons=REASONS,
    gaps=unknown_noise("fit"),
    shown={
        "dimensionality": "dimensionality_null",
        "dimensionality_normalised": None,
        "participation_ratio": "brain_participation_ratio",
        "two_nn": "brain_two_nn",
    },
)

FLAT = 1e-12
"""Units of the brain that vary less than this are left out; those of the twin count as units without variance."""

FEWEST_STIMULI = 5


def compute(view: CellView) -> dict[str, float]:
    """Mean of exp(-|ln(twin / brain)|) of participation ratio and TwoNN, on the split's stimuli.

    Units are z-scored; every area of a recording is cut to the same number of units. The brain's responses are repeat
    averages, so noise is added to the twin's noise-free responses: that of the averages themselves, stimulus by
    stimulus and jointly over units (see metrics.prediction.matched_noise). Dimensions are geometric means over draws
    of noise and units, the same draws for every twin. Units whose noise is not known are left out: `noise_matched` is
    the share of the others; where too few remain the brain's own dimensions stand alone. Beside it the null twins that
    the score can tell apart (it does not see the order of the stimuli), one half of the repeats against the other
    (`dimensionality_ceiling`), and the score on the scale on which these are 0 and 1. `participation_ratio_noise_free`
    stands beside the brain's cross-validated one, on the stimuli with two repeats.
    """
    noise = BrainNoise(view, "fit", np.isfinite(view.observed).all(axis=1))
    shares = {"noise_matched": float(noise.known.mean()), "dimensionality_reason": noise.reason}
    if np.isfinite(noise.reason) or noise.stimuli.sum() < FEWEST_STIMULI:
        return SCORE.unavailable() | shares | _brain_alone(view)
    brain = _Brain(view, noise.stimuli, noise.known)
    measure = Measure(brain.differences, _closeness)
    twin = view.predicted[noise.stimuli][:, noise.known]
    result = noise.averaged(measure, lambda number: twin)
    reference = view.of_brain("dimensions", lambda: noise.reference(measure, brain.observed, shuffled=False))
    linear, curved = np.exp(brain.mean(result.draws))
    twin_linear, twin_curved = np.exp(brain.mean(result.draws) + result.difference)
    return {
        "dimensionality": result.value,
        "participation_ratio": float(twin_linear),
        "brain_participation_ratio": float(linear),
        "participation_ratio_closeness": closeness(twin_linear, linear),
        "two_nn": float(twin_curved),
        "brain_two_nn": float(curved),
        "two_nn_closeness": closeness(twin_curved, curved),
        **shares,
        **_cross_validated(view, noise, twin),
        **reference.columns("dimensionality", result),
    }


def _closeness(difference: np.ndarray) -> float:
    """Mean of exp(-|d|) of differences of logarithms."""
    return float(np.exp(-np.abs(difference)).mean())


class _Brain:
    """Dimensions of the recorded averages, on units that are drawn anew for every pair of draws."""

    def __init__(self, view: CellView, stimuli: np.ndarray, units: np.ndarray) -> None:
        self.view = view
        self.observed = view.observed[stimuli][:, units]
        self.known: dict[bytes, np.ndarray] = view.of_brain("dimensions by units", dict)
        self.varied = np.flatnonzero(self.observed.std(axis=0) > FLAT)

    def units(self, number: int) -> np.ndarray:
        if len(self.varied) <= self.view.common_units:
            return self.varied
        random = np.random.default_rng([self.view.brain_seed, 24, number])
        return np.sort(random.permutation(self.varied)[: self.view.common_units])

    def dimensions(self, number: int) -> np.ndarray:
        """Logarithms (2,) of participation ratio and TwoNN of the averages on the units of a pair."""
        key = self.units(number).tobytes()
        if key not in self.known:
            self.known[key] = _logarithms(self.observed[:, self.units(number)])
        return self.known[key]

    def mean(self, draws: int) -> np.ndarray:
        return np.mean([self.dimensions(number) for number in range(draws)], axis=0)

    def differences(self, responses: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """ln(twin / brain) of both dimensions for every draw, (draws, 2)."""
        drawn = zip(responses, numbers, strict=True)
        return np.array([_logarithms(one[:, self.units(pair)]) - self.dimensions(pair) for one, pair in drawn])


def _brain_alone(view: CellView) -> dict[str, float]:
    """The brain's own dimensions, noise and all, where the noise is not known and no twin can be compared."""
    stimuli = np.isfinite(view.observed).all(axis=1)
    if stimuli.sum() < FEWEST_STIMULI:
        return {}
    brain = _Brain(view, stimuli, np.ones(len(view.units), dtype=bool))
    if not len(brain.varied):
        return {}
    linear, curved = np.exp(brain.mean(PAIRS))
    return {"brain_participation_ratio": float(linear), "brain_two_nn": float(curved)}


def _logarithms(responses: np.ndarray) -> np.ndarray:
    """ln of participation ratio and TwoNN of z-scored responses."""
    scored = standardised(responses)
    return np.log([participation_ratio(scored), two_nn(scored)])


def _cross_validated(view: CellView, noise: BrainNoise, twin: np.ndarray) -> dict[str, float]:
    """Participation ratio of the signal alone: of the noise-free twin, and of the brain by halves of the repeats.

    On stimuli of which every unit has two repeats; units are divided by the deviation of the averages, those of the
    twin by that of its responses with noise.
    """
    names = ("participation_ratio_noise_free", "brain_participation_ratio_cross_validated")
    repeated = noise.repeated
    if repeated.sum() < FEWEST_STIMULI:
        return dict.fromkeys(names, float("nan"))
    observed = view.observed[noise.stimuli][:, noise.known][repeated]
    errors = noise.pairs(np.arange(PAIRS))[:, repeated]
    both = twin[repeated].var(axis=0) + (errors**2).mean(axis=(0, 1))
    brain = view.of_brain("cross-validated dimension", lambda: _of_signal(observed, errors))
    return dict(zip(names, (participation_ratio(_divided(twin[repeated], np.sqrt(both))), brain), strict=True))


def _of_signal(observed: np.ndarray, errors: np.ndarray) -> float:
    """Mean over random halvings of the cross-validated participation ratio."""
    spread = observed.std(axis=0)
    halves = [[_divided(observed + sign * error, spread) for sign in (1.0, -1.0)] for error in errors]
    return float(np.mean([cross_validated_participation_ratio(*pair) for pair in halves]))


def _divided(responses: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return responses / np.where(spread > 0, spread, 1.0)


def standardised(responses: np.ndarray) -> np.ndarray:
    """Units z-scored; one that does not vary is 0."""
    spread = responses.std(axis=0)
    size = np.abs(responses).max(axis=0, initial=0.0)
    varied = spread > FLAT * np.maximum(size, FLAT)
    return np.where(varied, (responses - responses.mean(axis=0)) / np.where(varied, spread, 1.0), 0.0)
