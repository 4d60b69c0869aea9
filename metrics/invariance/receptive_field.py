"""Where a twin's units look: maps from noise frames, by a black box or by gradients, and a Gaussian fitted to each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from metrics._arrays import Array, Floats, is_tensor, like, to_complete_matrix, to_float

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

Predict: TypeAlias = Callable[[Array], Array]
Method: TypeAlias = Literal["noise", "gradient"]

HALF_WIDTH = 3**0.5
"""Noise is uniform between minus and plus this, so that it has mean 0 and variance 1, as a z-scored picture."""

FRAMES: dict[str, int] = {"noise": 500_000, "gradient": 1_000}
"""Default number of frames: the paper's for a black box, ours for gradients."""

START = 10.0
"""Standard deviation in pixels at which a fit starts, as in the paper."""

EVALUATIONS = 200
"""Evaluations of the Gaussian after which a fit is given up."""

EXPLAINED = 0.1
"""Share of a map's variance that a Gaussian must explain to count as a receptive field; ours, against pure noise."""

MAX_SIGMA = (14 / 36, 16 / 64)
"""Largest standard deviations as shares of height and width: the paper's 14 and 16 px of 36 x 64."""


def _noise(shape: tuple[int, ...], frames: int, batch: int, seed: int) -> Iterator[Floats]:
    """Batches of noise frames; the frames do not depend on the batch size."""
    rng = np.random.default_rng(seed)
    for start in range(0, frames, batch):
        yield rng.uniform(-HALF_WIDTH, HALF_WIDTH, (min(batch, frames - start), *shape))


def _answers(predict: Predict, frames: Array) -> tuple[Array, Floats]:
    """What ``predict`` says, as it came and as a complete matrix with a row per frame."""
    answer = predict(frames)
    rates = to_complete_matrix(answer, "rates")
    if len(rates) != len(frames):
        raise ValueError(f"predict must give (frames, units) for {len(frames)} frames; got {rates.shape}")
    return answer, rates


def _by_noise(predict: Predict, batches: Iterator[Floats]) -> tuple[Array, Floats]:
    """Covariance of every unit's rate with every pixel, (units, pixels), from running sums."""
    count = 0
    for frames in batches:
        answer, rates = _answers(predict, frames)
        if not count:
            first = rates[0]  # a constant unit is exactly 0 from here on
            product = np.zeros((rates.shape[1], frames[0].size))
            sums, pixels = np.zeros(rates.shape[1]), np.zeros(frames[0].size)
        rates, flat = rates - first, frames.reshape(len(frames), -1)
        product += rates.T @ flat
        sums, pixels, count = sums + rates.sum(axis=0), pixels + flat.sum(axis=0), count + len(frames)
    return answer, (product - np.outer(sums, pixels) / count) / (count - 1)


def _by_gradient(predict: Predict, batches: Iterator[Floats]) -> tuple[Array, Floats]:
    """The same covariance as a mean over frames of (3 - x^2) / 2 times d rate / d x, (units, pixels)."""
    import torch  # only for twins that are torch themselves

    count = 0
    for frames in batches:
        pixels = torch.tensor(frames, dtype=torch.float32, requires_grad=True)
        answer = predict(pixels)
        if not (is_tensor(answer) and answer.requires_grad):
            raise ValueError("method='gradient' needs a predict that torch can differentiate; take method='noise'")
        units = answer.shape[1]
        if not count:
            total = np.zeros((units, frames[0].size))
        weight = torch.from_numpy((HALF_WIDTH**2 - frames**2) / 2)
        for unit in range(units):
            (slope,) = torch.autograd.grad(answer[:, unit].sum(), pixels, retain_graph=unit + 1 < units)
            total[unit] += (slope * weight).sum(0).ravel().numpy()
        count += len(frames)
    return answer.detach(), total / count


def _check(shape: tuple[int, ...], frames: int, batch: int, method: str) -> None:
    """A ValueError unless noise of that shape can be shown."""
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"shape must be (height, width) or (channels, height, width); got {shape}")
    if method not in FRAMES:
        raise ValueError(f"method must be one of {sorted(FRAMES)}; got {method!r}")
    if frames < 2 or batch < 1:
        raise ValueError(f"at least 2 frames in batches of at least 1 are needed; got {frames} and {batch}")


def _black_box(predict: Predict) -> Predict:
    """``predict``, and for a torch module one that turns frames into float32 tensors and keeps no gradients."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(predict, torch.nn.Module):
        return predict

    def ask(frames: Array) -> Array:
        with torch.no_grad():
            return predict(torch.tensor(frames, dtype=torch.float32))

    return ask


def receptive_fields(
    predict: Predict,
    shape: tuple[int, ...],
    frames: int | None = None,
    batch: int = 250,
    method: Method = "noise",
    seed: int = 0,
) -> Array:
    """The first-order receptive field of every unit: how its rate follows each pixel of uniform white noise.

    RF_n(p) = cov_i(rate_n(x_i), x_i(p)) over noise frames x_i of mean 0 and variance 1, in rate per standard
    deviation of the pixel. The paper sums rate_n(x_i) x_i, which is F times this plus (sum of rates) x (mean
    frame); that term is flat in expectation but adds noise in proportion to the mean rate, so it is taken out.
    ``method="gradient"`` gives the same from a differentiable predict, as the mean of tau(x(p)) d rate_n / d x(p)
    with tau(x) = (3 - x^2) / 2: Stein's identity for uniform noise, by partial integration (for Gaussian noise
    tau = 1). It has no noise at pixels that a unit does not see, so far fewer frames do.
    Shapes: ``predict`` maps frames (batch, *shape) to rates (batch, units), shape is (height, width) or
    (channels, height, width) -> (units, *shape), in the kind of predict's answer. Frames are float64 arrays,
    or float32 tensors on the CPU if ``predict`` is a torch module or ``method`` is "gradient"; wrap predict to
    move, rescale or repeat them as a clip. None as ``frames`` means ``FRAMES``. Never more than a batch is held.
    Edge rule: a constant unit has a map of zeros, and so, up to noise, has one that sees contrast only (an even
    function of its input); a module must be in evaluation mode; NaN rates are a ValueError.
    Source: reverse correlation as in Luconi et al. 2025 (``frames`` 500,000); gradients by Stein 1981.

    >>> eye = receptive_fields(lambda x: 3 * x[:, 0, 1, None], (2, 2), frames=4000)
    >>> bool(np.abs(eye - [[0, 3], [0, 0]]).max() < 0.2)
    True
    """
    count = FRAMES.get(method, 2) if frames is None else frames
    _check(shape, count, batch, method)
    batches = _noise(shape, count, batch, seed)
    answer, maps = _by_noise(_black_box(predict), batches) if method == "noise" else _by_gradient(predict, batches)
    return like(maps.reshape(len(maps), *shape), answer)


@dataclass(frozen=True)
class ReceptiveField:
    """A rotated Gaussian fitted to a map, lengths in pixels.

    area: pi sigma sigma times the area of a pixel, NaN where ``reason`` says why the fit does not count.
    centre: row, column. sigmas: along the axis nearer to the columns (height), then to the rows (width).
    angle: in radians, from the row axis towards higher rows, in [-pi/4, pi/4]. explained: share of the map's
    variance. All but reason are NaN where nothing could be fitted.
    """

    area: float
    centre: tuple[float, float]
    sigmas: tuple[float, float]
    angle: float
    explained: float
    reason: str = ""


def _strength(field: Floats, smoothing: float, subtract_mean: bool) -> Floats:
    """Smoothed map, less its mean if asked, as absolute value (the norm over channels), (height, width)."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(field[None] if field.ndim == 2 else field, (0, smoothing, smoothing))
    if subtract_mean:
        smooth = smooth - smooth.mean(axis=(1, 2), keepdims=True)
    return np.asarray(np.sqrt((smooth**2).sum(axis=0)))


def _gaussian(parameters: Floats, rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """A exp(-u^2 / 2 sx^2 - v^2 / 2 sy^2), (u, v) turned by the angle from (column, row), and its derivatives."""
    amplitude, row, column, tall, wide, angle = parameters
    x, y, cosine, sine = columns - column, rows - row, np.cos(angle), np.sin(angle)
    along, across = (x * cosine + y * sine) / wide, (y * cosine - x * sine) / tall
    shape = np.exp(-(along**2 + across**2) / 2)
    slopes = [
        along * sine / wide + across * cosine / tall,
        along * cosine / wide - across * sine / tall,
        across**2 / tall,
        along**2 / wide,
        along * across * (wide / tall - tall / wide),
    ]
    return amplitude * shape, np.stack([shape, *(amplitude * shape * slope for slope in slopes)], axis=1)


def _upright(tall: float, wide: float, angle: float) -> tuple[float, float, float]:
    """The same ellipse with its angle in [-pi/4, pi/4], so that each sigma has its own axis."""
    quarter = round(angle / (np.pi / 2))
    tall, wide = (wide, tall) if quarter % 2 else (tall, wide)
    return abs(tall), abs(wide), angle - quarter * np.pi / 2


def _fit(image: Floats) -> OptimizeResult:
    """Least squares, from the maximum of ``image``, which is 1, and its place."""
    from scipy.optimize import least_squares

    rows, columns = (place.ravel().astype(np.float64) for place in np.indices(image.shape))
    peak = np.unravel_index(np.argmax(image), image.shape)
    return least_squares(
        lambda parameters: _gaussian(parameters, rows, columns)[0] - image.ravel(),
        [1.0, *peak, START, START, 0.0],
        jac=lambda parameters: _gaussian(parameters, rows, columns)[1],
        method="lm",
        max_nfev=EVALUATIONS,
    )


def _verdict(shape: tuple[int, ...], field: ReceptiveField, max_sigma: tuple[float, float]) -> str:
    """Why a fit does not count; empty if it does."""
    if field.explained < EXPLAINED:
        return f"a Gaussian explains {field.explained:.0%} of the map"
    if not all(0 <= place <= side - 1 for place, side in zip(field.centre, shape, strict=True)):
        return "the centre is outside the frame"
    if any(sigma > most * side for sigma, most, side in zip(field.sigmas, max_sigma, shape, strict=True)):
        return "the field is larger than max_sigma"
    return ""


def fit_receptive_field(
    field: Array,
    smoothing: float = 1.0,
    pixel_area: float = 1.0,
    max_sigma: tuple[float, float] = MAX_SIGMA,
    subtract_mean: bool = True,
) -> ReceptiveField:
    """A rotated 2-D Gaussian, fitted by least squares to the absolute value of a smoothed map.

    The map is smoothed (Gaussian, ``smoothing`` pixels), its mean subtracted, the absolute value taken (over
    channels the norm), and A exp(-u^2 / 2 sx^2 - v^2 / 2 sy^2) fitted, (u, v) turned by an angle.
    area = pi sx sy ``pixel_area``, smoothing included: sigma^2 grows by smoothing^2.
    ``subtract_mean``: the paper's maps need it, ours are centred already. It makes the area of a field of one
    sign too small, by 8, 20 and 27 % for sigmas of 3, 6 and 9 px in 36 x 64, and leaves fields with flanks of
    both signs as they are; False avoids that, True compares with published areas.
    Shapes: field (height, width) or (channels, height, width), any unit -> ``ReceptiveField``.
    Edge rule: the area is NaN, with the reason, for a flat map, a fit that does not converge or explains less
    than ``EXPLAINED``, a centre outside the frame and sigmas above ``max_sigma`` (shares of height and width).
    The fit has no constant, so noise of too few frames, positive in |map|, hides small fields or widens them.
    A map with NaN, fewer than 6 pixels or any other number of axes is a ValueError.
    Source: Luconi et al. 2025, pixel_area 3.36^2 deg^2 there; its fit starts at the middle of the frame and has
    no ``EXPLAINED``.

    >>> y, x = np.indices((36, 64))
    >>> bump = np.exp(-((x - 30) ** 2 + (y - 15) ** 2) / 2 / 3**2)
    >>> field = fit_receptive_field(bump, smoothing=0, subtract_mean=False)
    >>> [round(float(number), 3) for number in (field.area / np.pi, *field.centre)]
    [9.0, 15.0, 30.0]
    """
    values = to_float(field)
    if values.ndim not in (2, 3) or np.prod(values.shape[-2:]) < 6 or not np.isfinite(values).all():
        raise ValueError(f"field must be a finite (height, width) map of at least 6 pixels; got shape {values.shape}")
    image = _strength(values, smoothing, subtract_mean)
    peak = float(image.max())
    if np.ptp(image) <= 1e-12 * np.abs(values).max():
        return ReceptiveField(np.nan, (np.nan, np.nan), (np.nan, np.nan), np.nan, np.nan, "the map is flat")
    fit = _fit(image / peak)
    rest = float((fit.fun**2).sum() / ((image - image.mean()) ** 2).sum() * peak**2)
    tall, wide, angle = _upright(*(float(number) for number in fit.x[3:]))
    ellipse = ReceptiveField(
        np.pi * tall * wide * pixel_area, (float(fit.x[1]), float(fit.x[2])), (tall, wide), angle, 1 - rest
    )
    reason = _verdict(image.shape, ellipse, max_sigma) if fit.status > 0 else "the fit did not converge"
    return replace(ellipse, area=np.nan, reason=reason) if reason else ellipse


def receptive_field_area(
    predict: Predict,
    shape: tuple[int, ...],
    frames: int | None = None,
    batch: int = 250,
    method: Method = "noise",
    smoothing: float = 1.0,
    pixel_area: float = 1.0,
    max_sigma: tuple[float, float] = MAX_SIGMA,
    subtract_mean: bool = True,
    reliable: Array | None = None,
    seed: int = 0,
) -> Array:
    """Area of every unit's receptive field, from noise frames shown to a twin.

    ``receptive_fields`` and then ``fit_receptive_field`` for each unit; see there for formula and keywords.
    Shapes: predict (batch, *shape) -> (batch, units); reliable (units,) truth values -> (units,) areas in
    ``pixel_area`` (square pixels, or the squared degrees of one pixel).
    Edge rule: NaN where ``reliable`` is false (the paper: correlation to average of at least 0.35) or a field
    does not count; ``fit_receptive_field`` tells why. Averaging over units is the caller's: the paper's text
    takes the mean over all, its code the median per session.
    Source: Luconi et al. 2025, without behaviour input, each frame held as a static clip.

    >>> y, x = np.indices((24, 32))
    >>> weights = np.exp(-((x - 16) ** 2 + (y - 12) ** 2) / 2 / 3**2).ravel()
    >>> area = receptive_field_area(lambda frames: frames.reshape(len(frames), -1) @ weights[:, None], (24, 32), 9000)
    >>> bool(0.85 < area[0] / (np.pi * (3**2 + 1)) < 1.15)
    True
    """
    maps = receptive_fields(predict, shape, frames, batch, method, seed)
    usable = np.ones(len(maps), bool) if reliable is None else to_float(reliable).ravel() > 0
    if len(usable) != len(maps):
        raise ValueError(f"reliable must have one entry per unit; got {len(usable)} for {len(maps)} units")
    areas = np.full(len(maps), np.nan)
    for unit in np.flatnonzero(usable):
        areas[unit] = fit_receptive_field(maps[unit], smoothing, pixel_area, max_sigma, subtract_mean).area
    return like(areas, maps)
