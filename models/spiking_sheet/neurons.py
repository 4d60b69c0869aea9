"""Leaky integrate-and-fire neurons, their fixed lateral kernel, and many pictures shown at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from models.spiking_sheet.wiring import Wiring, distances

MEMBRANE = 20.0
"""Time constant of the membrane, ms."""

FLOOR = -1.0
"""Inhibition takes a membrane no lower than this; a synapse of weight one lifts it by one."""

LATERAL_EXCITATION, LATERAL_INHIBITION = 0.1, 0.2
"""Peaks of the lateral kernel, in the same unit."""

EXACT = 2.0**-14
"""Weights and kernel are rounded to multiples of this: every sum over synapses is then exact in float32."""

BATCH = 64
"""Pictures simulated side by side."""


def membrane_step(potential: Tensor, drive: Tensor, threshold: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """One step of dt ms of leaky integrate-and-fire: (potential, spikes), both shaped as `potential`.

        v <- max(v exp(-dt / 20 ms) + drive, -1);   where v > threshold: a spike, and v <- 0

    Product and sum are rounded one after the other, so the result is the same on every processor.
    """
    potential = (potential * math.exp(-step / MEMBRANE) + drive).clamp_(min=FLOOR)
    spikes = potential > threshold
    return potential.masked_fill_(spikes, 0.0), spikes


def lateral_kernel(positions: Tensor, excitatory: Tensor, excitation: float, inhibition: float) -> Tensor:
    """Kernel (to, from) of what a spike does to its neighbours in the next step, float64.

    0.1 exp(-d^2 / 2 sigma_e^2) from an excitatory neuron, -0.2 exp(-d^2 / 2 sigma_i^2) from an inhibitory one;
    0 on itself. positions (neurons, 2) and the reaches sigma in cells.
    """
    square = distances(positions, positions).square()
    reach = torch.where(excitatory, excitation, inhibition)
    peak = torch.where(excitatory, LATERAL_EXCITATION, -LATERAL_INHIBITION)
    return (peak * torch.exp(-square / (2 * reach.double() ** 2))).fill_diagonal_(0.0)


def exactly(values: Tensor) -> Tensor:
    """The nearest multiples of EXACT, as float32."""
    return (values.double() / EXACT).round().mul(EXACT).float()


@torch.no_grad()
def simulate(wiring: Wiring, threshold: Tensor, lateral: Tensor, delays: Tensor, spikes: Tensor, step: float) -> Tensor:
    """Spikes (steps, neurons, stimuli), as booleans, of a sheet at rest that is shown input spikes.

        drive_i(t) = sum_j w_ij s_j(t - d_ij) + sum_j L_ij s_j(t - 1)

    spikes (steps, inputs, stimuli); threshold (neurons,); lateral (neurons, neurons); delays (neurons, slots)
    in steps, at least 1. Nothing is learned. Stimuli do not touch each other: weights and kernel are rounded to
    multiples of 2^-14, so no sum depends on its order, and a picture gives the same spikes in any company.
    Memory: 4 bytes x (steps + longest delay) x (neurons + inputs) x stimuli.
    """
    steps, inputs, stimuli = spikes.shape
    neurons, longest = len(threshold), int(delays.max())
    record = torch.zeros(steps + longest, neurons + inputs, stimuli, device=spikes.device)
    record[longest:, neurons:] = spikes
    index = (longest - delays) * (neurons + inputs) + wiring.sources.clamp(min=0)
    weights, lateral, level = exactly(wiring.weights), exactly(lateral), threshold.float()[:, None]
    potential = torch.zeros(neurons, stimuli, device=spikes.device)
    for time in range(steps):
        past = record[time : time + longest].flatten(0, 1)
        drive = F.embedding_bag(index, past, mode="sum", per_sample_weights=weights)
        drive += lateral @ record[time + longest - 1, :neurons]
        potential, fired = membrane_step(potential, drive, level, step)
        record[time + longest, :neurons] = fired
    return record[longest:, :neurons] > 0
