"""The model confidence set: which of several models cannot be told from the best one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_float, to_matrix

TIE = 1e-9
"""Statistics this close are equal, and so are models whose scores differ by less in value and in every replicate."""


@dataclass(frozen=True)
class ModelConfidenceSet:
    """Which models may be the best: those whose p (models,) is above 1 - level."""

    p: Array
    level: float

    @property
    def members(self) -> NDArray[np.bool_]:
        """Whether each model is in the set, (models,); one without a p is not."""
        return np.asarray(np.nan_to_num(to_float(self.p)) > 1 - self.level)


def model_confidence_set(replicates: Array, values: Array, level: float = 0.95) -> ModelConfidenceSet:
    """Find the models that cannot be told from the best: it is among them with probability ``level`` or more.

    Scores, of which more is better. With M the models that are left, d_i = mean_M values - values_i and d*_i its
    replicates less their mean, t_i = d_i / sqrt(mean d*_i^2). The step's p is (1 + #{max_i d*_i / sqrt(mean d*_i^2) >=
    max_i t_i}) / (1 + n); the model of the largest t_i leaves M with the largest p of the steps so far, and so on until
    one is left, whose p is 1. Members are those with p > 1 - level.
    Shapes: replicates (models, n), paired: column k of all models is of the same resample (``group_weights``); values
    (models,) in the same unit -> p (models,), and members (models,) booleans.
    Edge rule: models that are equal in value and in every replicate leave together; one without a value, or with no
    finite replicate, is no member and has p NaN; replicates in which another model is NaN are left out; with fewer than
    two left nothing can be told apart, and p is 1. Resamples of few groups (below some 20) spread too little, so that
    the set is too small.
    Source: Hansen, Lunde and Nason 2011, T_max and its elimination rule. Ours: replicates are centred on their own
    mean, since that of a correlation is not its value, and p is never 0.

    >>> draws = np.random.default_rng(0).normal(size=(3, 999))
    >>> model_confidence_set(draws, [5.0, 4.9, 0.0]).members.tolist()
    [True, True, False]
    """
    draws, score = to_matrix(replicates, "replicates"), to_float(values)
    if score.shape != (len(draws),):
        raise ValueError(f"values must be one per model, ({len(draws)},); got shape {score.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    present = ~np.isnan(score) & np.isfinite(draws).any(axis=1)
    p = np.full(len(score), np.nan)
    shared = draws[present][:, np.isfinite(draws[present]).all(axis=0)]
    p[present] = _eliminated(shared, score[present]) if shared.shape[1] > 1 else 1.0
    return ModelConfidenceSet(like(p, replicates, values), level)


def _eliminated(draws: Floats, score: Floats) -> Floats:
    """The p of every model by eliminating the worst one after the other, (models,)."""
    deviation = draws - draws.mean(axis=1, keepdims=True)
    left, p, largest = np.arange(len(score)), np.ones(len(score)), 0.0
    while len(left) > 1:
        statistic, null = _statistics(deviation[left], score[left])
        top = statistic.max()
        largest = max(largest, float((1 + (null >= top - TIE).sum()) / (1 + len(null))))
        worst = left[int(statistic.argmax())]
        leaving = _equal_to(worst, left, deviation, score)
        if leaving.all():
            break
        p[left[leaving]] = largest
        left = left[~leaving]
    return p


def _statistics(deviation: Floats, score: Floats) -> tuple[Floats, Floats]:
    """How far each model is below the mean of all in standard errors, (models,); null of the largest, (replicates,)."""
    gap = score.mean() - score
    drawn = deviation.mean(axis=0) - deviation
    error = np.sqrt((drawn**2).mean(axis=1))
    certain = error <= TIE
    safe = np.where(certain, 1.0, error)
    statistic = np.where(certain, np.where(gap > TIE, np.inf, np.where(gap < -TIE, -np.inf, 0.0)), gap / safe)
    return statistic, np.where(certain[:, None], 0.0, drawn / safe[:, None]).max(axis=0)


def _equal_to(model: np.intp, left: NDArray[np.intp], deviation: Floats, score: Floats) -> NDArray[np.bool_]:
    """Which of the models that are left have the value and the replicates of this one."""
    same = np.abs(score[left] - score[model]) <= TIE
    same[same] = np.abs(deviation[left[same]] - deviation[model]).max(axis=1) <= TIE
    return np.asarray(same)
