"""What a dimension depends on: numbers of stimuli and units, noise, chance, and how feature maps are pooled.

Every estimator of dimensionality is biased by the numbers of stimuli and units and raised by noise, so a dimension
alone says little. ``estimator`` is any function of responses to a float: ``two_nn``, ``participation_ratio``, or
``lambda responses: gride(responses, (8,))[8]``; the curve against scale is ``gride`` itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, to_complete_matrix, to_float, to_matrix

Estimator = Callable[[Floats], float]

STIMULI = (250, 500, 1000, 2000)
"""Numbers of stimuli at which a dimension is measured."""

POOLINGS = ("mean", "max", "patch", "flatten")
"""The ways in which ``pooled`` turns feature maps into responses."""


@dataclass(frozen=True)
class DimensionCurve:
    """A dimension against the number of stimuli or units.

    sizes: (sizes,) how many were drawn. mean, deviation: (sizes,) over random draws of that size; the deviation
    (ddof 1) is that of draws from one set, which overlap: no standard error, and 0 for the whole set.
    """

    sizes: tuple[int, ...]
    mean: Array
    deviation: Array


def _drawn(rng: np.random.Generator, available: int, size: int) -> NDArray[np.intp]:
    """``size`` different indices in rising order."""
    return np.sort(rng.permutation(available)[:size])


def _check_draws(draws: int) -> None:
    """A ValueError unless there are at least two draws, whose deviation exists."""
    if draws < 2:
        raise ValueError(f"draws must be 2 or more; got {draws}")


def _at_size(responses: Floats, estimator: Estimator, size: int, axis: int, draws: int, seed: int) -> Floats:
    """The estimator on random parts of one size along one axis, (draws,); NaN when there are fewer."""
    available = responses.shape[axis]
    if size > available:
        return np.full(draws, np.nan)
    rng = np.random.default_rng([seed, axis, size])
    parts = (responses.take(_drawn(rng, available, size), axis) for _ in range(draws))
    return np.array([estimator(part) for part in parts])


def dimension_curve(
    responses: Array,
    estimator: Estimator,
    stimuli: Sequence[int] | None = None,
    units: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
) -> DimensionCurve:
    """A dimension against the number of stimuli, or against the number of units.

    At every size, mean and deviation of the estimator over ``draws`` random parts, drawn without replacement
    (duplicates would have neighbours at distance 0). A point does not depend on the other sizes asked for.
    Shapes: responses (stimuli, units); ``stimuli`` (default ``STIMULI``) or ``units`` (sizes,) ->
    ``DimensionCurve``.
    Edge rule: a size above what there is gives NaN, and so does one at which any draw's estimate is NaN; sizes
    for both axes, a size below 1, fewer than two draws, and NaN or infinite responses are ValueErrors.
    Source: ours, a reference design; the sizes and 20 draws are section 2g of the notes.

    >>> curve = dimension_curve(np.random.default_rng(0).normal(size=(90, 4)), lambda part: float(len(part)), (30, 90))
    >>> curve.sizes, curve.mean.tolist(), curve.deviation.tolist()
    ((30, 90), [30.0, 90.0], [0.0, 0.0])
    """
    if stimuli is not None and units is not None:
        raise ValueError("dimension_curve varies stimuli or units; got sizes for both")
    _check_draws(draws)
    matrix = to_complete_matrix(responses, "responses")
    axis, sizes = (0, STIMULI if stimuli is None else stimuli) if units is None else (1, units)
    if not len(sizes) or min(sizes) < 1:
        raise ValueError(f"sizes must be whole numbers of 1 or more, at least one of them; got {list(sizes)}")
    values = np.array([_at_size(matrix, estimator, int(size), axis, draws, seed) for size in sizes])
    mean, deviation = values.mean(axis=1), values.std(axis=1, ddof=1)
    return DimensionCurve(tuple(int(size) for size in sizes), like(mean, responses), like(deviation, responses))


def shuffled_dimension(responses: Array, estimator: Estimator, draws: int = 20, seed: int = 0) -> Array:
    """Null of a dimension: the estimator after every unit's responses are shuffled over stimuli on their own.

    shuffled_iu = responses_{p(i, u), u}, p(., u) a random order of the stimuli for every unit u. Keeps every unit's
    distribution and breaks what units share, so a dimension below this null speaks for shared structure.
    Shapes: responses (stimuli, units) -> (draws,), one value per shuffle.
    Edge rule: NaN where the estimator gives NaN; NaN or infinite responses are a ValueError.
    Source: ours, a reference design (section 2c' of the notes asks for a shuffled null).

    >>> from metrics import participation_ratio
    >>> line = np.outer(np.arange(50.0), np.ones(6))
    >>> round(participation_ratio(line), 6), bool((shuffled_dimension(line, participation_ratio) > 4).all())
    (1.0, True)
    """
    matrix = to_complete_matrix(responses, "responses")
    rng = np.random.default_rng(seed)
    return like(np.array([estimator(rng.permuted(matrix, axis=0)) for _ in range(draws)]), responses)


@dataclass(frozen=True)
class DimensionInterval:
    """A dimension with the interval of its sampling error over stimuli; low and high are NaN when it is unknown."""

    estimate: float
    low: float
    high: float


def subsample_interval(
    responses: Array,
    estimator: Estimator,
    share: float = 0.5,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> DimensionInterval:
    """A dimension and the interval of its sampling error, by parts drawn without replacement.

    estimate -+ z s sqrt(m / (n - m)), s the deviation (ddof 1) over parts of m = share n stimuli, z the normal
    quantile. Parts of one set overlap and vary too little; for a mean var(part) = S^2 (n - m) / (m n), so the
    factor turns it into S^2 / n. A bootstrap would repeat stimuli, whose neighbours are then at distance 0.
    With the default share the interval of a participation ratio covers as stated; those from neighbours, which
    change with the part, are wide by a quarter to a third, and by a half with a share of 0.8.
    Shapes: responses (stimuli, units) -> ``DimensionInterval``.
    Edge rule: fewer than two stimuli in a part or none left out, or any NaN estimate, give NaN ends; a share or
    level outside (0, 1), fewer than two draws, and NaN or infinite responses are ValueErrors. The interval
    covers what the estimator gives on other stimuli of the same number: its bias stays.
    Source: delete-d jackknife, Shao and Wu 1989; here with random parts.

    >>> data = np.random.default_rng(0).normal(size=(200, 1))
    >>> result = subsample_interval(data, lambda part: float(part.mean()), draws=2000)
    >>> round(float((result.high - result.low) / (2 * 1.96 * data.std() / 200**0.5)), 1)
    1.0
    """
    if not (0 < share < 1 and 0 < level < 1):
        raise ValueError(f"share and level must lie between 0 and 1; got {share} and {level}")
    _check_draws(draws)
    matrix = to_complete_matrix(responses, "responses")
    estimate, stimuli = estimator(matrix), len(matrix)
    size = round(share * stimuli)
    if not 2 <= size < stimuli:
        return DimensionInterval(estimate, float("nan"), float("nan"))
    deviation = _at_size(matrix, estimator, size, 0, draws, seed).std(ddof=1)
    reach = float(NormalDist().inv_cdf((1 + level) / 2) * deviation * np.sqrt(size / (stimuli - size)))
    return DimensionInterval(estimate, estimate - reach, estimate + reach)


def noise_matched(clean: Array, noise_variance: Array, seed: int = 0) -> Array:
    """Noise-free responses with the recording's noise: Gaussian noise of every unit's variance added.

    noisy_iu = clean_iu + sqrt(noise_variance_u) e_iu with standard normal e; give the variance that is left in
    the repeat average (``noise_variance_of_mean``) to match repeat averages.
    Shapes: clean (stimuli, units), noise_variance (units,) or one float, in squared response units ->
    (stimuli, units).
    Edge rule: a negative, NaN or infinite variance is a ValueError; NaN responses stay NaN.
    Source: ours, a reference design (the noise-injected control of section 2c' of the notes). Noise that units
    share, and noise that grows with the response, are not in it.

    >>> noise_matched([[1.0, 2.0]], [0.0, 0.0]).tolist()
    [[1.0, 2.0]]
    """
    matrix, variance = to_matrix(clean, "clean"), to_float(noise_variance)
    if variance.shape not in ((), (matrix.shape[1],)):
        raise ValueError(f"noise_variance must be one float or one per unit, {matrix.shape[1]}; got {variance.shape}")
    if not (np.isfinite(variance) & (variance >= 0)).all():
        raise ValueError("noise_variance must be finite and 0 or more for every unit; leave the other units out")
    noise = np.random.default_rng(seed).standard_normal(matrix.shape)
    return like(matrix + np.sqrt(variance) * noise, clean)


def equalised(
    first: Array,
    second: Array,
    stimuli: int | None = None,
    units: int | None = None,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Two populations cut to equal numbers of stimuli and units, drawn by the seed.

    The numbers are ``stimuli`` and ``units``, or else the smaller of the two populations'. Populations with
    equally many stimuli are taken to have seen the same ones, and keep the same; units are drawn apart.
    Shapes: first, second (stimuli, units), each its own -> two arrays (stimuli, units) of one shape.
    Edge rule: order is kept; a number above what both have, or below 1, is a ValueError; NaN are kept.
    Source: ours; dimensions are comparable at equal numbers only (section 2c' of the notes).

    >>> cut = equalised(np.ones((5, 3)), np.ones((4, 7)))
    >>> [part.shape for part in cut]
    [(4, 3), (4, 3)]
    """
    one, two = to_matrix(first, "first"), to_matrix(second, "second")
    common = np.minimum(one.shape, two.shape)
    rows, columns = (int(have if want is None else want) for want, have in zip((stimuli, units), common, strict=True))
    if not (1 <= rows <= common[0] and 1 <= columns <= common[1]):
        raise ValueError(f"cannot cut {one.shape} and {two.shape} to {rows} stimuli and {columns} units each")
    rng = np.random.default_rng(seed)
    row = _drawn(rng, len(one), rows)
    row_two = row if len(one) == len(two) else _drawn(rng, len(two), rows)
    column, column_two = _drawn(rng, one.shape[1], columns), _drawn(rng, two.shape[1], columns)
    return like(one[np.ix_(row, column)], first), like(two[np.ix_(row_two, column_two)], second)


def _projected(flat: Floats, components: int, rng: np.random.Generator) -> Floats:
    """Features through a sparse random matrix that keeps squared lengths on average, (stimuli, components).

    Entries are sums of random signs, on average 1 / sqrt(features) of them, so few entries are not 0.
    """
    from scipy.sparse import coo_array  # imported late: the rest of this file does without

    features = flat.shape[1]
    filled = int(rng.poisson(components * np.sqrt(features)))
    row, column = rng.integers(features, size=filled), rng.integers(components, size=filled)
    signs = rng.choice([-1.0, 1.0], size=filled) * features**0.25 / np.sqrt(components)
    return np.asarray(flat @ coo_array((signs, (row, column)), shape=(features, components)).tocsc())


def _patches(flat: Floats, rng: np.random.Generator) -> Iterator[Floats]:
    """The channels at one random position of every stimulus, flat (stimuli, channels, positions)."""
    for maps, position in zip(flat, rng.integers(flat.shape[2], size=len(flat)), strict=True):
        yield maps[:, position]


def pooled(maps: Array, how: str = "mean", components: int | None = None, seed: int = 0) -> Array:
    """Feature maps as responses, by one of four poolings; whether dimension rises with depth can hang on which.

    mean, max: over positions. patch: all channels at one position, drawn anew for every stimulus. flatten: every
    channel and position, in that order. More features than ``components`` are projected by a sparse random
    matrix of about sqrt(features) components entries +-features^(1/4) / sqrt(components), which keeps squared
    distances on average (relative deviation about sqrt(2 / components)).
    Shapes: maps (stimuli, channels, height, width) -> (stimuli, channels), for flatten (stimuli, channels x
    height x width), or (stimuli, components).
    Edge rule: NaN stay, and spread by projection; other axes, an empty map, an unknown name and components
    below 1 are ValueErrors.
    Source: ours, a reference design after section 2c' of the notes; sparse projection: Li, Hastie, Church 2006.

    >>> maps = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> pooled(maps).tolist(), pooled(maps, "max").tolist(), pooled(maps, "flatten").shape
    ([[1.5, 5.5]], [[3.0, 7.0]], (1, 8))
    """
    values = to_float(maps)
    if values.ndim != 4 or not values.size:
        raise ValueError(f"maps must be (stimuli, channels, height, width), none of them 0; got {values.shape}")
    if how not in POOLINGS:
        raise ValueError(f"how must be one of {', '.join(POOLINGS)}; got {how!r}")
    if components is not None and components < 1:
        raise ValueError(f"components must be 1 or more; got {components}")
    flat, rng = values.reshape(*values.shape[:2], -1), np.random.default_rng(seed)
    if how in ("mean", "max"):
        features = flat.mean(axis=2) if how == "mean" else flat.max(axis=2)
    else:
        features = np.stack(list(_patches(flat, rng))) if how == "patch" else flat.reshape(len(flat), -1)
    if components is not None and features.shape[1] > components:
        features = _projected(features, components, rng)
    return like(features, maps)
