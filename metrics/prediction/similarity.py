"""Representational similarity: which stimuli are alike to a population, and whether two populations agree on that.

Every matrix here holds *dissimilarities*, 1 - r. Stored data of the field mix them with correlations r, which turns
the sign of a comparison round; ``rsa`` of one with the other is negative.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, of_single_precision, to_complete_matrix, to_float
from metrics._statistics import pearson, tied_ranks

FLAT = 1e-12
"""A pattern whose deviations are below this share of its largest entry is constant."""

ROUNDINGS = 4
"""How many roundings of its type a number may be off by; patterns that differ by no more are equal."""

PIECE = 2**20
"""Numbers of differences that are held at once."""

FEWEST_PAIRS = 3
"""A correlation over fewer pairs of stimuli than this is not defined here."""


def rdm(responses: Array, distance: str = "correlation") -> Array:
    """Dissimilarity of every two stimuli to a population: a representational dissimilarity matrix (RDM).

    "correlation": d_ij = 1 - r_ij, r the Pearson correlation of the patterns of i and j over units;
    "euclidean": d_ij = sum_u (x_iu - x_ju)^2 / U, the squared distance per unit, in squared response units.
    Shapes: responses (stimuli, units) -> (stimuli, stimuli), symmetric, 0 on the diagonal, correlation in [0, 2].
    Edge rule: "correlation" of a pattern that is constant over units, or of a single unit, is NaN throughout, its
    diagonal included; with two units it is 0 or 2. A distance that rounding can make is exactly 0 (patterns that are
    collinear, or equal), and a correlation of -1 exactly 2: by 4 roundings of a sum over units, or of the responses'
    own type, float32 where it holds all of them. NaN or infinite responses are ValueErrors.
    Source: Kriegeskorte, Mur and Bandettini 2008; rsatoolbox.

    >>> rdm([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 4.0, 6.0]]).round(6).tolist()
    [[0.0, 2.0, 0.0], [2.0, 0.0, 2.0], [0.0, 2.0, 0.0]]
    """
    patterns = to_complete_matrix(responses, "responses")
    if distance not in ("correlation", "euclidean"):
        raise ValueError(f"distance must be 'correlation' or 'euclidean'; got {distance!r}")
    distances = _squared_distances(patterns) if distance == "euclidean" else _angles(patterns)
    np.fill_diagonal(distances, np.where(np.isnan(distances.diagonal()), np.nan, 0.0))
    return like(distances, responses)


def _rounding(patterns: Floats) -> float:
    """How far a response may be off, as a share of it."""
    return ROUNDINGS * float(np.finfo(np.float32 if of_single_precision(patterns) else np.float64).eps)


def _squared_distances(patterns: Floats) -> Floats:
    """Squared distances per unit; where the product leaves only rounding, from differences, 0 below rounding."""
    squares, units = (patterns**2).sum(axis=1), max(patterns.shape[1], 1)
    size = squares[:, None] + squares
    distances = np.maximum(size - 2 * patterns @ patterns.T, 0.0)
    close = np.flatnonzero(distances <= ROUNDINGS * (units + 4) * float(np.finfo(np.float64).eps) * size)
    step, limit = max(1, PIECE // units), _rounding(patterns) ** 2
    for part in (close[start : start + step] for start in range(0, len(close), step)):
        first, second = np.divmod(part, len(patterns))
        exact = ((patterns[first] - patterns[second]) ** 2).sum(axis=1)
        distances.flat[part] = np.where(exact <= limit * size[first, second], 0.0, exact)
    return np.asarray(distances / units)


def _angles(patterns: Floats) -> Floats:
    """1 - r of every two patterns, exactly 0 or 2 where rounding cannot tell r from 1 or -1."""
    unit, offset = _unit_patterns(patterns)
    correlation = np.clip(unit @ unit.T, -1, 1)
    summing = ROUNDINGS * (patterns.shape[1] + 4) * float(np.finfo(np.float64).eps)
    error = _rounding(patterns) * offset
    limit = summing + error[:, None] ** 2 + error**2
    distances = np.where(1 - correlation <= limit, 0.0, 1 - correlation)
    return np.where(1 + correlation <= limit, 2.0, distances)


def _unit_patterns(patterns: Floats) -> tuple[Floats, Floats]:
    """Patterns centred over units and of length 1, NaN where constant; and how much longer the raw ones are."""
    deviation = patterns - patterns.mean(axis=1, keepdims=True)
    largest = np.abs(patterns).max(axis=1, initial=0.0)
    varies = np.abs(deviation).max(axis=1, initial=0.0) > FLAT * largest
    lengths = np.where(varies, np.linalg.norm(deviation, axis=1), np.nan)
    return deviation / lengths[:, None], np.linalg.norm(patterns, axis=1) / lengths


def rsa(first: Array, second: Array, compare: str = "pearson") -> float:
    """How well two RDMs agree: the correlation of their entries above the diagonal.

    r = corr over pairs i < j of a_ij and b_ij, Pearson or ("spearman") of their ranks.
    Shapes: first, second (stimuli, stimuli) RDMs of the same stimuli in the same order -> float in [-1, 1].
    Edge rule: pairs that are NaN in either are left out; fewer than 3 pairs, or equal entries throughout, give NaN,
    never 0; entries that differ by 1e-12 of the largest or less have one rank. Other shapes are ValueErrors.
    Source: Pearson as in the mouse comparison of Conwell et al. 2021, Spearman as in Brain-Score.

    >>> first = rdm([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 2.0]])
    >>> round(rsa(first, 2 * first), 6), round(rsa(first, 1 - first), 6)
    (1.0, -1.0)
    """
    a, b = _pairs(first, "first"), _pairs(second, "second")
    if a.shape != b.shape:
        raise ValueError(f"both RDMs must be of the same stimuli; got {a.shape[0]} and {b.shape[0]} pairs")
    if compare not in ("pearson", "spearman"):
        raise ValueError(f"compare must be 'pearson' or 'spearman'; got {compare!r}")
    complete = np.isfinite(a) & np.isfinite(b)
    a, b = a[complete], b[complete]
    if compare == "spearman":
        a, b = tied_ranks(a), tied_ranks(b)
    return _correlation(a, b)


def rsr(target: Array, predictors: Array, folds: int = 6) -> float:
    """Representational similarity regression: an RDM predicted as a sum of others, for stimuli that are held out.

    d_ij = b + sum_l w_l d^l_ij with w_l >= 0, fitted by least squares to the pairs of which neither stimulus is in the
    fold; every pair with a stimulus in the fold is predicted, a pair of two folds by the mean of both predictions;
    r = corr over pairs i < j of prediction and target.
    Shapes: target (stimuli, stimuli), predictors (layers, stimuli, stimuli) -> float in [-1, 1]. Folds are contiguous.
    Layers that say nothing give r a little below 0: a fold with large distances is predicted from the others' mean.
    Edge rule: pairs that are NaN in any RDM are left out; fewer than 3 pairs in a fit, or a constant side, give NaN.
    Other shapes, and a number of folds that is below 2 or above that of the stimuli, are ValueErrors.
    Source: Conwell et al. 2021 (released code), with scikit-learn's non-negative regression.

    >>> random = np.random.default_rng(0)
    >>> layers = np.stack([rdm(random.normal(size=(12, 5))) for _ in range(2)])
    >>> round(rsr(0.2 + 0.5 * layers[0] + 2 * layers[1], layers), 6)
    1.0
    """
    values = to_float(predictors)
    if values.ndim != 3:
        raise ValueError(f"predictors must be (layers, stimuli, stimuli); got shape {values.shape}")
    observed = _pairs(target, "target")
    layers = np.stack([_pairs(layer, "a predictor") for layer in values], axis=1)
    if len(layers) != len(observed):
        raise ValueError(f"all RDMs must be of the same stimuli; got {len(observed)} and {len(layers)} pairs")
    stimuli = values.shape[1]
    if not 2 <= folds <= stimuli:
        raise ValueError(f"folds must be from 2 up to the {stimuli} stimuli; got {folds}")
    predicted = _held_out(observed, layers, stimuli, folds)
    return _correlation(predicted, np.where(np.isnan(predicted), np.nan, observed))


def _held_out(observed: Floats, layers: Floats, stimuli: int, folds: int) -> Floats:
    """Mean prediction of every pair over the folds that hold one of its stimuli; NaN where there is none."""
    rows, columns = np.triu_indices(stimuli, 1)
    member = np.repeat(np.arange(folds), [len(part) for part in np.array_split(np.arange(stimuli), folds)])
    usable = np.isfinite(observed) & np.isfinite(layers).all(axis=1)
    total, count = np.zeros(len(observed)), np.zeros(len(observed))
    for fold in range(folds):
        test = (member[rows] == fold) | (member[columns] == fold)
        if (usable & ~test).sum() < FEWEST_PAIRS:
            return np.full(len(observed), np.nan)
        total[test] += _non_negative(layers[usable & ~test], observed[usable & ~test], layers[test])
        count[test] += 1
    return np.where(usable, total / count, np.nan)


def _non_negative(layers: Floats, observed: Floats, shown: Floats) -> Floats:
    """Prediction at ``shown`` of a least-squares fit with an intercept and weights of at least 0."""
    from scipy.optimize import nnls

    centre, mean = layers.mean(axis=0), observed.mean()
    varied = np.abs(layers - centre).max(axis=0) > FLAT * np.abs(layers).max(axis=0)
    weights, _ = nnls(np.where(varied, layers - centre, 0.0), observed - mean)
    return np.asarray(mean + (shown - centre) @ weights, dtype=np.float64)


def _pairs(matrix: Array, name: str) -> Floats:
    """Entries above the diagonal of a square matrix, row by row."""
    values = to_float(matrix)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"{name} must be (stimuli, stimuli); got shape {values.shape}")
    upper: NDArray[Any] = values[np.triu_indices(len(values), 1)]
    return upper


def _correlation(first: Floats, second: Floats) -> float:
    if np.isfinite(first).sum() < FEWEST_PAIRS:
        return float("nan")
    return float(pearson(first[:, None], second[:, None])[0])
