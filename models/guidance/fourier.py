"""Synthesis without a generator: gradient ascent on the Fourier coefficients of pictures, for any twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.guidance.objective import Objective
from models.guidance.pictures import Synthesis, presented

COLOUR = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))
"""Square root of the covariance of red, green and blue over natural pictures, as in lucid; divided by its largest
column norm in use."""


@dataclass(frozen=True)
class FourierSettings:
    """Adam's `steps` and `learning_rate`, and what a picture is made of its coefficients.

    `jitter`: every step sees every picture moved around its edges by up to so many pixels each way. `contrast_cap`: an
    RMS contrast that is not exceeded (see `capped`), for areas that contrast alone drives. `decorrelated`: coefficients
    are of colour axes that are uncorrelated in natural pictures, else of red, green and blue. `grey`: pictures
    without colour, for recordings of such. `start`: standard deviation over pixels of the noise that pictures start
    from, before the sigmoid.
    """

    steps: int = 128
    learning_rate: float = 0.05
    jitter: int = 0
    contrast_cap: float | None = None
    decorrelated: bool = True
    grey: bool = False
    start: float = 1.0


def ascend(
    objective: Objective,
    seeds: Sequence[int],
    shape: tuple[int, int],
    settings: FourierSettings,
    device: torch.device | str = "cpu",
) -> Synthesis:
    """Pictures (seeds, 3, *shape) that drive `objective`, one from every seed; 0 steps give the starts themselves.

    Adam climbs the objective of picture_of(coefficients) from `start_of(seed)`. A picture depends on its own seed,
    not on the others. `trace` (steps + 1, seeds) holds the objective at every step as seen, jitter and all, and last
    that of the pictures which are returned.
    """
    random = [torch.Generator().manual_seed(seed) for seed in seeds]
    started = torch.stack([start_of(generator, shape) for generator in random])
    coefficients = started.to(device).requires_grad_(True)
    optimizer = torch.optim.Adam([coefficients], lr=settings.learning_rate)
    trace = []
    for _ in range(settings.steps):
        optimizer.zero_grad(set_to_none=True)
        values = objective(moved(picture_of(coefficients, shape, settings), settings.jitter, random))
        (-values.sum()).backward()
        _check_finite(coefficients)
        optimizer.step()
        trace.append(values.detach())
    with torch.no_grad():
        pictures = picture_of(coefficients, shape, settings)
        trace.append(objective(pictures))
    return Synthesis(pictures, torch.stack(trace))


def start_of(random: torch.Generator, shape: tuple[int, int]) -> Tensor:
    """Standard normal coefficients (3, h, w // 2 + 1, 2), real and imaginary parts last."""
    high, wide = shape
    return torch.randn(3, high, wide // 2 + 1, 2, generator=random)


def picture_of(coefficients: Tensor, shape: tuple[int, int], settings: FourierSettings) -> Tensor:
    """Pictures (n, 3, *shape) of coefficients (n, 3, h, w // 2 + 1, 2).

        picture = presented(sigmoid(colour . irfft2(coefficients * spectrum)))

    Every coefficient moves the whole picture, so that ascent changes large structure as fast as fine detail: the
    parametrisation of Olah et al. 2017 (lucid). The scale of the start is a choice of ours.
    """
    scaled = torch.view_as_complex(coefficients) * (settings.start * spectrum(shape).to(coefficients.device))
    values = torch.fft.irfft2(scaled, s=shape, norm="ortho")
    if settings.decorrelated:
        values = torch.einsum("rc,nchw->nrhw", colour().to(values), values)
    return presented(values.sigmoid(), settings.contrast_cap, settings.grey)


def spectrum(shape: tuple[int, int]) -> Tensor:
    """Amplitude (h, w // 2 + 1) of every coefficient: 1 / max(f, 1 / longest side), f in cycles a pixel.

    Scaled so that standard normal coefficients give pixels of variance 1: a coefficient of variance 2 stands for two
    frequencies, but in the first column, and in the last of an even width, it and its mirror image are halved into one.
    """
    high, wide = shape
    f = torch.hypot(torch.fft.fftfreq(high)[:, None], torch.fft.rfftfreq(wide)[None])
    amplitude = 1.0 / f.clamp(min=1.0 / max(shape))
    shares = torch.full((wide // 2 + 1,), 4.0)
    shares[0] = 1.0
    if wide % 2 == 0:
        shares[-1] = 1.0
    return amplitude / ((shares * amplitude.square()).sum() / (high * wide)).sqrt()


def colour() -> Tensor:
    """The matrix (3, 3) from uncorrelated colour axes to red, green and blue; its largest column has norm 1."""
    matrix = torch.tensor(COLOUR)
    return matrix / matrix.norm(dim=0).max()


def moved(pictures: Tensor, jitter: int, random: Sequence[torch.Generator]) -> Tensor:
    """Every picture rolled around its edges by up to `jitter` pixels down and right, drawn from its own generator."""
    if not jitter:
        return pictures
    shifts = [torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist() for generator in random]
    return torch.stack([torch.roll(picture, shift, (1, 2)) for picture, shift in zip(pictures, shifts, strict=True)])


def _check_finite(coefficients: Tensor) -> None:
    assert coefficients.grad is not None
    bad = int((~coefficients.grad.isfinite()).flatten(1).any(dim=1).sum())
    if bad:
        raise FloatingPointError(f"the gradient of {bad} of {len(coefficients)} pictures is not finite")
