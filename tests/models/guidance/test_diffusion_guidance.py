"""Guided diffusion on toy networks: whole steps and trajectories, against the formulas written out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from toy_diffusion import (
    AIM,
    FILTERS,
    SCHEDULERS,
    BestDenoiser,
    autoencoder,
    normal,
    plain_network,
    prompted_network,
    random_of,
)

from models.guidance.attention_guidance import attending, degraded
from models.guidance.denoising import Level
from models.guidance.diffusion import DiffusionSettings, bent, denoise, starts
from models.guidance.objective import AreaMean, Objective
from models.guidance.pipeline import Parts, load_parts

torch.set_num_threads(1)


# -- whole steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_unguided_is_the_plain_sampler_to_the_last_bit(name: str) -> None:
    network, scheduler, seeds = plain_network(), SCHEDULERS[name]("epsilon"), range(2)
    parts = Parts(network, scheduler)
    found = denoise(parts, seeds, DiffusionSettings(steps=4, gamma=0, attention=0), AIM)
    generators = random_of(seeds)
    noisy = starts(parts, generators)
    scheduler.set_timesteps(4)
    extra = {} if name == "dpm" else {"generator": generators}
    with torch.no_grad():
        for time in scheduler.timesteps:
            noisy = scheduler.step(network(noisy, time).sample, time, noisy, **extra).prev_sample
    assert torch.equal(found.pictures, (noisy / 2 + 0.5).clamp(0, 1))
    alone = denoise(parts, seeds, DiffusionSettings(steps=4, attention=0))
    assert torch.equal(alone.pictures, found.pictures)
    assert alone.trace.isnan().all()
    assert found.trace.isfinite().all()


@pytest.mark.parametrize(("kind", "normalised"), [("epsilon", True), ("v_prediction", False)])
def test_one_step_is_the_published_formula(kind: str, normalised: bool) -> None:
    """Written out again in float64, with autograd through decoder, blend and network in one expression."""
    network, vae, prompt = prompted_network().double(), autoencoder().double(), normal(1, 4, 8).double()
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
    parts, time = Parts(network, scheduler, vae, prompt), torch.tensor(600)
    noisy = normal(2, 4, 8, 8).double()
    held = DiffusionSettings(gamma=3.0, attention=0.75, unit_norm=normalised)
    output, change, values = bent(parts, Level.at(scheduler, time), noisy, time, held, AIM)

    share = float(scheduler.alphas_cumprod[600])
    x = noisy.clone().requires_grad_(True)
    raw = network(x, time, encoder_hidden_states=prompt.expand(2, -1, -1)).sample
    eps = raw if kind == "epsilon" else share**0.5 * raw + (1 - share) ** 0.5 * x
    x0 = (x - (1 - share) ** 0.5 * eps) / share**0.5
    f = (1 - share) ** 0.5
    shown = (vae.decode((f * x0 + (1 - f) * x) / 0.2).sample.float() / 2 + 0.5).clamp(0, 1)
    activity = torch.tanh(shown.flatten(1) @ FILTERS.T).mean(dim=1)
    activity.sum().backward()
    assert x.grad is not None
    gradient = x.grad / x.grad.flatten(1).norm(dim=1)[:, None, None, None] if normalised else x.grad
    _, attention = attending(network, lambda: parts.predict(noisy, time))
    worse = share**0.5 * degraded(x0.detach(), attention) + f * eps.detach()
    again = network(worse, time, encoder_hidden_states=prompt.expand(2, -1, -1)).sample
    again = again if kind == "epsilon" else share**0.5 * again + f * worse
    expected = 0.75 * (eps.detach() - again) - f * 3.0 * gradient
    torch.testing.assert_close(output, raw.detach())
    torch.testing.assert_close(values, activity.detach())
    torch.testing.assert_close(change, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("ddim", "epsilon"), ("ddim", "v_prediction"), ("dpm", "epsilon")])
def test_guidance_raises_the_objective_and_its_opposite_lowers_it(name: str, kind: str) -> None:
    """A network that was never trained, so only on average over seeds."""
    parts = Parts(plain_network(), SCHEDULERS[name](kind))
    lower, plain, higher = (
        denoise(parts, range(4), DiffusionSettings(steps=8, gamma=gamma, attention=0), AIM).pictures
        for gamma in (-5.0, 0.0, 5.0)
    )
    assert AIM(higher).mean() > AIM(plain).mean() + 0.02
    assert AIM(lower).mean() < AIM(plain).mean() - 0.02


@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_a_true_denoiser_it_rises_step_by_step_from_every_seed(name: str) -> None:
    scheduler = SCHEDULERS[name]("epsilon")
    parts = Parts(BestDenoiser(scheduler), scheduler)
    lower, plain, higher = (
        denoise(parts, range(6), DiffusionSettings(steps=25, gamma=gamma, attention=0), AIM)
        for gamma in (-3.0, 0.0, 3.0)
    )
    assert (AIM(higher.pictures) > AIM(plain.pictures)).all()
    assert (AIM(lower.pictures) < AIM(plain.pictures)).all()
    assert torch.equal(higher.trace[0], plain.trace[0])  # the first step sees what all of them start from
    assert (higher.trace[1:] > plain.trace[1:]).float().mean() > 0.95
    assert (higher.trace.mean(dim=1)[1:] > plain.trace.mean(dim=1)[1:]).all()


@pytest.mark.parametrize("clips", [True, False])
def test_a_scheduler_that_clips_is_not_reversed(clips: bool) -> None:
    """Clipped x0 in DDIM would leave only the change of the noise, which points the other way."""
    scheduler = DDIMScheduler(clip_sample=clips, clip_sample_range=0.5)
    parts = Parts(BestDenoiser(scheduler), scheduler)
    ends = [
        AIM(denoise(parts, range(3), DiffusionSettings(steps=10, gamma=gamma, attention=0), AIM).pictures)
        for gamma in (0.0, 20.0)
    ]
    assert (ends[1] > ends[0]).all()
    assert parts.scheduler.config.clip_sample == clips


def test_the_exact_denoiser_scales_its_start_and_is_moved_along_the_gradient() -> None:
    """x' = x (alpha' alpha s^2 + sigma' sigma) / (alpha^2 s^2 + sigma^2); a linear aim moves it in one direction."""
    scheduler = DDIMScheduler(clip_sample=False)
    parts = Parts(BestDenoiser(scheduler), scheduler)
    weights = normal(3, 16, 16, seed=3)
    weights = weights / weights.norm()
    aim = Objective(AreaMean(lambda shown: (shown * weights).sum(dim=(1, 2, 3))[:, None]))
    unguided, guided = (
        denoise(parts, range(6), DiffusionSettings(steps=50, gamma=gamma, attention=0), aim) for gamma in (0.0, 4.0)
    )
    shares = np.append(scheduler.alphas_cumprod.numpy()[980::-20], 1.0).astype(float)
    alpha, sigma = np.sqrt(shares), np.sqrt(1 - shares)
    power = BestDenoiser.spread**2
    factor = np.prod((alpha[1:] * alpha[:-1] * power + sigma[1:] * sigma[:-1]) / (shares * power + 1 - shares)[:-1])
    expected = (starts(parts, random_of(range(6))) * float(factor) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(unguided.pictures, expected, rtol=1e-4, atol=1e-5)
    assert factor == pytest.approx(BestDenoiser.spread, rel=0.1)  # 50 steps come near the distribution
    moved = (guided.pictures - unguided.pictures).flatten(1)
    along = (moved @ weights.flatten()) / moved.norm(dim=1)
    assert (along > 0.8).all()  # less than 1 where pixels are clamped
    assert (guided.trace[10:] > unguided.trace[10:]).all()


def test_a_picture_depends_on_its_own_seed_alone() -> None:
    parts = Parts(plain_network(), DDPMScheduler(clip_sample=False))  # which draws noise in every step
    held = DiffusionSettings(steps=3, gamma=2.0)
    state = torch.random.get_rng_state()
    both, again = denoise(parts, [3, 8], held, AIM), denoise(parts, [3, 8], held, AIM)
    alone = denoise(parts, [8], held, AIM)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(both.pictures, again.pictures)
    torch.testing.assert_close(both.pictures[1:], alone.pictures, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(both.pictures[0], both.pictures[1], atol=0.1)


def test_the_cap_and_the_blend_are_options() -> None:
    parts = Parts(plain_network(), DDIMScheduler())
    held = DiffusionSettings(steps=5, gamma=5.0, attention=0, contrast_cap=16 / 255)
    shown = denoise(parts, [0], held, AIM).pictures
    assert float((shown - shown.mean(dim=(2, 3), keepdim=True)).square().mean().sqrt()) <= 16 / 255 + 1e-6
    level, noisy, time = Level.at(parts.scheduler, 500), normal(2, 3, 16, 16), torch.tensor(500)
    output, _, values = bent(parts, level, noisy, time, DiffusionSettings(gamma=1.0, attention=0, blend=False), AIM)
    torch.testing.assert_close(values, AIM(parts.decode(level.clean(noisy, output))))


# -- parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "scheduler", "words"),
    [
        ({}, EulerDiscreteScheduler(), "EulerDiscreteScheduler is not guided: its latents have no unit variance"),
        ({}, DDIMScheduler(rescale_betas_zero_snr=True), "starts from noise alone"),
        ({"out_channels": 6}, DDPMScheduler(), "3 inputs and 6 outputs, they must be equal"),
        ({"sample_size": None}, DDIMScheduler(), "says no sample_size"),
        ({"class_embed_type": "timestep"}, DDIMScheduler(), "asks for more than latents, a time and one prompt"),
    ],
)
def test_parts_that_the_formulas_do_not_hold_for_are_refused(network: Any, scheduler: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Parts(plain_network(**network), scheduler)


def test_a_prompt_is_needed_where_it_is_seen() -> None:
    with pytest.raises(ValueError, match="UNet2DConditionModel sees a prompt: its embedding is needed"):
        Parts(prompted_network(), DDIMScheduler())


def test_a_pipeline_is_loaded_from_a_folder_of_safetensors_only(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline

    network = plain_network()
    DDPMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path / "sound", safe_serialization=True)
    parts = load_parts(str(tmp_path / "sound"))
    assert not any(weight.requires_grad for weight in parts.unet.parameters())
    held = DiffusionSettings(steps=3, gamma=2.0)
    expected = denoise(Parts(network, DDIMScheduler()), [1], held, AIM)
    torch.testing.assert_close(denoise(parts, [1], held, AIM).pictures, expected.pictures, rtol=1e-3, atol=1e-3)
    DDPMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert list((tmp_path / "pickled").rglob("*.bin"))
    with pytest.raises(OSError, match="safetensors"):
        load_parts(str(tmp_path / "pickled"))
    with pytest.raises(ValueError, match="nowhere"):
        load_parts(str(tmp_path / "nowhere"))
