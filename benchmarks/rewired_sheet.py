"""What degrees and distances alone would give: a random wiring of a sheet that keeps both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.spiking_sheet.wiring import Wiring

BIN = 2.0
"""Cells; two synapses trade their sources only within one bin of lengths."""


def rewired_null(wiring: Wiring, positions: Tensor, seed: int, rounds: int = 100) -> tuple[Wiring, int]:
    """A random wiring with the same degrees and nearly the same lengths, and how many trades made it.

    (a -> i, b -> j) becomes (b -> i, a -> j) where that makes no self-connection and no double synapse, and
    where all four lengths fall into one bin of 2 cells. So every in- and out-degree and the histogram of
    lengths in these bins are kept exactly, and each neuron keeps its list of weights. A sender of one kind
    (neuron or input) may take the place of the other. In each of `rounds` rounds every synapse is offered one
    partner of its own bin, at random. Source: trades that keep degrees are the usual null (Maslov and Sneppen
    2002, Science 296); the condition on lengths is a choice of ours.
    """
    trading = _Trading.of(wiring, positions)
    random = np.random.default_rng(seed)
    done = sum(trading.round(random) for _ in range(rounds))
    return Wiring(torch.from_numpy(trading.sources).to(wiring.sources), wiring.weights), done


@dataclass
class _Trading:
    """The table of sources under way, the senders of each neuron, and the synapses (row, slot) with their bins."""

    sources: np.ndarray
    places: np.ndarray
    senders: list[set[int]]
    rows: np.ndarray
    slots: np.ndarray
    bins: np.ndarray

    @classmethod
    def of(cls, wiring: Wiring, positions: Tensor) -> _Trading:
        """The wiring before any trade."""
        sources, places = wiring.sources.cpu().numpy().copy(), positions.cpu().numpy()
        rows, slots = np.nonzero(sources >= 0)
        senders = [set(row[row >= 0].tolist()) for row in sources]
        return cls(sources, places, senders, rows, slots, _bins(places, sources[rows, slots], rows))

    def round(self, random: np.random.Generator) -> int:
        """Offer every synapse one partner of its bin; how many traded."""
        order = np.lexsort((random.permutation(len(self.rows)), self.bins))
        one, other = order[:-1:2], order[1::2]
        senders = self.sources[self.rows, self.slots]
        crossed = _bins(self.places, senders[other], self.rows[one]), _bins(self.places, senders[one], self.rows[other])
        same = self.bins[one] == self.bins[other]
        same &= (crossed[0] == self.bins[one]) & (crossed[1] == self.bins[one])
        return sum(self._trade(a, b) for a, b in zip(one[same].tolist(), other[same].tolist(), strict=True))

    def _trade(self, one: int, other: int) -> bool:
        """Trade the sources of two synapses unless that gives a self-connection or a double synapse."""
        (i, j), (s, t) = self.rows[[one, other]].tolist(), self.slots[[one, other]].tolist()
        a, b = int(self.sources[i, s]), int(self.sources[j, t])
        if a == b or i == b or j == a or b in self.senders[i] or a in self.senders[j]:
            return False
        self.sources[i, s], self.sources[j, t] = b, a
        self.senders[i] ^= {a, b}
        self.senders[j] ^= {a, b}
        return True


def _bins(places: np.ndarray, senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
    """Bin of the length of each synapse."""
    lengths = np.linalg.norm(places[senders] - places[receivers], axis=1)
    return np.asarray(lengths / BIN).astype(np.int64)
