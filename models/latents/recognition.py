"""What latent factors did in a trial, guessed from part of the population: masks, posterior, divergence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EMBEDDED, STATE = 42, 20
"""Sizes of the embedding of a population and of the recurrent state. Source: Schmidt et al., as released."""


class Recognition(nn.Module):
    """Posterior of the latent factors, N(mean_t, spread^2) in every frame, from an embedded population.

        mean_t = W GRU( ELU(LayerNorm(e_t)) )

    e (clips, frames, 42) -> mean, spread, both (clips, frames, latents). The recurrence runs forward only.
    `posterior` says what the spread is: `scalar`, one number; `diagonal`, one for each latent; `time`, an output
    of the network. It starts at 1. Shared by all recordings. Weights are drawn from `seed` alone.
    Source: Schmidt et al. (arXiv 2410.16136), as released, with the scalar spread.
    """

    def __init__(self, latents: int, posterior: str, seed: int) -> None:
        super().__init__()
        self.latents, self.posterior = latents, posterior
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.norm = nn.LayerNorm(EMBEDDED)
            self.recurrent = nn.GRU(EMBEDDED, STATE, batch_first=True)
            self.out = nn.Linear(STATE, latents)
            self.spread_out = nn.Linear(STATE, latents) if posterior == "time" else None
        self.log_spread = nn.Parameter(torch.zeros(latents if posterior == "diagonal" else 1))
        if self.spread_out is not None:
            nn.init.zeros_(self.spread_out.weight)
            nn.init.zeros_(self.spread_out.bias)

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation: see the class."""
        state, _ = self.recurrent(nn.functional.elu(self.norm(embedded)))
        mean, log_spread = self.out(state), self.log_spread
        if self.spread_out is not None:
            log_spread = log_spread + self.spread_out(state)
        return mean, log_spread.exp().expand_as(mean)


def hidden_entries(observed: Tensor, rate: float, mask: str, generator: torch.Generator) -> Tensor:
    """Which observed entries (clips, frames, units) are hidden, each with probability `rate`; bool.

    `mask`: `entry` draws for every unit and frame, `unit` for every unit and clip, all its frames together.
    """
    clips, frames, units = observed.shape
    draws = torch.rand(clips, frames if mask == "entry" else 1, units, generator=generator)
    return (draws < rate).to(observed.device) & observed


def divergence(mean: Tensor, spread: Tensor, direction: str, memory: float = 0.0) -> Tensor:
    """Kullback-Leibler divergence between the posterior N(mean_t, spread_t^2) and the prior, per frame, in nats.

    The prior of every latent is N(0, 1) in each frame, with correlation `memory` = a from a frame to the next:
    z_t = a z_{t-1} + sqrt(1 - a^2) e_t; a = 0 is independence over time. Summed over latents,

        posterior-prior: (s_0^2 + m_0^2 - 1)/2 - ln s_0 in the first frame, in others
                         (((m_t - a m_{t-1})^2 + s_t^2 + a^2 s_{t-1}^2)/(1 - a^2) + ln(1 - a^2) - 1)/2 - ln s_t
        prior-posterior: ((1 + m_t^2)/s_t^2 - 1)/2 + ln s_t, and - ln(1 - a^2)/2 in all frames but the first

    mean, spread (clips, frames, latents) -> (clips, frames); the sum over the first n frames is the divergence of
    those frames. The first is what the evidence bound asks for; the second is what Schmidt et al. released.
    """
    gain = 1.0 - memory**2
    if direction == "prior-posterior":
        terms = ((1.0 + mean.square()) / spread.square() - 1.0) / 2.0 + spread.log()
        return terms.sum(dim=2) - _after_first(terms) * terms.shape[2] * math.log(gain) / 2.0
    if direction != "posterior-prior":
        raise ValueError(f"direction must be posterior-prior or prior-posterior, not {direction!r}")
    start = mean[:, :1].square() + spread[:, :1].square()
    moved = (mean[:, 1:] - memory * mean[:, :-1]).square()
    spreads = spread[:, 1:].square() + memory**2 * spread[:, :-1].square()
    squares = torch.cat([start, (moved + spreads) / gain + math.log(gain)], dim=1)
    return ((squares - 1.0) / 2.0 - spread.log()).sum(dim=2)


def sample_prior(shape: tuple[int, int, int], memory: float, generator: torch.Generator) -> Tensor:
    """Latents (clips, frames, latents) drawn from the prior: see `divergence`."""
    noise = torch.randn(shape, generator=generator)
    if memory == 0.0:
        return noise
    frames = [noise[:, 0]]
    for step in noise[:, 1:].unbind(dim=1):
        frames.append(memory * frames[-1] + (1.0 - memory**2) ** 0.5 * step)
    return torch.stack(frames, dim=1)


def _after_first(terms: Tensor) -> Tensor:
    """0 in the first frame, 1 in the others: (frames,)."""
    return (torch.arange(terms.shape[1], device=terms.device) > 0).to(terms)
