"""Guided diffusion: every denoising step is bent towards pictures that drive what a twin predicts."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.guidance.attention_guidance import attending, degraded, middle_attention
from models.guidance.denoising import Level
from models.guidance.objective import Objective, gradient_of, unit_norm
from models.guidance.pictures import Synthesis, presented
from models.guidance.pipeline import Parts


@dataclass(frozen=True)
class DiffusionSettings:
    """Denoising `steps`, strength `gamma` of the guidance, scale `attention` of self-attention guidance (0: none).

    `unit_norm`: every picture's gradient is divided by its norm, so that one gamma means the same for all twins and
    areas; else the raw gradient is taken. `blend`: the twin sees z = f x0 + (1 - f) x, else x0 alone. `contrast_cap`:
    see `capped`; `grey`: pictures without colour, for recordings of such.
    """

    steps: int = 50
    gamma: float = 100.0
    attention: float = 0.75
    unit_norm: bool = True
    blend: bool = True
    contrast_cap: float | None = None
    grey: bool = False


def denoise(
    parts: Parts, seeds: Sequence[int], settings: DiffusionSettings, objective: Objective | None = None
) -> Synthesis:
    """Pictures (seeds, 3, h, w) of a diffusion model, one from every seed, guided by an objective.

    With alpha = sqrt(abar_t), f = sigma = sqrt(1 - abar_t) and the network's noise estimate eps, every step is

        x0   = (x_t - sigma eps) / alpha
        z    = f x0 + (1 - f) x_t
        g    = d objective(decode(z)) / d x_t                       through twin, decoder and network
        eps' = eps + attention (eps - eps_degraded) - f gamma g
        x_{t-1} = scheduler.step(eps', t, x_t)

    so that gamma > 0 raises the objective. eps_degraded is what the network makes of x0 blurred where its middle block
    attends, and noised again. With gamma 0, or without an objective, nothing is guided; with attention 0 besides, the
    latents are those of the plain sampler (one that does not clip x0) to the last bit. `trace` (steps, seeds) is the
    objective at every step, NaN without one. The start, and any noise that the scheduler adds, are drawn from each
    picture's own seed.
    Raises ValueError for a network without the self-attention that `attention` asks for.
    Source: Luo et al. 2023 (NeurIPS, BrainDiVE), their published code; one gradient a picture and the division by its
    norm are choices of ours.
    """
    if settings.attention:
        middle_attention(parts.unet)
    scheduler = parts.fresh_scheduler(settings.steps)
    random = [torch.Generator().manual_seed(seed) for seed in seeds]
    noisy = starts(parts, random)
    extra = _extra(scheduler, random)
    trace = []
    for time in scheduler.timesteps:
        level = Level.at(scheduler, time)
        output, change, values = bent(parts, level, noisy, time, settings, objective)
        output = output if change is None else level.corrected(output, change)
        noisy = scheduler.step(output, time, noisy, **extra).prev_sample
        trace.append(values)
    with torch.no_grad():
        pictures = presented(parts.decode(noisy), settings.contrast_cap, settings.grey)
    return Synthesis(pictures, torch.stack(trace))


def starts(parts: Parts, random: Sequence[torch.Generator]) -> Tensor:
    """Standard normal latents (seeds, channels, h, w), drawn on the CPU whatever the device."""
    drawn = torch.stack([torch.randn(parts.latent_shape, generator=generator) for generator in random])
    return drawn.to(parts.device, next(parts.unet.parameters()).dtype)


def bent(
    parts: Parts, level: Level, noisy: Tensor, time: Tensor, settings: DiffusionSettings, objective: Objective | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The network's output for noisy latents, what is added to its noise (None: nothing), and the objective (n,)."""
    guided = objective is not None and settings.gamma != 0
    with torch.set_grad_enabled(guided):
        inputs = noisy.detach().requires_grad_(guided)
        output, change = _predicted(parts, level, inputs, time, settings.attention)
        values = _values(parts, level, inputs, output, settings, objective)
        if guided:
            gradient = gradient_of(values, inputs)
            gradient = unit_norm(gradient) if settings.unit_norm else gradient
            change = (0.0 if change is None else change) - level.sigma * settings.gamma * gradient
    return output.detach(), change, values.detach()


def _predicted(parts: Parts, level: Level, noisy: Tensor, time: Tensor, scale: float) -> tuple[Tensor, Tensor | None]:
    """The network's output, and the change of its noise by self-attention guidance: scale (eps - eps_degraded)."""
    if not scale:
        return parts.predict(noisy, time), None
    output, attention = attending(parts.unet, lambda: parts.predict(noisy, time))
    with torch.no_grad():
        noise = level.noise(noisy, output)
        worse = level.renoised(degraded(level.clean(noisy, output), attention), noise)
        change = scale * (noise - level.noise(worse, parts.predict(worse, time)))
    return output, change


def _values(
    parts: Parts, level: Level, noisy: Tensor, output: Tensor, settings: DiffusionSettings, objective: Objective | None
) -> Tensor:
    if objective is None:
        return noisy.new_full((len(noisy),), torch.nan)
    clean = level.clean(noisy, output)
    latents = level.blended(clean, noisy) if settings.blend else clean
    return objective(presented(parts.decode(latents), settings.contrast_cap, settings.grey))


def _extra(scheduler: Any, random: Sequence[torch.Generator]) -> dict[str, Any]:
    """Generators for schedulers that draw noise in a step."""
    return {"generator": list(random)} if "generator" in inspect.signature(scheduler.step).parameters else {}
