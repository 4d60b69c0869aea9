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

BLOCK = 2**22
"""Responses of donors that are gathered at a time."""


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
        which a unit has every repeat, each repeat's mean deviation is taken out, and the rest scaled by
        sqrt(T / (T - 1)).

        >>> Residuals.of([[[1.0, 3.0]], [[4.0, 4.0]]]).values.round(3).tolist()
        [[[-0.707, 0.707]], [[0.707, -0.707]]]
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
        drift = np.where(steady[:, :, None], apart, 0.0).sum(axis=0) / np.maximum(stimuli, 1)[:, None]
        scale = np.sqrt(stimuli / np.maximum(stimuli - 1, 1))[:, None]
        apart = np.where(steady[:, :, None], (apart - drift) * scale, apart)
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

    def lent(self, weights: Floats, rows: NDArray[np.intp], units: NDArray[np.intp]) -> Floats:
        """The same (n, units) for stimuli `rows` (n, units), one for every unit, from weights (n, repeats)."""
        values, present = self.values[rows, units], self.present[rows, units]
        return np.asarray((values * _unit_length(weights[:, None], present)).sum(axis=2))


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
class MatchedNoise:
    """Noise of the repeat averages of some stimuli, drawn from what their repeats say.

    A stimulus with k >= 2 repeats takes a random contrast of its own repeats, divided by sqrt(k): its own noise,
    whatever it depends on, as correlated between units as it is. One that was shown once takes that of a random
    repeated stimulus of `donors`, scaled to one repeat and by what the responses say of the noise (`NoiseLaw`); units
    share the donor wherever they have the same ones. `blocks` (stimuli,) are labels: stimuli of one label share their
    weights, so that noise which lasts over the frames of a clip does so here. `known` (units,) says which units were
    repeated at all; the noise of the others is NaN.
    Source: ours, a reference design; the contrast is the difference of halves, generalised to any number of repeats.
    """

    own: Residuals
    donors: Residuals
    blocks: NDArray[np.intp]
    known: NDArray[np.bool_]
    law: NoiseLaw

    @classmethod
    def of(cls, repeats: Array, donors: Array | None = None, blocks: NDArray[np.intp] | None = None) -> MatchedNoise:
        """Noise of the averages of `repeats` (stimuli, units, repeats); `donors` alike, None for the stimuli themselves.

        >>> noise = MatchedNoise.of([[[1.0, 3.0], [1.0, 3.0]], [[4.0, 4.0], [5.0, 5.0]], [[0.0, 2.0], [0.0, 2.0]]])
        >>> bool(((drawn := noise.draw(np.random.default_rng(0)))[..., 0] == drawn[..., 1]).all())
        True
        """
        own = Residuals.of(repeats)
        lender = own if donors is None else Residuals.of(donors)
        known = (lender.count > 1).any(axis=0) | (own.count > 1).any(axis=0)
        labels = np.arange(len(own.count)) if blocks is None else np.unique(blocks, return_inverse=True)[1]
        return cls(own, lender, labels, known, NoiseLaw.of(lender.mean, lender.variance, lender.count))

    def draw(self, *generators: np.random.Generator) -> Floats:
        """A draw for every generator, (draws, stimuli, units), of an average's variance; NaN for units not known."""
        shape = (int(self.blocks.max(initial=-1)) + 1, self.own.values.shape[2])
        weights = np.stack([one.standard_normal(shape)[self.blocks] for one in generators])
        noise = self.own.contrasts(weights) / np.sqrt(np.maximum(self.own.count, 1.0))
        once = np.flatnonzero(((self.own.count < 2) & self.known).any(axis=1))
        for drawn, one in zip(noise, generators, strict=True) if len(once) else ():
            drawn[once] = np.where(self.own.count[once] < 2, self._lent(once, one), drawn[once])
        noise[:, :, ~self.known] = np.nan
        return noise

    def _lent(self, once: NDArray[np.intp], rng: np.random.Generator) -> Floats:
        """Noise of one trial from random donors, for stimuli that were shown once, (once, units)."""
        place = rng.random(len(once))
        weights = rng.standard_normal((len(once), self.donors.values.shape[2]))
        lent = np.zeros((len(once), self.own.values.shape[1]))
        able = self.donors.count > 1
        several = able.any(axis=0)
        if not several.any():
            return lent
        order = np.argsort(~able, axis=0, kind="stable")  # rows that can lend come first
        units, number = np.flatnonzero(several), able.sum(axis=0)[several]
        step = max(1, BLOCK // max(1, len(units) * weights.shape[1]))
        for start in range(0, len(once), step):
            part = slice(start, start + step)
            rows = order[(place[part, None] * number).astype(np.intp), units]
            trial = self.donors.lent(weights[part], rows, units)
            lent[part, units] = trial * self.law.ratio(self.own.mean[once[part]][:, units], rows, units)
        return lent
