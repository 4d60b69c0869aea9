"""Spike-timing-dependent plasticity, bounded and normalised, and thresholds that hold a rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.spiking_sheet.wiring import START_WEIGHT, Wiring

TRACE = 20.0
"""Time constant of both traces, ms."""

POTENTIATION = 0.01
"""A+, the weight gained by a post-synaptic spike right after one arrival."""

LOWEST_THRESHOLD = 0.1
"""A silent neuron's threshold sinks no lower."""


@dataclass
class Traces:
    """What STDP remembers: `arrived` (neurons, slots) of each synapse, `fired` (neurons,) of each neuron."""

    arrived: Tensor
    fired: Tensor

    @classmethod
    def empty(cls, wiring: Wiring) -> Traces:
        """No spike so far."""
        return cls(torch.zeros_like(wiring.weights), torch.zeros_like(wiring.weights[:, 0]))


def stdp_step(weights: Tensor, traces: Traces, arrived: Tensor, spikes: Tensor, asymmetry: float, step: float) -> None:
    """One step of dt ms of pair-wise STDP by traces; changes weights and traces in place.

        x_ij <- x_ij e^{-dt/tau} + a_ij          y_i <- y_i e^{-dt/tau}
        w_ij <- max(w_ij - A- y_i a_ij, 0),      then w_ij <- min(w_ij + A+ x_ij s_i, 1)
        y_i  <- y_i + s_i

    `arrived` (arrivals,) are the synapses at which a spike arrives now (a = 1), counted along the rows of
    weights (neurons, slots); spikes s (neurons,) are booleans; A- = asymmetry A+. A pair thus changes the
    weight by A+ e^{-t/tau} where the neuron fires t >= 0 after the arrival, by -A- e^{-t/tau} where the
    arrival comes t > 0 after the spike. The delay is part of the synapse: time counts from the arrival.
    """
    decay = math.exp(-step / TRACE)
    traces.arrived.mul_(decay).view(-1)[arrived] += 1.0
    traces.fired.mul_(decay)
    loss = asymmetry * POTENTIATION * traces.fired[arrived // weights.shape[1]]
    weights.view(-1)[arrived] = (weights.view(-1)[arrived] - loss).clamp_(min=0.0)
    rows = spikes.nonzero()[:, 0]
    weights[rows] = (weights[rows] + POTENTIATION * traces.arrived[rows]).clamp_(max=1.0)
    traces.fired.add_(spikes)


def normalise(wiring: Wiring, in_degree: int) -> Wiring:
    """The same wiring with sum_j w_ij = 0.2 in_degree for every neuron, by a common factor below the bound of 1.

    Weights that the factor would take above 1 stand at 1, and the others share the rest. Where all synapses at
    1 do not add up to the sum, all are 1; a row without weight is set to equal weights first.
    """
    total = torch.minimum(torch.full_like(wiring.weights[:, 0], START_WEIGHT * in_degree), wiring.in_degrees())
    silent = wiring.weights.sum(dim=1, keepdim=True) <= 0
    weights = torch.where(silent, wiring.used.to(wiring.weights), wiring.weights)
    full = torch.zeros_like(wiring.used)
    for _ in range(weights.shape[1]):
        free = torch.where(full, 0.0, weights).sum(dim=1)
        factor = (total - full.sum(dim=1)) / free.clamp(min=1e-300)
        over = ~full & (weights * factor[:, None] > 1.0)
        if not over.any():
            break
        full |= over
    return Wiring(wiring.sources, torch.where(full, 1.0, weights * factor[:, None]))


def threshold_step(threshold: Tensor, spikes: Tensor, homeostasis: float, rate: float, step: float) -> None:
    """theta_i <- max(theta_i + eta (s_i - r* dt), 0.1), in place; rate r* in Hz, step dt in ms."""
    threshold.add_(homeostasis * (spikes.to(threshold) - rate * step / 1000.0)).clamp_(min=LOWEST_THRESHOLD)
