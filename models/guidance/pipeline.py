"""The parts of a diffusion model that guidance needs, and how they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.guidance.denoising import KINDS


@dataclass(frozen=True)
class Parts:
    """Parts of a diffusers pipeline: its UNet and scheduler, its VAE where it works on latents, a prompt's embedding.

    `embeddings` (1, tokens, channels) are for networks that see a prompt, else None. The scheduler is a template:
    every synthesis makes its own from its settings (see `fresh_scheduler`).
    Raises ValueError for parts that the formulas do not hold for: they ask for alphas_cumprod, for latents of unit
    variance, for a network that predicts noise, v or clean latents and nothing besides.
    """

    unet: nn.Module
    scheduler: Any
    vae: nn.Module | None = None
    embeddings: Tensor | None = None

    def __post_init__(self) -> None:
        problem = _problem_of_scheduler(self.scheduler) or _problem_of_network(self.unet, self.embeddings)
        if problem:
            raise ValueError(problem)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.unet.parameters()).device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        config: Any = self.unet.config
        size = config.sample_size
        high, wide = (size, size) if isinstance(size, int) else size
        return config.in_channels, high, wide

    def fresh_scheduler(self, steps: int) -> Any:
        """A scheduler of the same settings, set to `steps` steps; the template keeps its state.

        It does not clip x0 (`clip_sample`, `thresholding`): where x0 is clipped, DDIM keeps the change of the noise
        but not that of x0, so that guidance would be reversed.
        """
        config = self.scheduler.config
        unclipped = {key: False for key in ("clip_sample", "thresholding") if key in config}
        scheduler = type(self.scheduler).from_config(config, **unclipped)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def predict(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Output of the network for noisy latents (n, channels, h, w)."""
        if self.embeddings is None:
            output: Tensor = self.unet(noisy, time).sample
        else:
            shown = self.embeddings.expand(len(noisy), -1, -1)
            output = self.unet(noisy, time, encoder_hidden_states=shown).sample
        return output

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) float32 of latents: clamp(decoder(z / s) / 2 + 1/2, 0, 1), s the VAE's scale."""
        if self.vae is not None:
            config: Any = self.vae.config
            shifted = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
            latents = self.vae.decode(shifted).sample  # type: ignore[operator]
        return (latents.float() / 2 + 0.5).clamp(0, 1)


def load_parts(place: str, device: torch.device | str = "cpu", prompt: str = "") -> Parts:
    """Parts of the diffusers pipeline in a local folder, or of that name on a hub; float32, from safetensors only.

    Networks with a text encoder are shown `prompt`. Raises ImportError without diffusers (the extra `diffusion`),
    OSError or ValueError, as diffusers does, where there is no pipeline, or one in another format than safetensors, and
    ValueError for parts that cannot be guided (see `Parts`).
    """
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(place, use_safetensors=True, low_cpu_mem_usage=False)
    parts = pipeline.components
    if "unet" not in parts or "scheduler" not in parts:
        raise ValueError(f"{place} has no UNet and scheduler; its parts are {', '.join(parts)}")
    modules = {name: _settled(parts.get(name), device) for name in ("unet", "vae", "text_encoder")}
    embeddings = None
    if modules["text_encoder"] is not None:
        embeddings = _embeddings(parts["tokenizer"], modules["text_encoder"], prompt, device)
    return Parts(modules["unet"], parts["scheduler"], modules["vae"], embeddings)


def _settled(network: Any, device: torch.device | str) -> Any:
    return None if network is None else network.to(device).eval().requires_grad_(False)


@torch.no_grad()
def _embeddings(tokenizer: Any, encoder: Any, prompt: str, device: torch.device | str) -> Tensor:
    longest = tokenizer.model_max_length
    tokens = tokenizer([prompt], padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    embeddings: Tensor = encoder(tokens.input_ids.to(device))[0]
    return embeddings.float()


def _problem_of_scheduler(scheduler: Any) -> str:
    """Why a scheduler does not fit; empty if it does."""
    name, config = type(scheduler).__name__, scheduler.config
    kind = config.get("prediction_type", "nothing known")
    if getattr(scheduler, "alphas_cumprod", None) is None or float(scheduler.init_noise_sigma) != 1.0:
        return f"{name} is not guided: its latents have no unit variance. Use DDIM, DDPM, DPM-Solver or UniPC"
    if scheduler.order != 1:
        return f"{name} is not guided: it asks for {scheduler.order} passes a step, 1 is supported"
    if kind not in KINDS:
        return f"a network that predicts {kind} is not guided; supported: {', '.join(KINDS)}"
    if config.get("rescale_betas_zero_snr"):
        return f"{name} starts from noise alone (rescale_betas_zero_snr): there is no estimate x0 to guide"
    return ""


def _problem_of_network(unet: Any, embeddings: Tensor | None) -> str:
    """Why a network does not fit; empty if it does."""
    name, config = type(unet).__name__, unet.config
    if config.in_channels != config.out_channels:
        numbers = f"{config.in_channels} inputs and {config.out_channels} outputs"
        return f"{name} has {numbers}, they must be equal (no masks, no learned variance)"
    if config.sample_size is None:
        return f"{name} says no sample_size"
    if config.get("addition_embed_type") or config.get("class_embed_type"):
        return f"{name} asks for more than latents, a time and one prompt, which is not supported"
    if config.get("cross_attention_dim") and embeddings is None:
        return f"{name} sees a prompt: its embedding is needed"
    return ""
