"""Guided diffusion on toy networks: the formulas of every step, against diffusers' own and against closed forms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from models.guidance.attention_guidance import SelfAttention, attending, blurred, degraded
from models.guidance.denoising import KINDS, Level
from models.guidance.diffusion import DiffusionSettings, bent, denoise, starts
from models.guidance.objective import AreaMean, Objective
from models.guidance.pipeline import Parts, load_parts

torch.set_num_threads(1)

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


# -- one noise level --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [0, 20, 500, 999])
def test_the_estimate_recovers_the_clean_picture_from_the_true_noise(kind: str, time: int) -> None:
    scheduler = DDIMScheduler(prediction_type=kind)
    level, clean, noise = Level.at(scheduler, time), normal(2, 3, 8, 8).double(), normal(2, 3, 8, 8, seed=1).double()
    noisy = level.renoised(clean, noise)
    at = torch.tensor([time])
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, at), rtol=1e-5, atol=1e-6)
    output = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, at)}[kind]
    if kind == "v_prediction":
        output = level.alpha * noise - level.sigma * clean
        torch.testing.assert_close(output, scheduler.get_velocity(clean, noise, at), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(level.clean(noisy, output), clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(level.noise(noisy, output), noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_that_of_diffusers(kind: str) -> None:
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    noisy, output = normal(2, 3, 8, 8), normal(2, 3, 8, 8, seed=1)
    for time in scheduler.timesteps:
        expected = scheduler.step(output, time, noisy).pred_original_sample
        torch.testing.assert_close(Level.at(scheduler, time).clean(noisy, output), expected, rtol=1e-4, atol=1e-4)


def test_the_blend_is_the_noisy_latents_at_the_end_and_the_estimate_at_the_start() -> None:
    clean, noisy = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    assert torch.equal(Level(1.0, 0.0).blended(clean, noisy), noisy)
    assert torch.equal(Level(0.0, 1.0).blended(clean, noisy), clean)
    scheduler = DDIMScheduler()
    far = (clean - noisy).abs()
    assert ((Level.at(scheduler, 0).blended(clean, noisy) - noisy).abs() <= 0.0101 * far + 1e-6).all()  # f = .01
    assert ((Level.at(scheduler, 999).blended(clean, noisy) - clean).abs() <= 1e-4 * far + 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_corrected_output_has_the_changed_noise_at_the_same_latents(kind: str, alpha: float, seed: int) -> None:
    level = Level(alpha, (1 - alpha**2) ** 0.5, kind)
    noisy, output, change = (normal(2, 3, 4, 4, seed=seed + 100 * each).double() for each in range(3))
    found = level.corrected(output, change)
    torch.testing.assert_close(level.noise(noisy, found), level.noise(noisy, output) + change)
    rebuilt = level.renoised(level.clean(noisy, found), level.noise(noisy, found))
    torch.testing.assert_close(rebuilt, noisy)


# -- self-attention guidance ------------------------------------------------------------------------


def test_the_blur_is_a_gaussian_of_nine_pixels() -> None:
    maps = normal(2, 3, 12, 10).double()
    expected = gaussian_filter(maps.numpy(), 1.0, axes=(2, 3), mode="mirror", radius=4)
    np.testing.assert_allclose(blurred(maps).numpy(), expected, rtol=1e-12)


def test_what_is_attended_is_blurred_and_nothing_else() -> None:
    weights = torch.full((1, 2, 4, 4), 0.25)
    weights[:, :, :, 3] += 0.2
    weights[:, :, :, 0] -= 0.2
    attention = SelfAttention(weights, (2, 2))
    assert attention.mask().flatten().tolist() == [0.0, 0.0, 0.0, 1.0]  # exactly 1 received is not above 1
    clean = normal(1, 3, 12, 12)
    found = degraded(clean, attention)
    assert torch.equal(found[..., 6:, 6:], blurred(clean)[..., 6:, 6:])
    assert torch.equal(found[..., :6, :], clean[..., :6, :])
    assert torch.equal(found[..., :, :6], clean[..., :, :6])


@pytest.mark.parametrize("make", [plain_network, prompted_network])
def test_attention_is_overheard_without_a_change(make: Any) -> None:
    network = make()
    noisy = normal(2, network.config.in_channels, 16, 16)
    parts = Parts(network, DDIMScheduler(), embeddings=normal(1, 4, 8) if make is prompted_network else None)
    state = {name: len(module._forward_hooks) for name, module in network.named_modules()}
    output, attention = attending(network, lambda: parts.predict(noisy, torch.tensor(500)))
    assert torch.equal(output, parts.predict(noisy, torch.tensor(500)))
    assert state == {name: len(module._forward_hooks) for name, module in network.named_modules()}
    assert attention.shape == (8, 8)
    assert attention.weights.shape == (2, 4, 64, 64)
    torch.testing.assert_close(attention.weights.sum(dim=-1), torch.ones(2, 4, 64))


def test_the_weights_are_those_that_the_network_uses() -> None:
    """Softmax of the layer's own queries and keys gives, with its values, what the layer puts out."""
    network = plain_network()
    layer, held = network.mid_block.attentions[0], {}
    layer.to_v.register_forward_hook(lambda _, __, output: held.__setitem__("values", output))
    layer.to_out[0].register_forward_pre_hook(lambda _, inputs: held.__setitem__("mixed", inputs[0]))
    _, attention = attending(network, lambda: network(normal(2, 3, 16, 16), torch.tensor(10)).sample)
    values = held["values"].unflatten(2, (4, 4)).transpose(1, 2)
    mixed = (attention.weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, held["mixed"])


def test_a_network_without_attention_cannot_be_asked_for_it() -> None:
    plain = plain_network(add_attention=False)
    parts = Parts(plain, DDIMScheduler())
    with pytest.raises(ValueError, match="UNet2DModel has no self-attention in its middle block: set attention to 0"):
        denoise(parts, [0], DiffusionSettings(steps=2))
    assert denoise(parts, [0], DiffusionSettings(steps=2, attention=0)).pictures.shape == (1, 3, 16, 16)


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


@pytest.mark.slow
def test_self_attention_guidance_is_that_of_diffusers() -> None:
    """Their pipeline and ours from the same latents, over a whole trajectory."""
    from diffusers import StableDiffusionSAGPipeline

    network, vae, prompt = prompted_network(), autoencoder(), normal(1, 4, 8)
    scheduler = DDIMScheduler(clip_sample=False)
    theirs = StableDiffusionSAGPipeline(vae, None, None, network, scheduler, None, None, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    parts = Parts(network, scheduler, vae, prompt)
    ours = denoise(parts, [0], DiffusionSettings(steps=6, gamma=0, attention=0.75))
    expected = theirs(
        prompt_embeds=prompt,
        latents=starts(parts, random_of(range(1))),
        height=16,
        width=16,
        num_inference_steps=6,
        guidance_scale=0.0,
        sag_scale=0.75,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours.pictures, parts.decode(expected).detach(), rtol=1e-3, atol=1e-4)
    plain = denoise(parts, [0], DiffusionSettings(steps=6, gamma=0, attention=0))
    assert (plain.pictures - ours.pictures).abs().max() > 1e-2
