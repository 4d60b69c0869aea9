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

    Scores, of which more is better. With d_ij = values_j - values_i, how far model i is below j, and d*_ij its
    replicates less their mean, t_ij = d_ij / s_ij, s_ij^2 = mean d*_ij^2. Among the models that are left, the step's p
    is (1 + #{max_ij |d*_ij| / s_ij >= max_ij |t_ij|}) / (1 + n); the model of the largest t_ij leaves with the largest
    p of the steps so far, and so on until one is left, whose p is 1. Members are those with p > 1 - level.
    Shapes: replicates (models, n), paired: column k of all models is of the same resample (``group_weights``); values
    (models,) in the same unit -> p (models,), and members (models,) booleans.
    Edge rule: models that are equal in value and in every replicate leave together; one without a value, or with no
    finite replicate, is no member and has p NaN; replicates in which another model is NaN are left out; with fewer than
    two left nothing can be told apart, and p is 1. Resamples of few groups (below some 20) spread too little, so that
    the set is too small.
    Source: Hansen, Lunde and Nason 2011, T_R and its elimination rule; T_max, which sets each model against the mean of
    all, keeps models far below the best where many are far below. Ours: replicates are centred on their own mean, since
    that of a correlation is not its value, and p is never 0.

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
    error = np.stack([np.sqrt(((deviation - own) ** 2).mean(axis=1)) for own in deviation])
    statistic = _ratio(score - score[:, None], error)
    left, p, largest = np.arange(len(score)), np.ones(len(score)), 0.0
    while len(left) > 1:
        among = statistic[np.ix_(left, left)]
        null = _largest(deviation[left], error[np.ix_(left, left)])
        largest = max(largest, float((1 + (null >= among.max() - TIE).sum()) / (1 + len(null))))
        worst = left[int(among.max(axis=1).argmax())]
        leaving = _equal_to(worst, left, deviation, score)
        if leaving.all():
            break
        p[left[leaving]] = largest
        left = left[~leaving]
    return p


def _ratio(gap: Floats, error: Floats) -> Floats:
    """The gaps in standard errors; infinite where there is a gap but no error, 0 where there is neither."""
    certain = np.where(gap > TIE, np.inf, np.where(gap < -TIE, -np.inf, 0.0))
    return np.where(error <= TIE, certain, gap / np.where(error <= TIE, 1.0, error))


def _largest(deviation: Floats, error: Floats) -> Floats:
    """The largest difference of two models in standard errors, in every replicate, (replicates,)."""
    safe = np.where(error <= TIE, np.inf, error)
    rows = [(np.abs(deviation - own) / scale[:, None]).max(axis=0) for own, scale in zip(deviation, safe, strict=True)]
    return np.asarray(np.max(rows, axis=0))


def _equal_to(model: np.intp, left: NDArray[np.intp], deviation: Floats, score: Floats) -> NDArray[np.bool_]:
    """Which of the models that are left have the value and the replicates of this one."""
    same = np.abs(score[left] - score[model]) <= TIE
    same[same] = np.abs(deviation[left[same]] - deviation[model]).max(axis=1) <= TIE
    return np.asarray(same)
