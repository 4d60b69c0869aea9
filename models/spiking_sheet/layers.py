"""Does one sheet fall into layers? Depth by hops, depth by latency, and how far forward the weight goes."""

from __future__ import annotations

import torch
from torch import Tensor

from models.spiking_sheet.wiring import Wiring

STRONG = 0.5
"""A synapse counts as a hop if its weight is above this share of the largest that its neuron receives."""


def strong_synapses(wiring: Wiring) -> Tensor:
    """Which slots (neurons, slots) hold a weight above half of the neuron's maximum."""
    return wiring.used & (wiring.weights > STRONG * wiring.weights.amax(dim=1, keepdim=True))


def hop_counts(wiring: Wiring) -> Tensor:
    """Hops (neurons,) on the shortest way from any input to each neuron over strong synapses, at least 1.

    A neuron that no input reaches gets neurons + 1, more than any way can have.
    """
    neurons = len(wiring.sources)
    strong, source = strong_synapses(wiring), wiring.sources
    hops = torch.where((strong & (source >= neurons)).any(dim=1), 1, neurons + 1)
    inner = strong & (source < neurons)
    near = source.clamp(0, neurons - 1)
    for _ in range(neurons):
        best = torch.where(inner, hops[near] + 1, neurons + 1).amin(dim=1)
        shorter = torch.minimum(hops, best)
        if torch.equal(shorter, hops):
            break
        hops = shorter
    return hops


def first_spike_latency(spikes: Tensor, step: float) -> Tensor:
    """Mean time in ms from the picture's onset to the first spike (neurons,), over the pictures with a spike.

    spikes (steps, neurons, stimuli) are booleans; a spike in the first step has latency 0. NaN for a neuron
    that stays silent.
    """
    fired = spikes.any(dim=0)
    first = spikes.int().argmax(dim=0) * step
    return torch.where(fired, first, torch.nan).nanmean(dim=1)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of two vectors where both are finite, ties sharing their mean rank.

    NaN if fewer than two entries are finite, or one vector is constant.
    """
    finite = one.isfinite() & other.isfinite()
    if finite.sum() < 2:
        return float("nan")
    ranks = [_mean_ranks(values[finite]) for values in (one, other)]
    a, b = (values - values.mean() for values in ranks)
    return float((a @ b) / (a.norm() * b.norm()))


def _mean_ranks(values: Tensor) -> Tensor:
    """Ranks from 0, the mean rank for ties, float64."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() + 1) / 2)[inverse]


def feed_forwardness(wiring: Wiring, hops: Tensor) -> float:
    """Share of the whole weight that goes from hop k to hop k + 1; inputs are hop 0.

    Weight to and from neurons that no input reaches counts in the whole alone. NaN without any weight.
    """
    neurons = len(wiring.sources)
    depth = torch.cat([hops, hops.new_zeros(int(wiring.sources.max()) + 1)])
    forward = depth[wiring.sources.clamp(min=0)] + 1 == hops[:, None]
    reached = hops[:, None] <= neurons
    return float((wiring.weights * (forward & reached)).sum() / wiring.weights.sum())
