"""Which neuron listens to which: a table of synapses, how it is first drawn, pruned and grown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.spiking_sheet.settings import SheetSettings

EXCITATORY = 0.8
"""Share of the neurons that are excitatory; only they and the inputs send plastic synapses."""

JITTER = 0.25
"""Neurons are moved off the grid by at most this many cells along each axis."""

INLET = 0.4
"""Side of the patch under the inputs, in sides of the sheet; it lies at the middle of the left edge."""

SPEED = 2.0
"""Cells that a spike travels along an axon in one ms."""

LONGEST_DELAY = 10.0
"""Delays are cut here, ms; the shortest is one step."""

START_WEIGHT = 0.2
"""Weight of a new synapse, and the mean weight that normalisation keeps in a full row."""

GROWTH = 1 / 8
"""Synapses that a neuron tries out at each rewiring, as a share of its in-degree."""


@dataclass(frozen=True)
class Wiring:
    """The plastic synapses: row i holds those that neuron i receives, in any order.

    sources (neurons, slots): a neuron, or neurons + an input, -1 in an empty slot; weights (neurons, slots)
    in [0, 1], 0 in an empty slot. No source occurs twice in a row, and no neuron listens to itself.
    """

    sources: Tensor
    weights: Tensor

    @property
    def used(self) -> Tensor:
        """Which slots hold a synapse."""
        return self.sources >= 0

    def in_degrees(self) -> Tensor:
        """Synapses that each neuron receives (neurons,)."""
        return self.used.sum(dim=1)

    def out_degrees(self, senders: int) -> Tensor:
        """Synapses that each of `senders` neurons and inputs sends (senders,)."""
        return torch.bincount(self.sources[self.used], minlength=senders)

    def lengths(self, positions: Tensor) -> Tensor:
        """Distance in cells from source to neuron (neurons, slots); 0 in an empty slot."""
        ends = positions[: len(self.sources), None]
        return (positions[self.sources.clamp(min=0)] - ends).norm(dim=2) * self.used

    def delays(self, positions: Tensor, step: float) -> Tensor:
        """Steps from a spike to its arrival (neurons, slots): round(length / speed), 1 step to 10 ms."""
        return (self.lengths(positions) / (SPEED * step)).round().long().clamp(1, longest_delay(step))


def longest_delay(step: float) -> int:
    """The most steps of `step` ms that a spike travels."""
    return max(round(LONGEST_DELAY / step), 1)


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Distances (one, other) in cells between places (one, 2) and (other, 2), without the rounding of a product."""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")


def sheet_positions(settings: SheetSettings, generator: torch.Generator) -> Tensor:
    """Places (neurons + inputs, 2), x and y in cells, float64: a grid with jitter, and the inputs' patch.

    Inputs keep the picture's layout, on and off at one place: left edge, middle height, INLET sides large.
    """
    side, pixels = settings.side, settings.pixels
    place = torch.arange(side, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1).flatten(0, 1)
    jitter = torch.rand(grid.shape, generator=generator, dtype=torch.float64) * 2 * JITTER - JITTER
    across = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels * INLET * (side - 1)
    patch = torch.stack(torch.meshgrid(across, across + (1 - INLET) / 2 * (side - 1), indexing="xy"), dim=-1)
    return torch.cat([grid + jitter, patch.flatten(0, 1), patch.flatten(0, 1)])


def draw_excitatory(neurons: int, generator: torch.Generator) -> Tensor:
    """Which neurons are excitatory (neurons,): a random 80 % of them, to the nearest neuron."""
    chosen = torch.zeros(neurons, dtype=torch.bool)
    chosen[torch.randperm(neurons, generator=generator)[: round(EXCITATORY * neurons)]] = True
    return chosen


def random_wiring(positions: Tensor, sends: Tensor, settings: SheetSettings, generator: torch.Generator) -> Wiring:
    """The first wiring: sources drawn with P ~ exp(-d^2 / 2 sigma_g^2), weights uniform in 0.1 to 0.3.

    `sends` (neurons + inputs,) says who sends plastic synapses. Then pruned to the degree limits.
    """
    empty = Wiring(*_empty(settings.neurons, 0, positions))
    drawn = candidates(empty, positions, sends.double(), settings.growth_range, settings.in_degree, generator)
    uniform = torch.rand(drawn.shape, generator=generator, dtype=torch.float64)
    weights = START_WEIGHT * (0.5 + uniform) * (drawn >= 0)
    return prune(Wiring(drawn, weights), positions, settings)


def candidates(
    wiring: Wiring, positions: Tensor, activity: Tensor, reach: float, count: int, generator: torch.Generator
) -> Tensor:
    """New sources (neurons, at most count), none of which the neuron has: P ~ activity_j exp(-d_ij^2 / 2 reach^2).

    Drawn without replacement (Gumbel top-k); activity (neurons + inputs,) is not negative, and who has none
    is not drawn. -1 where a neuron runs out of sources.
    """
    neurons = len(wiring.sources)
    distance = distances(positions[:neurons], positions)
    score = activity.log() - distance.square() / (2 * reach**2)
    noise = torch.rand(score.shape, generator=generator, dtype=torch.float64).clamp_(min=1e-300)
    score = (score - (-noise.log()).log()).fill_diagonal_(-math.inf)
    rows, slots = wiring.used.nonzero(as_tuple=True)
    score[rows, wiring.sources[rows, slots]] = -math.inf
    best, chosen = score.topk(min(count, score.shape[1]), dim=1)
    return chosen.masked_fill(best == -math.inf, -1)


def prune(wiring: Wiring, positions: Tensor, settings: SheetSettings) -> Wiring:
    """Drop the synapses of least value u = weight - lambda * length until all degrees are within their limits.

    First each neuron keeps its `in_degree` best, then of these each source keeps its `out_degree` best. The
    table that is returned has exactly `in_degree` slots, the synapses first.
    """
    value = wiring.weights - settings.wiring_cost * wiring.lengths(positions)
    value = value.masked_fill(~wiring.used, -math.inf)
    rows, slots = (_ranks(value) < settings.in_degree).logical_and(wiring.used).nonzero(as_tuple=True)
    sources, values = wiring.sources[rows, slots], value[rows, slots]
    order = values.argsort(descending=True, stable=True)
    order = order[sources[order].argsort(stable=True)]
    keep = order[_places(sources[order]) < settings.out_degree].sort().values
    rows, slots = rows[keep], slots[keep]
    fresh = _empty(len(wiring.sources), settings.in_degree, wiring.weights)
    for table, old in zip(fresh, (wiring.sources, wiring.weights), strict=True):
        table[rows, _places(rows)] = old[rows, slots]
    return Wiring(*fresh)


def rewire(
    wiring: Wiring, positions: Tensor, activity: Tensor, settings: SheetSettings, generator: torch.Generator
) -> Wiring:
    """Grow some synapses from recently active sources, at START_WEIGHT, then prune to the degree limits.

    activity (neurons + inputs,): the STDP trace of each source, 0 for those that send no plastic synapses.
    """
    count = max(1, round(GROWTH * settings.in_degree))
    drawn = candidates(wiring, positions, activity, settings.growth_range, count, generator)
    fresh = START_WEIGHT * (drawn >= 0).to(wiring.weights)
    grown = Wiring(torch.cat([wiring.sources, drawn], dim=1), torch.cat([wiring.weights, fresh], dim=1))
    return prune(grown, positions, settings)


def _empty(neurons: int, slots: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sources and weights of a table without synapses."""
    sources = torch.full((neurons, slots), -1, dtype=torch.long, device=like.device)
    return sources, torch.zeros(neurons, slots, dtype=torch.float64, device=like.device)


def _ranks(value: Tensor) -> Tensor:
    """Rank of each entry in its row, 0 for the highest; ties by place."""
    return value.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)


def _places(labels: Tensor) -> Tensor:
    """Place of each entry among those of its label; equal labels stand together."""
    _, counts = labels.unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(labels), device=labels.device) - starts.repeat_interleave(counts)
