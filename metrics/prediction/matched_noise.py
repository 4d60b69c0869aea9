"""The noise of repeat averages, drawn again: stimulus by stimulus, jointly over units, as large as it was recorded.

A twin has no trial noise and the brain's averages have some, so that the two are compared only after the twin was
given noise like that of the averages. Nothing is assumed about it but that repeats are exchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, to_repeats
from metrics.prediction.noise_law import NoiseLaw

MIXED = 4
"""Trials of which noise of one trial is mixed, so that no two stimuli have the same."""

UNITS = 512
"""Units of which correlations are taken at most."""


@dataclass(frozen=True)
class Residuals:
    """Deviations of repeats from the mean of their stimulus, (stimuli, units, repeats), 0 where `present` is False.

    `count` and `mean` (stimuli, units) are of the repeats that are there.
    """

    values: Floats
    present: NDArray[np.bool_]
    count: Floats
    mean: Floats

    @classmethod
    def of(cls, repeats: Array) -> Residuals:
        """Take the mean of each stimulus out of its repeats, and, where all are there, the drift between repeats.

        A drift that moves a whole repeat is in every average alike and is no noise of theirs: over the T stimuli of
        which a unit has every repeat, each repeat's mean deviation is taken out, shrunken by what is chance in it
        (lambda = max(0, 1 - chance / found)), and the rest scaled by sqrt(T / (T - lambda)).

        >>> Residuals.of([[[1.0, 3.0]], [[4.0, 4.0]]]).values.round(3).tolist()
        [[[-1.0, 1.0]], [[0.0, 0.0]]]
        """
        values = to_repeats(repeats)
        present = np.isfinite(values)
        count = present.sum(axis=2).astype(np.float64)
        filled = np.where(present, values, 0.0)
        mean = np.divide(filled.sum(axis=2), count, out=np.full_like(count, np.nan), where=count > 0)
        apart = np.where(present, filled - np.nan_to_num(mean)[:, :, None], 0.0)
        whole = present.all(axis=2)
        stimuli = whole.sum(axis=0)
        steady = whole & (stimuli > 1) & (values.shape[2] > 1)
        among = np.where(steady[:, :, None], apart, 0.0)
        drift = among.sum(axis=0) / np.maximum(stimuli, 1)[:, None]
        moved = (drift**2).sum(axis=1)
        rest = np.maximum((among**2).sum(axis=(0, 2)) - stimuli * moved, 0.0)
        chance = rest / (np.maximum(stimuli, 1) * np.maximum(stimuli - 1, 1))
        real = np.where(moved > chance, 1.0 - chance / np.where(moved > 0, moved, 1.0), 0.0)
        scale = np.sqrt(stimuli / np.maximum(stimuli - real, 1))[:, None]
        apart = np.where(steady[:, :, None], (apart - real[:, None] * drift) * scale, apart)
        return cls(apart, present, count, mean)

    @property
    def variance(self) -> Floats:
        """Variance (ddof 1) over repeats, (stimuli, units); NaN below two of them."""
        total = (self.values**2).sum(axis=2)
        return np.divide(total, self.count - 1, out=np.full_like(total, np.nan), where=self.count > 1)

    @cached_property
    def joint(self) -> bool:
        """Whether all units have the same repeats of every stimulus."""
        return bool((self.present == self.present[:, :1]).all())

    def contrasts(self, weights: Floats) -> Floats:
        """sum_r c_r x_ir with sum_r c_r = 0 and |c| = 1, from random weights (draws, stimuli, repeats).

        c are the weights of the repeats that are there, less their mean, scaled. Since c sums to 0 the stimulus's mean
        drops out, and the covariance over units is that of a single trial's noise; for Gaussian noise it is
        independent of the noise in the average. Shapes: -> (draws, stimuli, units). Edge rule: 0 below two repeats.
        """
        if self.joint:
            spread = _unit_length(weights, self.present[:, 0])
            return np.moveaxis(self.values @ np.moveaxis(spread, 0, 2), 2, 0)
        parts = [(self.values * _unit_length(draw[:, None], self.present)).sum(axis=2) for draw in weights]
        return np.asarray(parts)


def _unit_length(weights: Floats, present: NDArray[np.bool_]) -> Floats:
    """Weights of what is present less their mean, of length 1 along the last axis; 0 below two of them.

    >>> _unit_length(np.array([3.0, 1.0, 9.0]), np.array([True, True, False])).round(3).tolist()
    [0.707, -0.707, 0.0]
    """
    count = np.maximum(present.sum(axis=-1, keepdims=True), 1)
    centred = np.where(present, weights - np.where(present, weights, 0.0).sum(axis=-1, keepdims=True) / count, 0.0)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)


@dataclass(frozen=True)
class Lenders:
    """Residuals of repeated stimuli, for stimuli that were shown once: noise of one trial, of variance 1.

    `bank` (trials, units) are residuals times sqrt(k / (k - 1)) over the deviation that `law` expects of their
    stimulus; `order` (trials, units or 1) has the trials that a unit was recorded in first, `number` (units or 1,) of
    them. Few trials hold chance correlations, which would be in all that is lent: only a share `common` of the variance
    is theirs, the rest is Gaussian and each unit's own.
    """

    bank: Floats
    order: NDArray[np.intp]
    number: NDArray[np.intp]
    law: NoiseLaw
    common: float

    @classmethod
    def of(cls, residuals: Residuals) -> Lenders:
        """Take all trials of stimuli with two repeats or more."""
        law = NoiseLaw.of(residuals.mean, residuals.variance, residuals.count)
        able = residuals.count > 1
        grown = np.sqrt(np.where(able, residuals.count / np.maximum(residuals.count - 1, 1), 0.0))
        size = np.sqrt(np.where(able, law.expected, 0.0))
        scaled = np.divide(grown, size, out=np.zeros_like(size), where=size > 0)
        bank = np.moveaxis(residuals.values * scaled[:, :, None], 2, 1).reshape(-1, able.shape[1])
        usable = np.moveaxis(residuals.present & able[:, :, None], 2, 1).reshape(bank.shape)
        usable = usable[:, :1] if residuals.joint else usable
        order = np.argsort(~usable, axis=0, kind="stable")
        return cls(bank, order, usable.sum(axis=0), law, shared_share(residuals))

    def draw(self, shown: Floats, rng: np.random.Generator) -> Floats:
        """Noise of single trials `shown` (n, units), each a mixture of MIXED trials that units share where they can."""
        noise = np.sqrt(1 - self.common) * rng.standard_normal(shown.shape)
        weights = rng.standard_normal((MIXED, len(shown), 1))
        weights *= np.sqrt(self.common / (weights**2).sum(axis=0))
        units = np.arange(self.order.shape[1])
        for weight in weights:
            place = (rng.random((len(shown), 1)) * self.number).astype(np.intp)
            rows = self.order[np.minimum(place, len(self.order) - 1), units]
            noise += weight * (self.bank[rows[:, 0]] if len(units) == 1 else self.bank[rows, units])
        return noise * np.sqrt(np.nan_to_num(self.law.of_trials(shown)))


@dataclass(frozen=True)
class MatchedNoise:
    """Noise of the repeat averages of some stimuli, drawn from what their repeats say.

    A stimulus with k >= 2 repeats takes a random contrast of its own repeats, divided by sqrt(k): its own noise,
    whatever it depends on, as correlated between units as it is. One that was shown once takes a mixture of residuals
    of random repeated stimuli, scaled to one repeat and by what its response says of the noise (`Lenders`). `blocks`
    (stimuli,) are labels: stimuli of one label share their weights, so that noise which lasts over the frames of a clip
    does so here. `known` (units,) says which units were repeated at all; the noise of the others is NaN.
    Source: ours, a reference design; the contrast is the difference of halves, generalised to any number of repeats.
    """

    own: Residuals
    lenders: Lenders | None
    blocks: NDArray[np.intp]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, repeats: Array, lenders: Array | None = None, blocks: NDArray[np.intp] | None = None) -> MatchedNoise:
        """Noise of the averages of `repeats` (stimuli, units, repeats), `lenders` alike; without, of the same stimuli.

        >>> noise = MatchedNoise.of([[[1.0, 3.0], [1.0, 3.0]], [[4.0, 4.0], [5.0, 5.0]], [[0.0, 2.0], [0.0, 2.0]]])
        >>> bool(((drawn := noise.draw(np.random.default_rng(0)))[..., 0] == drawn[..., 1]).all())
        True
        """
        own = Residuals.of(repeats)
        others = repeats if lenders is None else lenders
        known = (own.count > 1).any(axis=0) | (np.isfinite(to_repeats(others)).sum(axis=2) > 1).any(axis=0)
        needed = known.any() and (own.count[:, known] < 2).any()
        lent = Lenders.of(own if lenders is None else Residuals.of(lenders)) if needed else None
        labels = np.arange(len(own.count)) if blocks is None else np.unique(blocks, return_inverse=True)[1]
        return cls(own, lent, labels, known)

    def draw(self, *generators: np.random.Generator) -> Floats:
        """A draw for every generator, (draws, stimuli, units), of an average's variance; NaN for units not known."""
        shape = (int(self.blocks.max(initial=-1)) + 1, self.own.values.shape[2])
        weights = np.stack([one.standard_normal(shape)[self.blocks] for one in generators])
        noise = self.own.contrasts(weights) / np.sqrt(np.maximum(self.own.count, 1.0))
        if self.lenders is not None:
            once = np.flatnonzero((self.own.count < 2).any(axis=1))
            single = self.own.count[once] < 2
            for drawn, one in zip(noise, generators, strict=True):
                drawn[once] = np.where(single, self.lenders.draw(self.own.mean[once], one), drawn[once])
        noise[:, :, ~self.known] = np.nan
        return noise


def shared_share(residuals: Residuals) -> float:
    """How much of the residuals' correlations between units is more than chance, in [0, 1].

    sqrt(sum_uv C_uv^2 / sum_uv C^_uv^2) over pairs of units, C^ the correlations over M degrees of freedom (repeats
    beyond the first) and C^2 = (M C^^2 - 1) / (M + 1), free of their chance part; so that noise with C^ times this
    has correlations as large as the recorded noise. At most UNITS units are looked at.

    >>> noise = np.random.default_rng(0).normal(size=(400, 20, 2))
    >>> shared_share(Residuals.of(noise)) < 0.5, shared_share(Residuals.of(noise + 5 * noise[:, :1])) > 0.95
    (True, True)
    """
    able = residuals.count > 1
    chosen = np.flatnonzero(able.any(axis=0))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), UNITS)).astype(np.intp)] if len(chosen) else chosen
    values = residuals.values[:, chosen]
    flat = np.moveaxis(values, 2, 1).reshape(-1, len(chosen))
    size = np.sqrt((flat**2).sum(axis=0))
    flat = flat / np.where(size > 0, size, 1.0)
    beyond = np.sqrt(np.where(able, residuals.count - 1, 0.0)[:, chosen])
    freedom = beyond.T @ beyond
    apart = ~np.eye(len(chosen), dtype=bool) & (freedom > 0)
    squared = ((flat.T @ flat) ** 2)[apart]
    real = ((freedom[apart] * squared - 1) / (freedom[apart] + 1)).sum()
    return float(np.sqrt(np.clip(real / squared.sum(), 0.0, 1.0))) if squared.sum() > 0 else 0.0
