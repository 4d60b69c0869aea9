"""Search asymmetry of a twin beside that of people: fixations, reaction times, slopes and their signs.

An experiment is a pair of conditions with target and distractors exchanged. "Hard" is the condition that is
harder for people, whatever the twin finds.
"""

from dataclasses import dataclass

import numpy as np

from metrics._arrays import Array, Floats, like, same_shape, to_float
from metrics.prediction.accuracy import correlation

MS_PER_FIXATION = 252.359
"""Milliseconds a fixation adds to the reaction time, from the code of Gupta et al. 2021."""

MS_BASE = 376.271
"""Reaction time without a fixation in ms, from the same code; what both were calibrated on is not known."""

NEVER_FOUND = ("own set size", "largest set size", "leave out")
"""What counts as the number of fixations where the target was never found."""

CONSTANT = 1e-12
"""Mean reaction times that differ by less than this share of the largest give a slope of exactly 0."""


def reaction_time(fixations: Array) -> Array:
    """Reaction time that a number of fixations stands for: 252.359 N + 376.271 ms.

    Shapes: fixations (any shape), counts or their means -> the same shape, in ms.
    Edge rule: NaN stays NaN; a negative count is a ValueError.
    Source: constants of the code of Gupta et al. 2021. Which data they were calibrated on is not known, so
    absolute times are a convention; slopes scale with the first constant, asymmetry does not depend on it.

    >>> reaction_time([0.0, 1.0, 2.0]).round(3).tolist()
    [376.271, 628.63, 880.989]
    """
    counts = to_float(fixations)
    if (counts < 0).any():
        raise ValueError(f"fixations must not be negative; got {np.nanmin(counts)}")
    return like(MS_PER_FIXATION * counts + MS_BASE, fixations)


@dataclass(frozen=True)
class MeanFixations:
    """Mean number of fixations to the target for every set size of one condition.

    set_sizes: (sizes,) distinct, rising. fixations: (sizes,) means. never_found: (sizes,) how many displays
    the rule for targets that were never found was used on.
    """

    set_sizes: Array
    fixations: Array
    never_found: Array


def mean_fixations(fixations: Array, set_sizes: Array, never_found: str = "own set size") -> MeanFixations:
    """Mean fixations per set size, with a stated rule for displays whose target was never found.

    "own set size": N = number of items of that display. "largest set size": N = largest set size of the
    condition. "leave out": the display does not count.
    Shapes: fixations (displays,) counts, NaN where the target was never found, set_sizes (displays,) items
    -> ``MeanFixations``.
    Edge rule: the displays treated by the rule are counted; a set size with no display left has NaN.
    Source: of the two published rules the first gives back the published mean asymmetries and is the default;
    the second is that of the code as shipped (Gupta et al. 2021). The third is ours. The first flatters: a
    failure costs no more than a search at random, whatever the limit of fixations was.

    >>> result = mean_fixations([1.0, 3.0, 2.0, float("nan")], [4, 4, 8, 8])
    >>> result.set_sizes.tolist(), result.fixations.tolist(), result.never_found.tolist()
    ([4.0, 8.0], [2.0, 5.0], [0, 1])
    """
    if never_found not in NEVER_FOUND:
        raise ValueError(f"never_found must be one of {', '.join(map(repr, NEVER_FOUND))}; got {never_found!r}")
    counts, sizes = _displays(fixations, set_sizes, "fixations")
    missing = np.isnan(counts)
    if never_found != "leave out":
        counts = np.where(missing, sizes if never_found == "own set size" else sizes.max(initial=0.0), counts)
    distinct, means = _mean_per_size(counts, sizes)
    treated = np.array([missing[sizes == size].sum() for size in distinct], dtype=np.int64)
    return MeanFixations(like(distinct, fixations), like(means, fixations), like(treated, fixations))


def _displays(values: Array, set_sizes: Array, name: str) -> tuple[Floats, Floats]:
    """Two vectors of one length; set sizes positive and without NaN."""
    first, sizes = to_float(values).ravel(), to_float(set_sizes).ravel()
    same_shape(first, sizes, f"{name} and set_sizes")
    if not (sizes > 0).all():
        raise ValueError(f"set_sizes must be positive numbers of items; got {sizes[~(sizes > 0)][:3].tolist()}")
    return first, sizes


def _mean_per_size(values: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Distinct set sizes and the mean of the values that are not NaN at each, NaN where none is left."""
    distinct, group = np.unique(sizes, return_inverse=True)
    valid = ~np.isnan(values)
    count = np.bincount(group[valid], minlength=len(distinct))
    total = np.bincount(group[valid], values[valid], minlength=len(distinct))
    return distinct, np.asarray(total / np.where(count > 0, count, np.nan))


def search_slope(set_sizes: Array, reaction_times: Array) -> float:
    """How much longer the search takes per item: least-squares slope of mean reaction time on set size.

    slope = sum_s (s - mean s)(RT_s - mean RT) / sum_s (s - mean s)^2 over distinct set sizes s, RT_s the mean
    of the displays of that size, each size with equal weight.
    Shapes: set_sizes, reaction_times (displays,) or (sizes,), items and ms -> float in ms per item.
    Edge rule: NaN times are left out; fewer than two set sizes give NaN; means that are equal up to rounding
    give exactly 0, so that no asymmetry is read from rounding errors.
    Source: Gupta et al. 2021.

    >>> search_slope([3, 6, 9], [645.0, 780.0, 915.0])
    45.0
    """
    times, sizes = _displays(reaction_times, set_sizes, "reaction_times")
    sizes, means = _mean_per_size(times, sizes)
    sizes, means = sizes[~np.isnan(means)], means[~np.isnan(means)]
    if len(sizes) < 2 or np.ptp(sizes) <= CONSTANT * sizes.max():
        return float("nan")
    if np.ptp(means) <= CONSTANT * np.abs(means).max():
        return 0.0
    x = sizes - sizes.mean()
    return float(x @ (means - means.mean()) / (x @ x))


def asymmetry_index(hard: float, easy: float, empty: float = 0.0) -> float:
    """Search asymmetry from two slopes: (H - E) / (H + E), positive where it has the human sign.

    Shapes: hard, easy, slopes in ms per item of the conditions harder and easier for people -> float in [-1, 1].
    Edge rule: negative slopes count as 0; where both are then 0 there is no asymmetry to speak of and the
    published rule gives 0, ``empty`` sets another value; such experiments are ``polarity_count``'s undecided.
    NaN in either gives NaN. The index is +-1 as soon as one slope is 0, however small the other.
    Source: Gupta et al. 2021.

    >>> round(asymmetry_index(7.6, 0.8), 3), asymmetry_index(-2.0, 0.5), asymmetry_index(-2.0, 0.0)
    (0.81, -1.0, 0.0)
    """
    if np.isnan(hard) or np.isnan(easy):
        return float("nan")
    above, below = max(float(hard), 0.0), max(float(easy), 0.0)
    return (above - below) / (above + below) if above + below > 0 else float(empty)


@dataclass(frozen=True)
class Polarity:
    """How many experiments have an asymmetry of the human sign, of the other one, none, or no slope (NaN)."""

    human: int
    reversed: int
    undecided: int
    missing: int


def polarity_count(hard: Array, easy: Array) -> Polarity:
    """In how many experiments the asymmetry has the sign that people show.

    human: #{``asymmetry_index`` > 0}, reversed: #{< 0}, undecided: #{= 0}, after negative slopes are set to 0.
    Shapes: hard, easy (experiments,) slopes in ms per item -> ``Polarity``.
    Edge rule: experiments with a NaN slope are counted as missing. Two slopes that are both 0 or negative, or equal up
    to rounding, are undecided.
    Source: ours; the published mean index hides a reversed experiment (section 2f of the notes).

    >>> polarity_count([7.6, 0.0, 1.0, 0.0], [0.8, 100.4, float("nan"), -3.0])
    Polarity(human=1, reversed=1, undecided=1, missing=1)
    """
    first, second = to_float(hard).ravel(), to_float(easy).ravel()
    same_shape(first, second, "hard and easy")
    index = np.array([asymmetry_index(a, b) for a, b in zip(first, second, strict=True)], np.float64)
    counts = (index > CONSTANT, index < -CONSTANT, np.abs(index) <= CONSTANT, np.isnan(index))
    return Polarity(*(int(outcomes.sum()) for outcomes in counts))


@dataclass(frozen=True)
class ReactionTimeError:
    """Root mean square difference of reaction times in ms, and the same over the mean human time."""

    milliseconds: float
    relative: float


def reaction_time_error(model: Array, human: Array) -> ReactionTimeError:
    """How far a model's mean reaction times are from those of people.

    milliseconds = sqrt(mean (m - h)^2), relative = milliseconds / mean h.
    Shapes: model, human (any shape, e.g. conditions x set sizes), ms -> ``ReactionTimeError``.
    Edge rule: pairs with a NaN are left out; none left gives NaN, and so does a relative error to a mean of 0.
    Source: ours: the asymmetry index ignores magnitude, so the error of the times stands beside it.

    >>> reaction_time_error([500.0, 700.0], [400.0, 600.0])
    ReactionTimeError(milliseconds=100.0, relative=0.2)
    """
    ours, theirs = to_float(model).ravel(), to_float(human).ravel()
    same_shape(ours, theirs, "model and human")
    valid = ~(np.isnan(ours) | np.isnan(theirs))
    if not valid.any():
        return ReactionTimeError(float("nan"), float("nan"))
    error, scale = float(np.sqrt(((ours - theirs)[valid] ** 2).mean())), float(theirs[valid].mean())
    return ReactionTimeError(error, error / scale if scale > 0 else float("nan"))


def slope_correlation(model: Array, human: Array) -> float:
    """Pearson correlation over conditions between a model's search slopes and those of people.

    r = corr_c(model slope_c, human slope_c).
    Shapes: model, human (conditions,) slopes in ms per item, negative ones as they are -> float in [-1, 1].
    Edge rule: pairs with a NaN are left out; fewer than two conditions or a constant side give NaN. Twelve
    conditions are few: p < 0.05 needs |r| > 0.576.
    Source: present in the code of Gupta et al. 2021.

    >>> round(slope_correlation([0.0, 4.4, 8.1], [0.8, 7.6, 23.9]), 3)
    0.96
    """
    ours, theirs = to_float(model).ravel(), to_float(human).ravel()
    same_shape(ours, theirs, "model and human")
    return float(correlation(ours[:, None], theirs[:, None])[0])
