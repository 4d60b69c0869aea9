"""What synthesised pictures achieve: gains in predicted activity, how specific, how varied, and what pictures they are.

Activity is the predicted mean of an area in units of its standard deviation over natural pictures, so that areas and
twins can be compared. All of it is what a twin predicts, not what a brain answers: the number to trust is the gain
under twins that the pictures were not made for.
"""

import numpy as np

from metrics._arrays import Array, Floats, like, mean_of_finite, same_shape, to_complete_matrix, to_float, to_matrix


def area_activity(predicted: Array, natural: Array) -> Array:
    """Predicted activity of an area in standard deviations over natural pictures; 0 is their mean.

    z_i = (a_i - mean(n)) / sd(n),  a_i and n the means of ``predicted`` and ``natural`` over the units that are
    predicted: those without a NaN or an infinity in either. The others count in no sum.
    Shapes: predicted (pictures, units), natural (stimuli, units), any unit of measure -> (pictures,).
    Edge rule: NaN where no unit is predicted, for fewer than two natural pictures, and where their activity is
    constant (spread below 1e-9 of its size).
    Source: ours; averaging over predicted units only, as advised for BrainDiVE (Luo et al. 2023) by its authors.

    >>> area_activity([[3.0, 5.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 2.0], [2.0, 4.0]]).round(3).tolist()
    [2.475, -0.707]
    """
    shown, reference = to_matrix(predicted, "predicted"), to_matrix(natural, "natural")
    if shown.shape[1] != reference.shape[1]:
        raise ValueError(
            f"predicted and natural must have the same units; got {shown.shape[1]} and {reference.shape[1]}"
        )
    units = np.isfinite(shown).all(axis=0) & np.isfinite(reference).all(axis=0)
    if not units.any() or len(reference) < 2:
        return like(np.full(len(shown), np.nan), predicted, natural)
    reached, baseline = shown[:, units].mean(axis=1), reference[:, units].mean(axis=1)
    spread = baseline.std()
    if spread <= 1e-9 * np.abs(baseline).max():
        return like(np.full(len(shown), np.nan), predicted, natural)
    return like((reached - baseline.mean()) / spread, predicted, natural)


def gain_over_best(activity: Array, natural: Array) -> float:
    """How far synthesised pictures exceed the best natural ones of the same number.

    gain = mean(activity) - mean of the largest len(activity) of natural.
    Shapes: activity (pictures,), natural (stimuli,), in standard deviations (``area_activity``) -> float.
    Edge rule: NaN activities are left out first; none left, or fewer natural ones than pictures, gives NaN.
    Source: ours.

    >>> gain_over_best([4.0, 3.0], [0.0, 2.0, 1.0, -3.0])
    2.0
    """
    reached, reference = _finite(activity), _finite(natural)
    if not len(reached) or len(reference) < len(reached):
        return float("nan")
    return float(reached.mean() - np.sort(reference)[-len(reached) :].mean())


def gain_over_unguided(guided: Array, unguided: Array) -> float:
    """How far guidance raises activity over the pictures that the same seeds give without it.

    gain = mean_i(guided_i - unguided_i).
    Shapes: guided, unguided (pictures,), the same seeds in the same order, in standard deviations -> float.
    Edge rule: a pair with a NaN is left out; none left gives NaN; different numbers of pictures are a ValueError.
    Source: ours.

    >>> gain_over_unguided([3.0, 1.0], [0.5, 0.5])
    1.5
    """
    first, second = to_float(guided), to_float(unguided)
    same_shape(first, second, "guided and unguided")
    return mean_of_finite(first - second)


def transfer_gain(guided: Array, unguided: Array) -> float:
    """The gain that is left under twins which the pictures were not made for, and which did not choose them.

    gain = mean over judging twins of ``gain_over_unguided``.
    Shapes: guided, unguided (twins, pictures), in each twin's own standard deviations -> float.
    Edge rule: pairs with a NaN are left out, and twins without any left; no twin gives NaN.
    Source: ours.

    >>> transfer_gain([[2.0, 1.0], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]])
    1.0
    """
    first, second = to_matrix(guided, "guided"), to_matrix(unguided, "unguided")
    same_shape(first, second, "guided and unguided")
    gains = [gain_over_unguided(*pair) for pair in zip(first, second, strict=True)]
    return mean_of_finite(np.array(gains, dtype=float))


def off_target_ratio(target: Array, others: Array) -> float:
    """How much pictures for one area drive the other areas too: 0 is as natural pictures do, 1 as much as the target.

    ratio = mean over other areas and pictures / mean over pictures of the target.
    Shapes: target (pictures,), others (areas, pictures), in each area's standard deviations -> float.
    Edge rule: NaN activities are left out; no other area, or a target that is not above 0, gives NaN.
    Source: ours.

    >>> off_target_ratio([4.0, 2.0], [[1.0, 2.0], [0.0, 0.0]])
    0.25
    """
    reached, beside = mean_of_finite(to_float(target)), mean_of_finite(to_matrix(others, "others"))
    return beside / reached if reached > 0 else float("nan")


def diversity(features: Array) -> float:
    """How much pictures differ: the mean Euclidean distance between two of them.

    d = mean_{i < j} |f_i - f_j|.
    Shapes: features (pictures, features), any unit of measure -> float in that unit.
    Edge rule: fewer than two pictures give NaN; a NaN or infinite feature is a ValueError.
    Source: ours.

    >>> diversity([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    3.3333333333333335
    """
    rows = to_complete_matrix(features, "features")
    if len(rows) < 2:
        return float("nan")
    first, second = np.triu_indices(len(rows), 1)
    distances = [np.linalg.norm(rows[i] - rows[j]) for i, j in zip(first, second, strict=True)]
    return float(np.mean(distances))


def rms_contrast(pictures: Array) -> Array:
    """Root mean square contrast of pictures.

    c = sqrt(mean over channels and pixels of (p - m_c)^2), m_c each channel's mean over pixels.
    Shapes: pictures (pictures, channels, height, width), in [0, 1] where contrasts are to be compared -> (pictures,).
    Edge rule: a uniform picture has 0, one with a NaN has NaN.
    Source: standard deviation of luminance (Peli 1990) for grey pictures; averaging over channels is ours.

    >>> rms_contrast([[[[0.0, 1.0], [1.0, 0.0]]], [[[0.5, 0.5], [0.5, 0.5]]]]).tolist()
    [0.5, 0.0]
    """
    shown = _pictures(pictures)
    centred = shown - shown.mean(axis=(2, 3), keepdims=True)
    return like(np.sqrt((centred**2).mean(axis=(1, 2, 3))), pictures)


def image_spectrum_slope(pictures: Array) -> Array:
    """How fast the power of pictures falls with spatial frequency; about -2 for natural pictures.

    Slope of log10 of the power, averaged over channels and over rings of frequencies, on log10 of the ring's
    frequency f = sqrt(f_x^2 + f_y^2) (its geometric mean). Rings are one cycle per longer side wide, from 1 cycle up to
    half a cycle a pixel; no window is applied, so that edges that do not meet add power of their own. The width of
    the rings makes steep spectra a little steeper (by 0.01 at -2, by 0.05 at -4 on 32 pixels).
    Shapes: pictures (pictures, channels, height, width), any unit -> (pictures,).
    Edge rule: a picture without power in some ring (such as a uniform one), or with a NaN, and sides below 8 pixels
    give NaN.
    Source: power spectra of natural images (Field 1987; Ruderman and Bialek 1994).

    >>> pictures = np.random.default_rng(0).normal(size=(1, 1, 64, 64))  # white: no slope
    >>> bool(abs(image_spectrum_slope(pictures)[0]) < 0.1)
    True
    """
    shown = _pictures(pictures)
    if min(shown.shape[2:]) < 8:
        return like(np.full(len(shown), np.nan), pictures)
    power = (np.abs(np.fft.fft2(shown)) ** 2).mean(axis=1)
    rings, frequencies = _rings(shown.shape[2], shown.shape[3])
    spectrum = np.stack([power[:, ring].mean(axis=1) for ring in rings], axis=1)
    total = power.sum(axis=(1, 2))[:, None]
    flat = ~(spectrum > 1e-20 * total).all(axis=1)
    logs = np.log10(np.where(flat[:, None], 1.0, spectrum))
    centred = np.log10(frequencies) - np.log10(frequencies).mean()
    return like(np.where(flat, np.nan, logs @ centred / (centred @ centred)), pictures)


def _rings(high: int, wide: int) -> tuple[list[np.ndarray], Floats]:
    """Masks (height, width) of the rings of frequencies, and each ring's geometric mean frequency."""
    f = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide)[None])
    cycles = np.rint(f * max(high, wide))
    rings = [(cycles == ring) & (f <= 0.5) for ring in range(1, max(high, wide) // 2 + 1)]
    rings = [ring for ring in rings if ring.any()]
    return rings, np.array([np.exp(np.log(f[ring]).mean()) for ring in rings])


def _finite(values: Array) -> Floats:
    numbers = to_float(values)
    if numbers.ndim != 1:
        raise ValueError(f"activities must be one number per picture, a vector; got shape {numbers.shape}")
    return numbers[~np.isnan(numbers)]


def _pictures(values: Array) -> Floats:
    shown = to_float(values)
    if shown.ndim != 4:
        raise ValueError(f"pictures must be (pictures, channels, height, width); got shape {shown.shape}")
    return shown
