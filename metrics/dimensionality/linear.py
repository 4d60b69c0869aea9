"""How many dimensions a population uses, linearly: from the spectrum of its covariance.

Biased by the numbers of stimuli and units: compare only equal numbers of both. Noise raises every measure of
single responses; the cross-validated ones use two halves of the repeats, whose noise is independent.
"""

import numpy as np

from metrics._arrays import Array, Floats, like, same_shape, to_complete_matrix, to_float

RANKS = (11, 500)
"""First and last rank of the power-law fit, those of Stringer et al. 2019."""


def centred(responses: Array) -> Floats:
    """Responses less their mean over stimuli, scaled to a peak of 1; all zero when constant."""
    matrix = to_complete_matrix(responses, "responses")
    if not matrix.size:
        return matrix
    matrix = matrix / (max(matrix.max(), -matrix.min()) or 1.0)
    matrix -= matrix.mean(axis=0)
    peak = max(matrix.max(), -matrix.min())
    if peak <= 1e-12:
        return np.zeros_like(matrix)
    matrix /= peak
    return matrix


def participation_ratio(responses: Array) -> float:
    """Linear dimensionality: how many principal axes carry the variance, were it shared evenly.

    PR = (sum_k l_k)^2 / sum_k l_k^2 over the eigenvalues of the covariance, computed as trace^2 / squared
    norm of the smaller of Gram matrix and covariance, without an eigendecomposition.
    Shapes: responses (stimuli, units), any unit of measure -> float in [1, min(stimuli - 1, units)].
    Edge rule: constant data or a single stimulus give NaN; NaN or infinite responses are a ValueError.
    Biased: isotropic data of D units give about n D / (n + D).
    Source: effective dimensionality of Elmoznino and Bonner 2024; Gao et al. 2017.

    >>> participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    2.0
    """
    matrix = centred(responses)
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    norm = float((product**2).sum())
    return float(np.trace(product) ** 2 / norm) if norm > 0 else float("nan")


def _halves(half_a: Array, half_b: Array) -> tuple[Floats, Floats, float]:
    """Two halves less their means over stimuli, in units of their common peak, and that peak; all zero when constant.

    >>> _halves([[0.0], [4.0]], [[0.0], [0.0]])[0].tolist()
    [[-1.0], [1.0]]
    """
    first, second = to_complete_matrix(half_a, "half_a"), to_complete_matrix(half_b, "half_b")
    same_shape(first, second, "half_a and half_b")
    both = np.stack([first, second])
    largest = np.abs(both).max(initial=0.0) or 1.0
    both = both / largest
    both = both - both.mean(axis=1, keepdims=True) if both.size else both
    peak = np.abs(both).max(initial=0.0)
    both = both / peak if peak > 1e-12 else np.zeros_like(both)
    return both[0], both[1], float(largest * peak)


def _squared_sums(first: Floats, second: Floats) -> tuple[float, float]:
    """sum_ij (a_i a_j)(b_i b_j) and sum_ij (a_i b_j)^2 over stimuli i, j, by the smaller of the equal products."""
    if first.shape[0] < first.shape[1]:
        return float(((first @ first.T) * (second @ second.T)).sum()), float(((first @ second.T) ** 2).sum())
    return float(((first.T @ second) ** 2).sum()), float(((first.T @ first) * (second.T @ second)).sum())


def cross_validated_participation_ratio(half_a: Array, half_b: Array) -> float:
    """Participation ratio of the signal alone, from two halves of the repeats whose noise is independent.

    With a_i, b_i the centred responses of the halves to stimulus i, tr = sum_i a_i b_i and
    C = sym(A^T B) / (n - 1), tr C = tr / (n - 1) is free of noise bias, but |C|^2 is not: the norm of chance
    correlations adds to it. In |A^T B|^2 = sum_ij (a_i a_j)(b_i b_j) only the terms i = j carry that bias. So
    PR = (tr^2 - v) / (P + sum_i (a_i b_i)^2 - v),  P = sum_{i != j} (a_i a_j + c_a)(b_i b_j + c_b),
    v = (sum_{i != j} (a_i b_j)^2 - P) / (n - 1), which is the noise variance of tr, and of the n terms i = j,
    c_a = (sum_i a_i a_i - tr) / (n (n - 1)) and c_b alike, which undo the centring of the noise.
    Shapes: half_a, half_b (stimuli, units), one unit of measure -> float; ``participation_ratio`` when both are
    equal, and about 1 or more otherwise.
    Edge rule: a trace or a squared norm that is not positive (no signal above the noise), constant data and
    fewer than three stimuli give NaN; NaN or infinite responses are a ValueError.
    Remaining bias: top and bottom are unbiased for noise that is independent between halves and stimuli and of
    one covariance for all stimuli; their ratio, and noise that depends on the stimulus, leave terms of order
    1 / stimuli. Noise that drifts over stimuli within both halves counts as signal. The bias of few stimuli
    and units stays, as in ``participation_ratio``.
    Source: ours; the idea of cross-validated PCA (Stringer et al. 2019) with unbiased squared norms.

    >>> rng = np.random.default_rng(0)
    >>> signal = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 200))
    >>> halves = [signal + 5 * rng.normal(size=signal.shape) for _ in range(2)]
    >>> round(participation_ratio(halves[0])), round(cross_validated_participation_ratio(*halves))
    (90, 3)
    """
    first, second, _ = _halves(half_a, half_b)
    stimuli = len(first)
    if stimuli < 3:
        return float("nan")
    own_a, own_b, shared = (first**2).sum(axis=1), (second**2).sum(axis=1), (first * second).sum(axis=1)
    trace, within_a, within_b = float(shared.sum()), float(own_a.sum()), float(own_b.sum())
    product, crossed = _squared_sums(first, second)
    pairs = stimuli * (stimuli - 1)
    shift_a, shift_b = (within_a - trace) / pairs, (within_b - trace) / pairs
    apart = product - float(own_a @ own_b) - shift_a * within_b - shift_b * within_a + pairs * shift_a * shift_b
    same = float(shared @ shared)
    noise = (crossed - same - apart) / (stimuli - 1)
    top, bottom = trace**2 - noise, apart + same - noise
    return float(top / bottom) if trace > 0 and top > 0 and bottom > 0 else float("nan")


def cross_validated_spectrum(half_a: Array, half_b: Array) -> Array:
    """Eigenspectrum of the signal: variance along the principal axes of one half that the other half shares.

    l_k = (A u_k) (B u_k) / (n - 1), u_k the k-th principal axis of the centred half A, B the other half.
    Shapes: half_a, half_b (stimuli, units) -> (min(stimuli - 1, units),) in squared response units, in the
    order of half A's own variances; entries can be negative, and they add up to the trace of A^T B / (n - 1).
    Edge rule: a single stimulus gives an empty spectrum; NaN or infinite responses are a ValueError.
    Remaining bias: noise tilts the axes of A, so the leading entries are too low and later ones too high.
    Source: cross-validated PCA, Stringer et al. 2019.

    >>> half = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    >>> cross_validated_spectrum(half, 2 * half).round(3).tolist()
    [1.333, 0.333]
    """
    first, second, scale = _halves(half_a, half_b)
    stimuli, units = first.shape
    wide = stimuli < units
    own = first @ first.T if wide else first.T @ first
    crossed = second @ first.T if wide else first.T @ second
    axes = np.linalg.eigh(own)[1][:, ::-1][:, : max(min(stimuli - 1, units), 0)]
    shared = (axes * (crossed @ axes)).sum(axis=0) / max(stimuli - 1, 1)
    return like(shared * scale**2, half_a, half_b)


def _spectrum(responses: Array) -> Floats:
    """Eigenvalues of the covariance in falling order, on a free scale; those that are rounding noise are 0."""
    matrix = centred(responses)
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    values = np.linalg.eigvalsh(product)[::-1]
    floor = max(matrix.shape) * np.finfo(np.float64).eps * values.max(initial=0.0)
    return np.where(values > floor, values, 0.0)


def power_law_exponent(spectrum: Array, low: int = RANKS[0], high: int = RANKS[1]) -> float:
    """Exponent alpha of a spectrum l_k ~ k^-alpha: minus the log-log slope, above 0 when the spectrum falls.

    Weighted least squares of ln l_k on ln k over the ranks ``low`` to ``high``, both included and counted from 1,
    with weights 1 / k, so that every octave counts alike.
    Shapes: spectrum (components,) in falling order, any unit of measure -> float.
    Edge rule: ``high`` is cut to the number of components; fewer than three ranks, or an entry in the range that
    is not positive, give NaN; a range that is not 1 <= low < high is a ValueError.
    Source: the fit of Stringer et al. 2019, which takes the absolute value of negative entries.

    >>> round(power_law_exponent(np.arange(1.0, 101.0) ** -1.5), 6)
    1.5
    """
    if not 1 <= low < high:
        raise ValueError(f"ranks must satisfy 1 <= low < high; got low {low} and high {high}")
    values = to_float(spectrum).ravel()[low - 1 : high]
    if len(values) < 3 or not (values > 0).all():
        return float("nan")
    rank = np.arange(low, low + len(values))
    slope = np.polyfit(np.log(rank), np.log(values), 1, w=np.sqrt(1 / rank))[0]
    return float(-slope)


def spectrum_slope(responses: Array, low: int = RANKS[0], high: int = RANKS[1]) -> float:
    """Power-law exponent alpha of the eigenspectrum, l_k ~ k^-alpha: large is low-dimensional.

    ``power_law_exponent`` of the eigenvalues of the covariance that are above rounding noise.
    Shapes: responses (stimuli, units), any unit of measure -> float, above 0.
    Edge rule: ``high`` is cut to the rank of the data; fewer than three ranks from ``low`` on give NaN; NaN or
    infinite responses are a ValueError. The last ranks before min(stimuli, units) fall too steeply, and noise
    flattens the tail: set ``high`` well below both, and use ``cross_validated_spectrum`` where repeats exist.
    Source: Stringer et al. 2019 (ranks 11 to 500); Elmoznino and Bonner 2024.

    >>> axes = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 50)) - 0.5)[0]
    >>> round(spectrum_slope((axes - axes.mean(axis=0)) * np.arange(1.0, 51.0) ** -0.5, low=2, high=40), 1)
    1.0
    """
    values = _spectrum(responses)
    return power_law_exponent(values[values > 0], low, high)


def components_for_variance(responses: Array, share: float = 0.8) -> float:
    """Linear dimensionality: how many principal components hold a share of the variance.

    The smallest k with sum_{j <= k} l_j >= share sum_j l_j.
    Shapes: responses (stimuli, units), any unit of measure -> whole float in [1, min(stimuli - 1, units)].
    Edge rule: constant data or a single stimulus give NaN; a share outside (0, 1] and NaN or infinite responses
    are ValueErrors.
    Source: the components for 80 % of the variance of Elmoznino and Bonner 2024.

    >>> components_for_variance([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]], share=0.9)
    1.0
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1]; got {share}")
    values = _spectrum(responses)
    total = np.cumsum(values)
    if not len(values) or total[-1] <= 0:
        return float("nan")
    reached = np.searchsorted(total, share * total[-1] * (1 - 1e-12))
    return float(reached + 1)
