"""Tiny diffusion models that were never trained, an exact denoiser, and something to guide them by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from models.guidance.objective import AreaMean, Objective

SMALL = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
SCHEDULERS = {
    "ddim": lambda kind: DDIMScheduler(prediction_type=kind, clip_sample=False),
    "ddpm": lambda kind: DDPMScheduler(prediction_type=kind, clip_sample=False),
    "dpm": lambda kind: DPMSolverMultistepScheduler(prediction_type=kind),
}


def seeded(make: Any, **changes: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make(**changes).eval().requires_grad_(False)


def plain_network(**changes: Any) -> Any:
    """A UNet of pictures, with self-attention in its middle block."""
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    return seeded(UNet2DModel, **{"sample_size": 16, "in_channels": 3, "out_channels": 3, **blocks, **SMALL, **changes})


def prompted_network(**changes: Any) -> Any:
    """A UNet of latents that sees a prompt."""
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    given = {"down_block_types": down, "up_block_types": up, "cross_attention_dim": 8, "sample_size": 8}
    return seeded(UNet2DConditionModel, **{"in_channels": 4, "out_channels": 4, **given, **SMALL, **changes})


def autoencoder() -> Any:
    """A VAE of 16 x 16 pictures and latents of half their side."""
    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    blocks = {"down_block_types": down, "up_block_types": up, "block_out_channels": (8, 8), "norm_num_groups": 4}
    return seeded(AutoencoderKL, sample_size=16, scaling_factor=0.2, **blocks)


class BestDenoiser(torch.nn.Module):
    """The exact denoiser of independent pixels of mean 0 and standard deviation s: E(noise | x) in closed form."""

    spread = 0.4

    def __init__(self, scheduler: Any, shape: tuple[int, int, int] = (3, 16, 16)) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            in_channels=shape[0], out_channels=shape[0], sample_size=shape[1:], get=lambda _: None
        )
        self.levels = scheduler.alphas_cumprod

    def forward(self, noisy: torch.Tensor, time: torch.Tensor) -> Any:
        share = float(self.levels[int(time)])
        return SimpleNamespace(sample=noisy * (1 - share) ** 0.5 / (share * self.spread**2 + 1 - share))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


FILTERS = normal(4, 3 * 16 * 16, seed=5) / 20
AIM = Objective(AreaMean(lambda shown: torch.tanh(shown.flatten(1) @ FILTERS.T)))


def random_of(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]
