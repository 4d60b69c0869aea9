"""What alignments with the brain share: noise as it was recorded, draws that are averaged, nulls, and a ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.prediction.matched_noise import MatchedNoise
from sweeps.recordings.recording import RecordingFacts
from sweeps.scores.view import CellView

PRECISION = 0.01
"""Draws are averaged until the standard error of the score is below this."""

PAIRS, MOST_PAIRS = 4, 40
"""Pairs of draws at a time, and at most; those of a pair have the same noise with opposite signs."""

CEILING_PAIRS = 12
"""Draws of two halves of the repeats."""

FEWEST_UNITS = 2
CLEAR = 3.0
"""Spreads by which ceiling and null must differ for a normalised value."""

NO_REPEATS = "nothing was repeated, so that the noise is not known: a twin of noise would win"
TOO_FEW_UNITS = "fewer than half of the units were repeated, or fewer than two: the noise of the others is not known"
AT_CHANCE = "the brain itself is at chance"
NOT_TOLD_APART = "of the normalised value alone: the best null is not told apart from the ceiling"
REASONS = (NO_REPEATS, TOO_FEW_UNITS, AT_CHANCE, NOT_TOLD_APART)
"""Why an alignment is NaN: the text of code 1, 2, ... in the score's column `*_reason`."""


def aligned(null: str = "null") -> tuple[str, ...]:
    """Ends of the columns that every alignment has beside it; `null` is that of the best null twin."""
    return ("normalised", null, "ceiling", "spread", "reason")


LENDERS = ("fit", "objects", "captions")
"""Roles whose noise is that of pictures: where nothing of a role was repeated, the first of these lends its own."""

Responses = Callable[[int], np.ndarray]
"""Noise-free responses (stimuli, units) of pair number n."""

KEPT = 2**23
"""Numbers of noise that are kept while a score is computed; beyond, they are drawn again."""


@dataclass(frozen=True)
class Measure:
    """How a twin's responses, with noise, are compared with the brain's.

    `differences(responses, pairs)` is what the twin has more than the brain, (draws, numbers), of responses (draws,
    stimuli, units) that belong to these pairs; `closeness` makes of the mean difference a score of at most 1, which it
    is where there is none.
    """

    differences: Callable[[np.ndarray, np.ndarray], np.ndarray]
    closeness: Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Averaged:
    """A score, its standard error over draws of noise, and the mean difference between twin and brain."""

    value: float
    spread: float
    difference: np.ndarray
    draws: int


@dataclass(frozen=True)
class Reference:
    """What the score of a recording is worth: null twins by name, and one half of the repeats against the other.

    `ceiling` is the mean and `spread` the standard deviation over random halvings.
    """

    nulls: Mapping[str, float]
    ceiling: float
    spread: float

    @property
    def null(self) -> float:
        """The best null twin."""
        return max(self.nulls.values())

    def normalised(self, value: float) -> float:
        """0 at the best null, 1 at the ceiling; NaN where the two are not told apart."""
        reach = self.ceiling - self.null
        return (value - self.null) / reach if reach >= CLEAR * self.spread and reach > 0 else float("nan")

    def columns(self, name: str, result: Averaged, null: str = "null") -> dict[str, float]:
        """The columns beside the score `name`."""
        normalised = self.normalised(result.value)
        return {
            f"{name}_normalised": normalised,
            f"{name}_{null}": self.null,
            f"{name}_ceiling": self.ceiling,
            f"{name}_spread": result.spread,
            f"{name}_reason": code(NOT_TOLD_APART) if np.isnan(normalised) else float("nan"),
            **{f"{name}_null_{twin}": value for twin, value in self.nulls.items()},
        }


def unknown(share: float, units: float) -> str:
    """Why a share of units of known noise forbids an alignment; empty where it does not."""
    if share <= 0:
        return NO_REPEATS
    return TOO_FEW_UNITS if share * units < max(FEWEST_UNITS, units / 2) else ""


def unknown_noise(role: str, *beside: str) -> Callable[[RecordingFacts], dict[str, str]]:
    """Give, for facts of a recording, the areas in which noise of a role's averages is not known, with the reason.

    Nothing is said of recordings without the role, or those `beside` it, nor where repeats were not counted.
    """

    def gaps(facts: RecordingFacts) -> dict[str, str]:
        if not {role, *beside} <= set(facts.roles):
            return {}
        if not facts.repeated:
            return dict.fromkeys(facts.areas, NO_REPEATS) if facts.repeats < 2 else {}
        own = {name: unknown(_repeated(facts, role, name), units) for name, units in facts.areas.items()}
        return {name: reason for name, reason in own.items() if reason}

    return gaps


def _repeated(facts: RecordingFacts, role: str, area: str) -> float:
    """Share of an area's units that were repeated in the role; where none was, in the first role that lends noise."""
    shares = (facts.repeated[name].get(area, 0.0) for name in (role, *LENDERS) if name in facts.repeated)
    return next((share for share in shares if share > 0), 0.0)


def code(reason: str) -> float:
    """Number of a reason in `REASONS`, from 1."""
    return float(REASONS.index(reason) + 1)


class BrainNoise:
    """Noise of the repeat averages of one role in the view's split, the same draws for every twin of the area.

    `stimuli` are those that are compared, a mask, and `repeated` says which of these have two repeats of every unit.
    """

    def __init__(self, view: CellView, role: str, stimuli: np.ndarray) -> None:
        self.noise: MatchedNoise = view.of_brain(("noise", role), lambda: _noise(view, role))
        self.stimuli = stimuli
        self.known = self.noise.known
        reason = unknown(float(self.known.mean()), len(self.known))
        self.reason = code(reason) if reason else float("nan")
        self._seed = view.brain_seed
        self._kept: dict[int, np.ndarray] = {}

    def pairs(self, numbers: np.ndarray) -> np.ndarray:
        """Noise (pairs, stimuli, units) of pairs by their numbers, of the units that are known."""
        missing = [number for number in numbers if number not in self._kept]
        drawn = self._drawn(missing) if missing else np.empty(0)
        fresh = dict(zip(missing, drawn, strict=True))
        noise = np.stack([self._kept[number] if number in self._kept else fresh[number] for number in numbers])
        if (len(self._kept) + len(missing)) * noise[0].size <= KEPT:
            self._kept |= fresh
        return noise

    def _drawn(self, numbers: list[int]) -> np.ndarray:
        generators = (np.random.default_rng([self._seed, 21, number]) for number in numbers)
        return self.noise.draw(*generators)[:, self.stimuli][:, :, self.known]

    @property
    def repeated(self) -> np.ndarray:
        return np.asarray((self.noise.own.count[self.stimuli][:, self.known] > 1).all(axis=1))

    def averaged(self, measure: Measure, twin: Responses) -> Averaged:
        """Score of a twin's noise-free responses to which noise is added, with both signs of every draw."""
        differences: list[np.ndarray] = []
        while len(differences) < MOST_PAIRS:
            numbers = np.arange(PAIRS) + len(differences)
            clean, noise = np.stack([twin(int(number)) for number in numbers]), self.pairs(numbers)
            more, less = self._both(measure, clean, noise, numbers)
            differences.extend((more + less) / 2)
            if standard_error(measure, differences) < PRECISION:
                break
        mean = np.mean(differences, axis=0)
        return Averaged(measure.closeness(mean), standard_error(measure, differences), mean, len(differences))

    @staticmethod
    def _both(
        measure: Measure, clean: np.ndarray, noise: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Differences of responses plus noise, and of responses less noise."""
        both = measure.differences(np.concatenate([clean + noise, clean - noise]), np.concatenate([numbers, numbers]))
        return both[: len(numbers)], both[len(numbers) :]

    def ceiling(self, measure: Measure, observed: np.ndarray) -> np.ndarray:
        """Scores of one half of the repeats against the other, (CEILING_PAIRS,).

        The average plus noise and the average less the same noise are two halves of the repeats, exactly so for an even
        number of them. Their difference is halved: an average over all repeats differs from the noise-free
        responses by half of what two halves of them differ by.
        """
        numbers = np.arange(CEILING_PAIRS)
        more, less = self._both(measure, observed, self.pairs(numbers), numbers)
        return np.array([measure.closeness(difference / 2) for difference in more - less])

    def signal(self, observed: np.ndarray) -> np.ndarray:
        """Standard deviation (units,) of the responses without noise."""
        noise = (self.pairs(np.arange(PAIRS)) ** 2).mean(axis=(0, 1))
        return np.asarray(np.sqrt(np.maximum(observed.var(axis=0) - noise, 0.0)))

    def reference(self, measure: Measure, observed: np.ndarray, shuffled: bool) -> Reference:
        """Null twins (`shuffled`: also the average of other stimuli, whose noise is in it), and the ceiling."""
        mean, signal = np.broadcast_to(observed.mean(axis=0), observed.shape), self.signal(observed)

        def white(number: int) -> np.ndarray:
            random = np.random.default_rng([self._seed, 22, number])
            return np.asarray(mean + signal * random.standard_normal(mean.shape))

        nulls = {
            "constant": self.averaged(measure, lambda number: mean).value,
            "white_noise": self.averaged(measure, white).value,
        }
        if shuffled:
            nulls["shuffled"] = self._shuffled(measure, observed)
        halves = self.ceiling(measure, observed)
        return Reference(nulls, float(halves.mean()), float(halves.std(ddof=1)))

    def _shuffled(self, measure: Measure, observed: np.ndarray) -> float:
        random, numbers = np.random.default_rng([self._seed, 23]), np.arange(CEILING_PAIRS)
        orders = [random.permutation(len(observed)) for _ in numbers]
        return measure.closeness(measure.differences(observed[orders], numbers).mean(axis=0))


def standard_error(measure: Measure, differences: list[np.ndarray]) -> float:
    """Standard error of the closeness of the mean difference over draws, by the jackknife."""
    total, number = np.sum(differences, axis=0), len(differences)
    left_out = np.array([measure.closeness((total - one) / (number - 1)) for one in differences])
    return float(np.sqrt((number - 1) * left_out.var()))


def _noise(view: CellView, role: str) -> MatchedNoise:
    """Noise of the averages of a role; stimuli that were shown once take it from those of the role, else of others."""
    presented = view.presentations(role)
    lenders = [
        view.presentations(name, whole=True) for name in dict.fromkeys((role, *LENDERS)) if name in view.recording.sets
    ]
    able = next((one for one in lenders if (np.isfinite(one).sum(axis=2) > 1).any()), lenders[0])
    return MatchedNoise.of(presented, able, view.clips(role))
