"""One noise level and self-attention guidance, against diffusers, SciPy and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers import DDIMScheduler
from toy_diffusion import autoencoder, normal, plain_network, prompted_network, random_of

from models.guidance.attention_guidance import SelfAttention, attending, blurred, degraded
from models.guidance.denoising import KINDS, Level
from models.guidance.diffusion import DiffusionSettings, denoise, starts
from models.guidance.pipeline import Parts

torch.set_num_threads(1)


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
