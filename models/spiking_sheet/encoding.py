"""From a picture to spikes: on- and off-centre inputs that fire at rates, by draws that are always the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

HIGHEST_RATE = 60.0
"""Hz, of an input whose contrast is SATURATION deviations or more."""

SATURATION = 2.0
"""Contrasts are divided by their root mean square over the picture and cut here."""

FAINT = 0.01
"""Added to that root mean square, in units of the image's range, so that an empty picture stays silent."""

CENTRE, SURROUND = 0.5, 1.5
"""Standard deviations of centre and surround, in pixels of the input grid."""


def input_rates(images: Tensor, pixels: int) -> Tensor:
    """Rates (stimuli, 2 pixels^2) in Hz of on- then off-centre inputs, row by row, float64.

        contrast = (G_centre - G_surround) * averaged grey image
        rate = 60 Hz min(|contrast| / (2 (rms + 0.01)), 1)   of the input whose sign the contrast has

    images (stimuli, 3, h, w) in [0, 1]; grey = mean of the colours, averaged to pixels x pixels. The Gaussians
    are normalised at the border too, so that a uniform image gives no contrast and no spike. In float64, so
    that a picture's rates do not depend on the batch it comes in beyond the sixteenth digit.
    """
    grey = F.adaptive_avg_pool2d(images.double().mean(dim=1), pixels)
    centre, surround = (_blur(pixels, width).to(grey.device) for width in (CENTRE, SURROUND))
    contrast = (centre @ grey @ centre.T - surround @ grey @ surround.T).flatten(1)
    strength = contrast / (SATURATION * (contrast.square().mean(dim=1, keepdim=True).sqrt() + FAINT))
    return HIGHEST_RATE * torch.cat([strength, -strength], dim=1).clamp(0.0, 1.0)


def _blur(pixels: int, width: float) -> Tensor:
    """Matrix (pixels, pixels) that averages along one axis with Gaussian weights; rows add up to one."""
    place = torch.arange(pixels, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * width**2))
    return weights / weights.sum(dim=1, keepdim=True)


def draws(steps: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers (steps, inputs) in [0, 1), float64, on the CPU: one for each moment of each input."""
    return torch.rand(steps, inputs, generator=generator, dtype=torch.float64)


def poisson_spikes(rates: Tensor, uniform: Tensor, step: float) -> Tensor:
    """Spikes (steps, inputs, stimuli) as booleans: at most one a step, with probability rate * step.

    rates (stimuli, inputs) in Hz; `uniform` (steps, inputs) is the same for every picture, so what a picture
    gives depends on the picture alone, and a higher rate only adds spikes; step in ms.
    """
    return uniform.to(rates.device)[:, :, None] < rates.T * (step / 1000.0)
